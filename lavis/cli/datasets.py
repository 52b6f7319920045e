"""`sevila prepare` and `sevila check`: datasets converted to the package's schema, packed into shards, looked over."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import add_command, add_settings, checked_options, progress_bar, say
from lavis.common.errors import EXIT_FAILURE, ConfigError, counted

if TYPE_CHECKING:
    from sevila_data.prepare import PreparedSplit

DATA_VARIABLE = "SEVILA_DATA"
_SHARDS = "shards"
_NAMES = ", ".join(
    (
        *("nextqa", "star", "how2qa", "tvqa", "vlep", "qvh", "videomme", "longvideobench", "mlvu", "egoschema"),
        *("mvbench", "charades_sta", "tacos", "tvsum"),
    )
)
_SHOWN = 10
_MOST_WORKERS = 8
_PREPARE_EXAMPLES = """examples:
  sevila prepare nextqa --raw downloads/nextqa --out sevila_data
  sevila prepare custom --raw my_questions --videos my_videos --out my_data
  sevila prepare shards --dataset nextqa --out shards/nextqa
"""
_CHECK_EXAMPLES = """examples:
  sevila check nextqa
  sevila check vlep --splits val --out output/check/vlep
  sevila check custom --options datasets.custom.build_info.videos.storage=my_videos

The list is written to OUT/check.json and OUT/check.txt. A check that was stopped goes on where it was when it is
started again; videos that did not change are not read again. Exit code: 0 if all questions can be asked, 1 if not.
"""


def add_parser(subparsers: Any) -> None:
    """Add both subcommands to the main parser's."""
    parser = add_command(
        subparsers,
        "prepare",
        run_prepare,
        help="convert annotation files to the package's schema, or pack videos into shards",
        description="Convert every split found in a raw download to OUT/NAME/SPLIT.json.",
        examples=_PREPARE_EXAMPLES,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help=f"{_NAMES}, nextgqa, custom; or shards")
    add("--raw", type=Path, help="folder of the dataset's own annotation files")
    add("--out", type=Path, help=f"folder for the result (default: ${DATA_VARIABLE})")
    add("--videos", type=Path, help="folder of videos (custom only; default: RAW/videos or RAW)")
    add("--skip-bad", action="store_true", help="leave out rows that cannot be used, and count them")
    add("--force", action="store_true", help="overwrite files that were prepared before")
    group = parser.add_argument_group("for shards")
    group.add_argument("--dataset", metavar="NAME", help="the dataset, prepared before; --out is the folder of shards")
    _add_dataset_options(group)
    group.add_argument("--shard-mib", type=int, default=512, metavar="N", help="size of a shard (default: 512)")

    parser = add_command(
        subparsers,
        "check",
        run_check,
        help="find missing, unreadable, too short and doubled videos",
        description="Open every video that a dataset's questions are about, and list those that cannot be used.",
        examples=_CHECK_EXAMPLES,
    )
    add = parser.add_argument
    add("name", metavar="DATASET", help=f"{_NAMES} or custom")
    _add_dataset_options(parser)
    add("--out", type=Path, help="folder for the list (default: output/check/DATASET)")
    add("--frames", type=int, default=1, metavar="N", help="frames to decode of each video (default: 1)")
    add(
        "--workers", type=int, metavar="N", help="processes that read videos; 0 reads in this one (default: one a core)"
    )
    add("--skip-bad", action="store_true", help="count rows that are no questions, and go on")


def _add_dataset_options(parser: Any) -> None:
    """Add where a dataset is and which of its splits are meant, to a parser or a group of one."""
    parser.add_argument("--cfg", type=Path, metavar="YAML", help="a recipe that says where the dataset is")
    add_settings(parser, "settings over the recipe's")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: every split that is there")


def run_prepare(args: argparse.Namespace) -> int:
    """Prepare a dataset, or write shards of one, and say what was written."""
    if args.name == _SHARDS:
        return _write_shards(args)
    from sevila_data.prepare import prepare

    if args.raw is None:
        raise ConfigError(f"no folder of {args.name}'s own annotation files; pass --raw DIR")

    out = args.out or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if out is None:
        raise ConfigError(f"no output folder; pass --out DIR or set {DATA_VARIABLE}")
    prepared = prepare(args.name, raw=args.raw, out=out, videos=args.videos, skip_bad=args.skip_bad, force=args.force)
    for split in prepared:
        _print_split(args.name, split)
    if args.name == "custom":
        _print_use(prepared, raw=args.raw, videos=args.videos)
    return 0


def _print_use(prepared: "list[PreparedSplit]", *, raw: Path, videos: Path | None) -> None:
    from sevila_data.custom import videos_folder

    places = {"videos": videos_folder(raw, videos), **{f"annotations.{split.name}": split.path for split in prepared}}
    settings = [f"datasets.custom.build_info.{key}.storage={place}" for key, place in places.items()]
    say(f"to use them: --options {shlex.join(settings)}")


def _print_split(name: str, split: "PreparedSplit") -> None:
    asked = f"{counted(len(split.rows), 'question')} about {counted(split.num_videos, 'video')}"
    say(f"{name} {split.name}: {asked} -> {split.path}")
    types = ", ".join(f"{kind or 'no type'} {count}" for kind, count in sorted(split.questions_by_type.items()))
    say(f"  types: {types}")
    for note, count in split.notes.items():
        say(f"  {count} x {note}")
    if split.dropped:
        say(f"  dropped: {counted(len(split.dropped), 'row')}")
        for problem in split.dropped[:_SHOWN]:
            say(f"    {problem}")
        if len(split.dropped) > _SHOWN:
            say(f"    and {len(split.dropped) - _SHOWN} more")


def _write_shards(args: argparse.Namespace) -> int:
    """Write shards and say how to use them."""
    from lavis.datasets.builder import load_dataset_config, read_splits, storage_of
    from lavis.datasets.records import read_records
    from lavis.datasets.shards import read_index, write_shards

    if args.dataset is None or args.out is None:
        raise ConfigError("shards need --dataset NAME and --out DIR; see: sevila prepare --help")
    if args.shard_mib < 1:
        raise ConfigError(f"--shard-mib is {args.shard_mib}; it must be 1 or more")
    config = load_dataset_config(args.dataset, recipe=args.cfg, options=checked_options(args.options))
    splits = read_splits(args.dataset, config, splits=args.splits)
    videos = storage_of(args.dataset, config)
    records = {split: read_records(annotations.path) for split, annotations in splits.items()}
    problems = write_shards(args.out, records, videos, max_bytes=args.shard_mib << 20, skip_missing=args.skip_bad)
    stored = read_index(args.out)
    for split, annotations in splits.items():
        count = len({entry.file for entry in stored if entry.split == split})
        say(f"{args.dataset} {split}: {counted(len(annotations), 'question')} in {counted(count, 'shard')}")
        if problems[split]:
            say(f"  missing videos: {len(problems[split])}, the first: {problems[split][0]}")
    place = f"datasets.{args.dataset}.build_info"
    say(f"to use them: --options {place}.videos.storage={args.out}", end="")
    say("".join(f" {place}.annotations.{split}.storage={args.out / split}.json" for split in splits))
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Check, write the list, and print the summary."""
    from lavis.common.files import write_text
    from lavis.datasets.builder import load_dataset_config, read_splits, storage_of
    from lavis.datasets.checking import DatasetCheck
    from lavis.export.records import to_json

    if args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; it must be 1 or more")
    if args.workers is not None and args.workers < 0:
        raise ConfigError(f"--workers is {args.workers}; it must be 0 or more")
    config = load_dataset_config(args.name, recipe=args.cfg, options=checked_options(args.options))
    splits = read_splits(args.name, config, splits=args.splits, skip_bad=args.skip_bad)
    folder = args.out or Path("output", "check", args.name)
    videos = config.build_info.videos
    with progress_bar("finding videos") as update:
        check = DatasetCheck(
            storage_of(args.name, config),
            folder=folder,
            reader=videos.reader,
            fps=videos.fps,
            num_frames=args.frames,
            num_workers=min(_MOST_WORKERS, os.cpu_count() or 1) if args.workers is None else args.workers,
            progress=lambda what, done, total: update(done, total, what),
        )
        report = check.run(args.name, splits)
    write_text(folder / "check.json", to_json(report.as_dict()) + "\n")
    write_text(folder / "check.txt", report.as_text())
    say(report.as_text(most=_SHOWN), end="")
    say(f"\nthe whole list is in {folder / 'check.txt'} and {folder / 'check.json'}")
    return EXIT_FAILURE if report.num_lost else 0

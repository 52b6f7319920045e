"""`sevila prepare`: a benchmark's own annotation files, or your own questions, to the package's schema.

`sevila prepare shards`: videos and questions of a prepared dataset, packed into tar files.
"""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.check import add_dataset_options
from lavis.cli.options import checked_options
from lavis.cli.show import say
from lavis.common.errors import ConfigError

if TYPE_CHECKING:
    from sevila_data.prepare import PreparedSplit

DATA_VARIABLE = "SEVILA_DATA"
_SHARDS = "shards"
_DROPPED_SHOWN = 10
_EXAMPLES = """examples:
  sevila prepare nextqa --raw downloads/nextqa --out sevila_data
  sevila prepare custom --raw my_questions --videos my_videos --out my_data
  sevila prepare shards --dataset nextqa --out shards/nextqa
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "prepare",
        help="convert annotation files to the package's schema, or pack videos into shards",
        description="Convert every split found in a raw download to OUT/NAME/SPLIT.json.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", metavar="NAME", help="nextqa, nextgqa, star, how2qa, tvqa, vlep, qvh, custom; or shards"
    )
    parser.add_argument("--raw", type=Path, help="folder of the dataset's own annotation files")
    parser.add_argument("--out", type=Path, help=f"folder for the result (default: ${DATA_VARIABLE})")
    parser.add_argument("--videos", type=Path, help="folder of videos (custom only; default: RAW/videos or RAW)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and count them")
    parser.add_argument("--force", action="store_true", help="overwrite files that were prepared before")
    group = parser.add_argument_group("for shards")
    group.add_argument("--dataset", metavar="NAME", help="the dataset, prepared before; --out is the folder of shards")
    add_dataset_options(group)
    group.add_argument("--shard-mib", type=int, default=512, metavar="N", help="size of a shard (default: 512)")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Prepare and say what was written.

    Raises:
        UserError: see `sevila_data.prepare.prepare`.
        ConfigError: no raw or output folder is given.
    """
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
    say(f"{name} {split.name}: {len(split.rows)} questions about {split.num_videos} videos -> {split.path}")
    types = ", ".join(f"{kind or 'no type'} {count}" for kind, count in sorted(split.questions_by_type.items()))
    say(f"  types: {types}")
    for note, count in split.notes.items():
        say(f"  {count} x {note}")
    if split.dropped:
        say(f"  dropped: {len(split.dropped)} rows")
        for problem in split.dropped[:_DROPPED_SHOWN]:
            say(f"    {problem}")
        if len(split.dropped) > _DROPPED_SHOWN:
            say(f"    and {len(split.dropped) - _DROPPED_SHOWN} more")


def _write_shards(args: argparse.Namespace) -> int:
    """Write shards and say how to use them.

    Raises:
        UserError: see `lavis.datasets.builder` and `lavis.datasets.shards.ShardWriter`.
    """
    from lavis.datasets.builder import load_dataset_config, read_splits, storage_of
    from lavis.datasets.records import read_records
    from lavis.datasets.shards import ShardWriter, read_index

    if args.dataset is None or args.out is None:
        raise ConfigError("shards need --dataset NAME and --out DIR; see: sevila prepare --help")
    if args.shard_mib < 1:
        raise ConfigError(f"--shard-mib is {args.shard_mib}; it must be 1 or more")
    config = load_dataset_config(args.dataset, recipe=args.cfg, options=checked_options(args.options))
    splits = read_splits(args.dataset, config, splits=args.splits)
    videos = storage_of(args.dataset, config)
    writer = ShardWriter(args.out, max_mib=args.shard_mib)
    problems = {
        split: writer.write_split(split, read_records(annotations.path), videos, skip_missing=args.skip_bad)
        for split, annotations in splits.items()
    }
    writer.close()
    stored = read_index(args.out)
    for split, annotations in splits.items():
        count = len({entry.file for entry in stored if entry.split == split})
        say(f"{args.dataset} {split}: {len(annotations)} questions in {count} shards")
        if problems[split]:
            say(f"  missing videos: {len(problems[split])}, the first: {problems[split][0]}")
    place = f"datasets.{args.dataset}.build_info"
    say(f"to use them: --options {place}.videos.storage={args.out}", end="")
    say("".join(f" {place}.annotations.{split}.storage={args.out / split}.json" for split in splits))
    return 0

"""`sevila prepare`: a benchmark's own annotation files, or your own questions, to the package's schema."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli import prepare_shards
from lavis.cli.show import say
from lavis.common.errors import ConfigError

if TYPE_CHECKING:
    from sevila_data.prepare import PreparedSplit

DATA_VARIABLE = "SEVILA_DATA"
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
    prepare_shards.add_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Prepare and say what was written.

    Raises:
        UserError: see `sevila_data.prepare.prepare`.
        ConfigError: no raw or output folder is given.
    """
    if args.name == prepare_shards.NAME:
        return prepare_shards.run(args)
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

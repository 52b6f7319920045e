"""`sevila check`: which videos of a dataset cannot be used, and how many questions that costs."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.options import checked_options
from lavis.cli.show import say
from lavis.common.errors import EXIT_FAILURE, ConfigError

if TYPE_CHECKING:
    from lavis.datasets.checking import Progress

_SHOWN = 10
_MOST_WORKERS = 8
_EXAMPLES = """examples:
  sevila check nextqa
  sevila check vlep --splits val --out output/check/vlep
  sevila check custom --options datasets.custom.build_info.videos.storage=my_videos

The list is written to OUT/check.json and OUT/check.txt. A check that was stopped goes on where it was when it is
started again; videos that did not change are not read again. Exit code: 0 if all questions can be asked, 1 if not.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="find missing, unreadable, too short and doubled videos",
        description="Open every video that a dataset's questions are about, and list those that cannot be used.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="DATASET", help="nextqa, star, how2qa, tvqa, vlep, qvh or custom")
    add_dataset_options(parser)
    parser.add_argument("--out", type=Path, help="folder for the list (default: output/check/DATASET)")
    parser.add_argument(
        "--frames", type=int, default=1, metavar="N", help="frames to decode of each video (default: 1)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read videos; 0 reads in this one (default: one a core)"
    )
    parser.add_argument("--skip-bad", action="store_true", help="count rows that are no questions, and go on")
    parser.set_defaults(run=run)
    return parser


def add_dataset_options(parser: Any) -> None:
    """Add where a dataset is and which of its splits are meant, to a parser or a group of one."""
    parser.add_argument("--cfg", type=Path, metavar="YAML", help="a recipe that says where the dataset is")
    parser.add_argument(
        "--options", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="settings over the recipe's"
    )
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: every split that is there")


def run(args: argparse.Namespace) -> int:
    """Check, write the list, and print the summary.

    Raises:
        UserError: see `lavis.datasets.builder.load_dataset_config` and `lavis.datasets.checking.DatasetCheck`.
    """
    from lavis.common.files import write_text
    from lavis.datasets.builder import load_dataset_config, read_splits, storage_of
    from lavis.datasets.checking import DatasetCheck
    from lavis.export import to_json

    if args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; it must be 1 or more")
    if args.workers is not None and args.workers < 0:
        raise ConfigError(f"--workers is {args.workers}; it must be 0 or more")
    config = load_dataset_config(args.name, recipe=args.cfg, options=checked_options(args.options))
    splits = read_splits(args.name, config, splits=args.splits, skip_bad=args.skip_bad)
    folder = args.out or Path("output", "check", args.name)
    videos = config.build_info.videos
    with _progress() as progress:
        check = DatasetCheck(
            storage_of(args.name, config),
            folder=folder,
            reader=videos.reader,
            fps=videos.fps,
            num_frames=args.frames,
            num_workers=min(_MOST_WORKERS, os.cpu_count() or 1) if args.workers is None else args.workers,
            progress=progress,
        )
        report = check.run(args.name, splits)
    write_text(folder / "check.json", to_json(report.as_dict()) + "\n")
    write_text(folder / "check.txt", report.as_text())
    say(report.as_text(most=_SHOWN), end="")
    say(f"\nthe whole list is in {folder / 'check.txt'} and {folder / 'check.json'}")
    return EXIT_FAILURE if report.num_lost else 0


@contextmanager
def _progress() -> Iterator["Progress"]:
    """Show a bar on a terminal, and leave nothing behind."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("finding videos", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)

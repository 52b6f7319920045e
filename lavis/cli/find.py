"""`sevila find`: the parts of a video that a sentence describes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.options import add_one_video_options
from lavis.common import defaults

if TYPE_CHECKING:
    from lavis.cli.one_video import Watched
    from lavis.common.types import Moments

_EXAMPLES = """examples:
  sevila find clip.mp4 "A man rides a bicycle"
  sevila find talk.mp4 "A slide with a diagram" --num-frames 75 --max-moments 3 --save found
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "find",
        help="find the moments of a video that a sentence describes",
        description="Score the frames of a video for a sentence, and join those that match to moments.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", metavar="VIDEO", type=Path, help="a video file, or a folder of frames")
    parser.add_argument("query", metavar="QUERY", help="what the moment shows")
    group = parser.add_argument_group("moments")
    group.add_argument(
        "--threshold",
        type=float,
        default=defaults.THRESHOLD,
        help="score from which a frame matches (default: %(default)s)",
    )
    group.add_argument(
        "--max-gap-frames",
        type=int,
        default=defaults.MAX_GAP_FRAMES,
        metavar="N",
        help="frames in a row that may miss the threshold within a moment (default: %(default)s, as published)",
    )
    group.add_argument(
        "--min-length", type=float, default=defaults.MIN_LENGTH_S, metavar="SECONDS", help="drop shorter moments"
    )
    group.add_argument(
        "--max-moments", type=int, default=defaults.MAX_MOMENTS, metavar="N", help="keep only the best (default: all)"
    )
    group.add_argument("--prompt", default=defaults.MOMENT_PROMPT, help="wording (default: %(default)s)")
    add_one_video_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Find, save and print.

    Raises:
        UserError: whatever is wrong with query, video, model or result folder; nothing is written then.
    """
    import lavis.processors.prompts  # noqa: F401  # declares the prompts
    from lavis.cli.one_video import check_watching, watch_video
    from lavis.common.registry import registry
    from lavis.common.types import Question
    from lavis.models.pipeline import check_question

    check_question(Question(text=args.query))
    registry.prompts.get(args.prompt)
    check_watching(args)
    watched = watch_video(args)
    found = watched.video.find(
        args.query,
        threshold=args.threshold,
        max_gap_frames=args.max_gap_frames,
        min_length_s=args.min_length,
        max_moments=args.max_moments,
        prompt=args.prompt,
    )
    saved = _save(args, found, watched) if args.save else []
    if args.json:
        _print_json(found, watched)
    else:
        _show(found, watched, folder=args.save, saved=saved)
    return 0


def _save(args: argparse.Namespace, found: "Moments", watched: "Watched") -> list[str]:
    from lavis.cli.one_video import moments_files
    from lavis.export import write_folder

    files = moments_files(found, watched)
    write_folder(args.save, files, force=args.force)
    return list(files)


def _print_json(found: "Moments", watched: "Watched") -> None:
    from lavis.export import moments_record, to_json

    video = watched.video.info
    print(to_json(moments_record(found, video=video, model=watched.model_name, timings_s=watched.timings_s)))


def _show(found: "Moments", watched: "Watched", *, folder: Path | None, saved: list[str]) -> None:
    from lavis.cli import one_video as show
    from lavis.cli.show import make_console

    console = make_console()
    video = watched.video
    show.show_video(console, video, model=watched.model_name)
    show.show_caveats(console, found.caveats)
    show.show_moments(console, found)
    show.show_timings(console, watched.timings_s)
    if folder is not None:
        show.show_saved(console, folder, saved)

"""`sevila find`: the parts of a video that a sentence describes."""

import argparse
from pathlib import Path
from typing import Any

from lavis.cli.options import add_command, add_one_video_options
from lavis.common import defaults

_EXAMPLES = """examples:
  sevila find clip.mp4 "A man rides a bicycle"
  sevila find talk.mp4 "A slide with a diagram" --num-frames 75 --max-moments 3 --save found
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "find",
        run,
        help="find the moments of a video that a sentence describes",
        description="Score the frames of a video for a sentence, and join those that match to moments.",
        examples=_EXAMPLES,
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
    return parser


def run(args: argparse.Namespace) -> int:
    """Find, save and print.

    Raises:
        UserError: whatever is wrong with query, video, model or result folder; nothing is written then.
    """
    from lavis.cli.one_video import check_watching, present, watch_video
    from lavis.common.registry import registry
    from lavis.common.types import Question
    from lavis.processors.prompts import check_question

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
    present(args, watched, [found], several=False)
    return 0

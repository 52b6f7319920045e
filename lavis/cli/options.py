"""Options that several subcommands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lavis.common.types import Span


def add_watch_options(parser: argparse.ArgumentParser) -> None:
    """Add which part of the video is watched, and how."""
    group = parser.add_argument_group("video")
    group.add_argument("--num-frames", type=int, default=32, metavar="T", help="frames to watch (default: 32)")
    group.add_argument("--clip", type=float, nargs=2, metavar=("START", "END"), help="watch only this part, in seconds")
    group.add_argument("--reader", default="pyav", help="video reader: pyav (default), decord or torchcodec")
    group.add_argument("--fps", type=float, help="frames per second, where VIDEO is a folder of frames")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add which model is loaded, where to and how."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default="tiny", metavar="SIZE|FOLDER", help="a size of `sevila models`, or a saved model"
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    group.add_argument("--dtype", help="fp32, bf16 or fp16 (default: bf16 on CUDA, fp32 on the CPU)")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where results go."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON and nothing else")
    group.add_argument("--save", type=Path, metavar="DIR", help="write the results, with pictures, to a new folder")
    group.add_argument("--force", action="store_true", help="let --save replace the results of an earlier run")


def clip_of(args: argparse.Namespace) -> "Span | None":
    """Return the part of the video to watch, or None for all of it."""
    from lavis.common.types import Span

    return Span(*args.clip) if args.clip else None

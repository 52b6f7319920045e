"""Options that several subcommands share."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.common import defaults
from lavis.common.errors import ConfigError

if TYPE_CHECKING:
    from lavis.common.types import Span
    from lavis.models.frame_cache import FrameCache


def add_one_video_options(parser: argparse.ArgumentParser) -> None:
    """Add all that is said of watching one video, and of where the results go."""
    _add_watch_options(parser)
    add_model_options(parser)
    add_speed_options(parser)
    _add_cache_options(parser)
    _add_output_options(parser)


def _add_watch_options(parser: argparse.ArgumentParser) -> None:
    """Add which part of the video is watched, and how."""
    group = parser.add_argument_group("video")
    group.add_argument(
        "--num-frames",
        type=int,
        default=defaults.NUM_FRAMES,
        metavar="T",
        help="frames to watch (default: %(default)s, or all there are)",
    )
    group.add_argument("--clip", type=float, nargs=2, metavar=("START", "END"), help="watch only this part, in seconds")
    group.add_argument(
        "--reader",
        default=defaults.VIDEO_READER,
        help="video reader: pyav, decord or torchcodec (default: %(default)s)",
    )
    group.add_argument("--fps", type=float, help="frames per second, where VIDEO is a folder of frames")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add which model is loaded, where to and how."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default=defaults.MODEL, metavar="SIZE|FOLDER", help="a size of `sevila models`, or a saved model"
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    group.add_argument("--dtype", help="fp32, bf16 or fp16 (default: bf16 on CUDA, fp32 on the CPU)")


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    """Add what trades exactness or a slow start for speed."""
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--quantize", metavar="BITS", help="int8 or int4 weights of vision tower and language model (extra quantize)"
    )
    group.add_argument("--compile", action="store_true", help="compile first; pays for many questions in one call")


def add_cache_place(parser: Any) -> None:
    """Add where the cache of watched videos lies."""
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="folder of the cache (default: SEVILA_CACHE, or ~/.cache/sevila/frames)",
    )


def _add_cache_options(parser: argparse.ArgumentParser) -> None:
    """Add where and how much is remembered of watched videos, unless it is not wanted.

    People ask one video several times, mostly one question per call, so it is on by default.
    """
    group = parser.add_argument_group("cache of watched videos")
    group.add_argument("--no-cache", dest="cache", action="store_false", help="remember nothing, recall nothing")
    _add_cache_size(group)


def add_cache_opt_in(parser: argparse.ArgumentParser) -> None:
    """Add where and how much is remembered of watched videos, if it is wanted.

    A benchmark watches each clip once per run, and is larger than the cache by default, which would then hold the
    clips that were watched last and none that come first: it is for who has room.
    """
    group = parser.add_argument_group("cache of watched videos")
    group.add_argument("--cache", action="store_true", help="keep watched clips for further runs, and recall them")
    _add_cache_size(group)


def _add_cache_size(group: Any) -> None:
    add_cache_place(group)
    group.add_argument(
        "--cache-size",
        type=float,
        default=defaults.CACHE_GIB,
        metavar="GIB",
        help="most it may take (default: %(default)s)",
    )


def cache_of(args: argparse.Namespace) -> "FrameCache | None":
    """Return the cache to use, or None.

    Raises:
        ConfigError: its folder is a file, or its size nothing.
    """
    from lavis.models.frame_cache import FrameCache

    if not args.cache:
        return None
    return FrameCache(args.cache_dir, max_bytes=int(args.cache_size * 2**30))


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where results go."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON and nothing else")
    group.add_argument("--save", type=Path, metavar="DIR", help="write the results, with pictures, to a new folder")
    group.add_argument("--force", action="store_true", help="let --save replace the results of an earlier run")


def clip_of(args: argparse.Namespace) -> "Span | None":
    """Return the part of the video to watch, or None for all of it."""
    from lavis.common.types import Span

    return Span(*args.clip) if args.clip else None


def checked_options(options: Sequence[str]) -> list[str]:
    """Return the options, each of the form key=value; as in LAVIS, "key value" pairs are understood too.

    Raises:
        ConfigError: one is neither.
    """
    if options and not any("=" in key or "." not in key for key in options[::2]) and len(options) % 2 == 0:
        return [f"{key}={value}" for key, value in zip(options[::2], options[1::2], strict=True)]
    for option in options:
        if not option.partition("=")[0] or "=" not in option:
            raise ConfigError(f"--options {option!r} is not of the form key=value, such as run.init_lr=3e-5")
    return list(options)

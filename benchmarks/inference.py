"""Answering questions about a video file, against the published procedure on the same weights."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.apart import Apart
from benchmarks.asking import OurSide, PublishedSide, Setting
from benchmarks.decoders import decoding_rate
from benchmarks.film import film
from benchmarks.found import PublishedFound, WayFound
from benchmarks.inference_report import figures_of, show, show_decoding
from benchmarks.least import Counter
from benchmarks.machine import set_threads
from benchmarks.options import DTYPES
from benchmarks.report import show_machine, write_figures
from benchmarks.ways import EXHAUSTIVE, PLAIN, WAYS, Way
from lavis.common.errors import ConfigError
from lavis.models.loading import usable_device
from lavis.models.quantize import QUANTIZATIONS, check_quantization

SUMMARY = "Seconds per question, against the published procedure on the same weights."
DECODERS = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of how many frames, and how."""
    parser.add_argument("--questions", type=int, default=8, help="questions about one video (default: 8)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames watched (default: 32)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames read (default: 4)")
    parser.add_argument("--video-seconds", type=int, default=40, help="length of the film (default: 40)")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, metavar="WAY", help=f"ours in several ways, of: {', '.join(WAYS)}"
    )
    group = parser.add_argument_group("ours in one way, with --dtype")
    group.add_argument("--selector", choices=(EXHAUSTIVE, "coarse_to_fine"), default=EXHAUSTIVE, help="who chooses")
    group.add_argument("--quantize", choices=QUANTIZATIONS, help="bits of vision tower and language model")
    group.add_argument("--compile", action="store_true", help="compile first")
    group = parser.add_argument_group("the published procedure")
    group.add_argument("--baseline-dtype", choices=DTYPES, default="fp32", help="precision (default: fp32)")
    group.add_argument(
        "--baseline-attention", choices=("eager", "sdpa"), default="eager", help="as published: eager (default)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    ways = ways_of(args)
    for way in ways:
        if way.quantize:
            check_quantization(way.quantize)
    device = usable_device(args.device)
    set_threads(args.threads)
    setting = setting_of(args)
    film(setting.video_seconds)  # made before several processes would make it
    show_machine(device)
    with closing(Apart(Counter, setting)) as counter:
        least = counter.call("count")
    published, found = _measure(args, setting, ways)
    rate = decoding_rate(setting.video_seconds, num_frames=setting.num_frames, workers=DECODERS)
    figures = figures_of(published, found, least, device=device)
    show(figures)
    show_decoding(figures, num_frames=setting.num_frames, decoding_rate=rate, workers=DECODERS)
    options = {name: value for name, value in vars(args).items() if name not in ("run", "json", "profile")}
    decoding = {"workers": DECODERS, "frames_per_s": rate}
    write_figures(args.json, {"options": options, **figures, "decoding": decoding}, device=device)


def ways_of(args: argparse.Namespace) -> list[Way]:
    """Return the ways that were named, or the one that is described.

    Raises:
        ConfigError: both are given.
    """
    described = Way(args.dtype, selector=args.selector, quantize=args.quantize, compiled=args.compile)
    if not args.ways:
        return [described]
    if described != PLAIN:
        raise ConfigError(f"--ways names whole ways; leave out what describes {described.name!r}, or --ways")
    return [WAYS[name] for name in dict.fromkeys(args.ways)]


def setting_of(args: argparse.Namespace) -> Setting:
    """Return what both sides are asked."""
    return Setting(
        size=args.size,
        device=args.device,
        threads=args.threads,
        video_seconds=args.video_seconds,
        num_questions=args.questions,
        num_frames=args.num_frames,
        num_keyframes=args.num_keyframes,
    )


def _measure(args: argparse.Namespace, setting: Setting, ways: Sequence[Way]) -> tuple[PublishedFound, list[WayFound]]:
    """Run all sides by turns, each in a process of its own."""
    with ExitStack() as stack:

        def apart(*made: Any) -> Apart:
            return stack.enter_context(closing(Apart(*made)))

        published = PublishedFound(apart(PublishedSide, setting, args.baseline_dtype, args.baseline_attention))
        found = [WayFound(apart(OurSide, setting, way), way, setting.num_questions) for way in ways]
        sides: list[PublishedFound | WayFound] = [published, *found]
        for turn in range(args.repeats):
            first = turn % len(sides)
            for side in sides[first:] + sides[:first]:
                side.take()
        for one in found:
            one.finish()
            if args.profile:
                trace = args.profile.with_stem(f"{args.profile.stem}-{one.way.name}")
                one.side.call("profile", trace)
                print(f"trace: {trace}")
    return published, found

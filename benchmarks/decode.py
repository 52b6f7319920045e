"""Decoding sampled frames of a film, against the fastest of the other readers on the same machine."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.decoders import read_frames
from benchmarks.film import film
from benchmarks.measure import Measured, by_turns, profiled, set_threads
from benchmarks.report import seconds, show_machine, show_table, write_figures
from lavis.common.errors import UserError
from lavis.common.registry import registry

SUMMARY = "Seconds to decode sampled frames with each installed reader."
BASELINE = "pyav"
READERS = (BASELINE, "decord", "torchcodec")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is decoded."""
    parser.add_argument("--video-seconds", type=int, nargs="+", default=[40, 600], help="lengths of the films")
    parser.add_argument("--num-frames", type=int, default=32, help="frames sampled (default: 32)")
    parser.add_argument("--image-size", type=int, default=224, help="side of the pictures (default: 224)")


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    set_threads(args.threads)
    device = torch.device("cpu")
    figures = {}
    show_machine(device)
    for length in args.video_seconds:
        readers = _readers(film(length), num_frames=args.num_frames, size=args.image_size)
        results = by_turns(readers, repeats=args.repeats, device=device)
        figures[f"{length} s"] = {name: measured.figures() for name, measured in results.items()}
        print(f"\n{args.num_frames} frames of {length} s of film")
        _show(results, num_frames=args.num_frames)
    write_figures(args.json, {"films": figures}, device=device)
    if args.profile:
        with profiled(args.profile):
            read_frames(film(args.video_seconds[0]), BASELINE, num_frames=args.num_frames, size=args.image_size)


def _readers(path: Path, *, num_frames: int, size: int) -> dict[str, Callable[[], None]]:
    return {name: partial(read_frames, path, name, num_frames=num_frames, size=size) for name in _loadable()}


def _loadable() -> Iterator[str]:
    """Yield the readers of files that are installed and can be loaded; say why others cannot."""
    for name in READERS:
        try:
            registry.video_readers.get(name)
        except UserError as error:
            print(f"{name} is left out: {error}")
        else:
            yield name


def _show(results: dict[str, Measured], *, num_frames: int) -> None:
    others = [measured.median_s for name, measured in results.items() if name != BASELINE]
    fastest = min(others, default=results[BASELINE].median_s)
    rows = [
        [
            name,
            seconds(measured.median_s),
            f"±{measured.spread:.0%}",
            f"{measured.median_s / fastest:.2f}×",
            seconds(measured.median_s / num_frames),
            seconds(measured.median_cpu_s),
            f"{measured.peak_bytes / 2**20:.0f} MiB",
        ]
        for name, measured in results.items()
    ]
    show_table(["reader", "median", "spread", "to the fastest other", "per frame", "CPU time", "peak"], rows)

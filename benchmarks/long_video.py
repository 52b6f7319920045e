"""Time and memory as videos get longer: one frame a second, watched, asked and searched."""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.film import film
from benchmarks.fixtures import model_of, questions
from benchmarks.measure import peak_bytes, profiled, reset_peak, set_threads
from benchmarks.report import seconds, show_machine, show_table, write_figures
from lavis.models.machine import usable_device

SUMMARY = "Time and peak memory of videos of growing length, at a steady number of frames a second."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how long the films are."""
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 5, 20, 60], help="lengths of the films")
    parser.add_argument("--frames-per-second", type=float, default=1.0, help="frames watched a second (default: 1)")


@dataclass(frozen=True)
class Length:
    """What a film of one length cost.

    Attributes:
        idle_bytes: resident memory of the process with the model loaded, before any film.
        peak_bytes: the most it was.
    """

    minutes: int
    num_frames: int
    decode_s: float
    watch_s: float
    find_s: float
    ask_s: float
    idle_bytes: int
    peak_bytes: int

    @property
    def total_s(self) -> float:
        """Decoding, watching, one search and one question."""
        return self.decode_s + self.watch_s + self.find_s + self.ask_s


def run(args: argparse.Namespace) -> None:
    """Measure each length in a process of its own, show and write down."""
    set_threads(args.threads)
    device = usable_device(args.device)
    show_machine(device)
    lengths = [_in_new_process(args, minutes, profile=None) for minutes in args.minutes]
    if args.profile:
        _in_new_process(args, args.minutes[0], profile=args.profile)
    _show(lengths)
    write_figures(args.json, {"lengths": [asdict(length) for length in lengths]}, device=device)


def _in_new_process(args: argparse.Namespace, minutes: int, *, profile: Path | None) -> Length:
    """Measure in a new process, whose memory no earlier film has grown."""
    path = film(60 * minutes)
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        options = (args.size, args.dtype, args.device, args.threads, args.frames_per_second)
        return pool.submit(measure_length, path, minutes, *options, profile=profile).result()


def measure_length(
    path: Path,
    minutes: int,
    size: str,
    dtype: str,
    device_name: str,
    threads: int | None,
    frames_per_second: float,
    *,
    profile: Path | None = None,
) -> Length:
    """Watch a film, search it and ask one question."""
    set_threads(threads)
    device = torch.device(device_name)
    model = model_of(size, dtype=dtype, device=device)
    question = questions(1, size=size)[0]
    reset_peak(device)
    idle = peak_bytes(device)
    with profiled(profile):
        watched = model.watch(path, num_frames=round(60 * minutes * frames_per_second))
        find_s = _clock(lambda: watched.find(question.text))
        ask_s = _clock(lambda: watched.ask_all([question]))
    return Length(
        minutes=minutes,
        num_frames=len(watched.times_s),
        decode_s=watched.timings.decode_s,
        watch_s=watched.timings.watch_s,
        find_s=find_s,
        ask_s=ask_s,
        idle_bytes=idle,
        peak_bytes=peak_bytes(device),
    )


def _clock(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _show(lengths: list[Length]) -> None:
    first = lengths[0]
    rows = [
        [
            f"{length.minutes} min",
            str(length.num_frames),
            seconds(length.decode_s),
            seconds(length.watch_s),
            seconds(length.find_s),
            seconds(length.ask_s),
            seconds(length.total_s / length.num_frames),
            f"{length.peak_bytes / 2**20:.0f} MiB",
            f"{length.peak_bytes / first.peak_bytes:.2f}×",
        ]
        for length in lengths
    ]
    headings = ["film", "frames", "decode", "watch", "find", "ask", "per frame", "peak", "to the shortest"]
    show_table(headings, rows)
    print(f"memory before the film: {first.idle_bytes / 2**20:.0f} MiB")

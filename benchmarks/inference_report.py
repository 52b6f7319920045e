"""The figures of the inference benchmark, and the tables that show them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.asking import Asked
from benchmarks.floor import Floor
from benchmarks.found import PublishedFound, WayFound
from benchmarks.least import LeastWork
from benchmarks.measure import Measured
from benchmarks.published import PublishedAnswer
from benchmarks.report import seconds, show_table
from lavis.common.types import Floats
from lavis.models.pipeline import Timings

PARTS = ("decode", "watch", "localize", "answer")
Figures = dict[str, Any]


def figures_of(
    published: PublishedFound, ways: Sequence[WayFound], least: LeastWork, *, device: torch.device
) -> Figures:
    """Put together what goes into the JSON file; all else is shown from it."""
    baseline = published.measured
    _, answer = baseline.last
    return {
        "published": {**baseline.figures(), "parts_s": _seconds_of(answer.timings)},
        "ways": {found.way.name: _way(found, published, least, device) for found in ways},
    }


def _way(found: WayFound, published: PublishedFound, least: LeastWork, device: torch.device) -> Figures:
    rate = found.rate_flops / found.rate.median_spent_s(device)
    last = [measured.last for measured in found.asked.values()][-1]
    return {
        **asdict(found.way),
        "matrix_rate_gflops": rate / 1e9,
        "weight_mib": found.weight_bytes / 2**20,
        "first_run_s": found.warm_up.median_s,
        "compiled_again": found.compiled_again,
        "scored": last.scored,
        "agreement": agreement(last, published.answers),
        "runs": {
            str(count): _run(measured, count, published.measured, least.floor(measured.last), rate, device)
            for count, measured in found.asked.items()
        },
    }


def _run(
    measured: Measured, count: int, baseline: Measured, floor: Floor, rate: float, device: torch.device
) -> Figures:
    taken = _seconds_of(measured.last.timings)
    flops = asdict(floor)
    return {
        **measured.figures(),
        "ratio": baseline.median_s / measured.median_s * count,
        "ratio_cpu": baseline.median_cpu_s / measured.median_cpu_s * count,
        "share_of_floor": floor.total / rate / measured.median_spent_s(device),
        "parts_s": taken,
        "gflop": {part: work / 1e9 for part, work in flops.items()},
        "parts_share_of_floor": {part: work / rate / taken[part] for part, work in flops.items()},
    }


def agreement(asked: Asked, published: Mapping[int, PublishedAnswer]) -> Figures:
    """Compare with what the published procedure has answered, over the frames that were scored."""
    pairs = [(asked.answers[number], theirs) for number, theirs in published.items()]
    return {
        "compared": len(pairs),
        "same_answer": sum(ours.index == theirs.index for ours, theirs in pairs),
        "same_frames": sum(np.array_equal(ours.keyframes.positions, theirs.positions) for ours, theirs in pairs),
        "worst_frame_score_error": _worst([(a.keyframes.all_scores, b.scores) for a, b in pairs]),
        "worst_option_score_error": _worst([(a.option_scores, b.option_scores) for a, b in pairs]),
    }


def _worst(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    return max((float(np.nanmax(np.abs(ours - theirs))) for ours, theirs in pairs), default=0.0)


def _seconds_of(timings: Timings) -> dict[str, float]:
    return {part: getattr(timings, f"{part}_s") for part in PARTS}


def show(figures: Figures) -> None:
    """Print how long it takes, in which parts, and how answers agree."""
    runs = list(_runs(figures))
    print("\nper question:")
    headings = ["", "questions", "median", "spread", "ratio", "CPU time", "ratio in CPU time", "of the floor", "peak"]
    first = _time_row("published", 1, {**figures["published"], "ratio": 1, "ratio_cpu": 1, "share_of_floor": None})
    show_table(headings, [first, *(_time_row(*run) for run in runs)])
    print("\ntime spent in the last round, all questions together:")
    shares = [heading for part in PARTS[1:] for heading in (part, "of the floor")]
    first = _parts_row("published", 1, {**figures["published"], "parts_share_of_floor": {}})
    show_table(["", "questions", PARTS[0], *shares], [first, *(_parts_row(*run) for run in runs)])
    print("\nbeside the published answers:")
    headings = ["", "matrix rate", "weights", "first run", "all to one", "frames scored", "same answers", "same frames"]
    rows = [_way_row(name, way) for name, way in figures["ways"].items()]
    show_table([*headings, "a frame's score off by", "an option's"], rows)
    for name, way in figures["ways"].items():
        if way["compiled"]:
            print(f"{name}: {way['compiled_again']} pieces were compiled after the first run")


def _runs(figures: Figures) -> Iterator[tuple[str, int, Figures]]:
    """Go over what was asked in each way."""
    for name, way in figures["ways"].items():
        for count, run in way["runs"].items():
            yield name, int(count), run


def _time_row(name: str, count: int, run: Figures) -> list[str]:
    return [
        name,
        str(count),
        seconds(run["median_s"] / count),
        f"±{run['spread']:.0%}",
        f"{run['ratio']:.2f}×",
        seconds(run["median_cpu_s"] / count),
        f"{run['ratio_cpu']:.2f}×",
        _share(run["share_of_floor"]),
        f"{run['peak_mib']:.0f} MiB",
    ]


def _parts_row(name: str, count: int, run: Figures) -> list[str]:
    taken, shares = run["parts_s"], run["parts_share_of_floor"]
    cells = [cell for part in PARTS[1:] for cell in (seconds(taken[part]), _share(shares.get(part)))]
    return [name, str(count), seconds(taken[PARTS[0]]), *cells]


def _way_row(name: str, way: Figures) -> list[str]:
    found, runs = way["agreement"], list(way["runs"].values())
    return [
        name,
        f"{way['matrix_rate_gflops']:.0f} GFLOP/s",
        f"{way['weight_mib']:.0f} MiB",
        seconds(way["first_run_s"]),
        f"{runs[-1]['median_s'] / runs[0]['median_s']:.2f}×",
        f"{way['scored']:.0%}",
        f"{found['same_answer']} of {found['compared']}",
        f"{found['same_frames']} of {found['compared']}",
        f"{found['worst_frame_score_error']:.2g}",
        f"{found['worst_option_score_error']:.2g}",
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def show_decoding(figures: Figures, *, num_frames: int, decoding_rate: float, workers: int) -> None:
    """Print whether worker processes decode as fast as each way takes frames."""
    print(f"\n{workers} processes decode {decoding_rate:.3g} frames/s of this film;")
    for name, count, run in _runs(figures):
        rate = model_rate(run, num_frames=num_frames)
        asked = "1 question" if count == 1 else f"{count} questions"
        print(f"{name} with {asked} a video takes {rate:.3g} frames/s: {compared(decoding_rate, rate)}")


def model_rate(run: Figures, *, num_frames: int) -> float:
    """Return how many frames a second the model takes, on the clock, if decoding cost nothing."""
    taken = run["parts_s"]
    decoding = taken["decode"] / sum(taken.values())
    return num_frames / (run["median_s"] * (1 - decoding))


def compared(decoding: float, model: float) -> str:
    """Word which of two rates is the lower one, and by how much."""
    if decoding < model:
        return f"decoding is the slowest stage, by {model / decoding:.1f}×"
    return f"decoding is not the slowest stage, {decoding / model:.1f}× as fast"

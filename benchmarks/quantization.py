"""Memory, speed and scores of weights of lower precision, against the same weights in fp32."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from benchmarks.film import film
from benchmarks.inference_side import Asked, OurSide, Setting, setting_of
from benchmarks.measure import Measured, set_threads
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.subprocess_worker import SubprocessWorker
from benchmarks.variants import PLAIN, VARIANTS
from lavis.models.machine import usable_device
from lavis.models.precision import check_quantization

SUMMARY = "Memory, speed and scores of weights of 16, 8 and 4 bits, beside those of fp32."
COMPARED = ("bf16", "fp32+int8", "bf16+int8", "bf16+int4")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how much is asked; few frames show what many would."""
    parser.add_argument("--weights", nargs="+", choices=COMPARED, default=COMPARED, help="what is compared with fp32")
    parser.add_argument("--questions", type=int, default=2, help="questions about one video (default: 2)")
    parser.add_argument("--num-frames", type=int, default=8, help="frames watched (default: 8)")
    parser.add_argument("--num-keyframes", type=int, default=2, help="frames read (default: 2)")
    parser.add_argument("--video-seconds", type=int, default=40, help="length of the film (default: 40)")


def run(args: argparse.Namespace) -> None:
    """Measure each kind of weights in a process of its own, show and write down."""
    for name in args.weights:
        if quantize := VARIANTS[name].quantize:
            check_quantization(quantize)
    set_threads(args.threads)
    device = usable_device(args.device)
    setting = setting_of(args)
    film(setting.video_seconds)  # before its making counts as someone's time
    show_machine(device)
    results = {name: _measure(setting, name, repeats=args.repeats) for name in (PLAIN.name, *args.weights)}
    plain, _ = results[PLAIN.name]
    figures = {name: _figures(measured, plain, weight_bytes) for name, (measured, weight_bytes) in results.items()}
    _show(figures, count=args.questions)
    write_figures(args.json, {"questions": args.questions, "weights": figures}, device=device)


def _measure(setting: Setting, name: str, *, repeats: int) -> tuple[Measured, int]:
    """Ask one variant; the processes come one after the other, since together they may not fit."""
    with closing(SubprocessWorker(OurSide, setting, VARIANTS[name])) as side:
        side.call("warm_up")
        measured = Measured()
        for _ in range(repeats):
            measured.include(side.call("ask", setting.num_questions))
        return measured, side.call("weight_bytes")


def _figures(measured: Measured, plain: Measured, weight_bytes: int) -> dict[str, Any]:
    timings = measured.last.timings
    return {
        **measured.figures(),
        "weight_mib": weight_bytes / 2**20,
        "ratio_cpu": plain.median_cpu_s / measured.median_cpu_s,
        "parts_s": {part: getattr(timings, f"{part}_s") for part in ("watch", "localize", "answer")},
        **compared(measured.last, plain.last),
    }


def compared(ours: Asked, plain: Asked) -> dict[str, float]:
    """Return how frame scores, choices of frames and answers agree with those of the plain weights."""
    pairs = list(zip(ours.answers, plain.answers, strict=True))
    scores, exact = (np.stack([answer.keyframes.all_scores for answer in side.answers]) for side in (ours, plain))
    # About the mean of each question, since only frames of one question compete.
    centred = [rows - rows.mean(1, keepdims=True) for rows in (scores, exact)]
    return {
        "correlation": float(np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1]),
        "worst_difference": float(np.abs(scores - exact).max()),
        "mean_difference": float(np.abs(scores - exact).mean()),
        "same_frames": float(np.mean([np.array_equal(a.keyframes.positions, b.keyframes.positions) for a, b in pairs])),
        "same_answers": float(np.mean([a.index == b.index for a, b in pairs])),
    }


def _show(figures: dict[str, dict[str, Any]], *, count: int) -> None:
    rows = [[name, *_cells(row, count)] for name, row in figures.items()]
    headings = ["", "weights", "peak", "CPU time per question", "speed-up", "watch", "localize", "answer"]
    scores = ["correlation of scores", "mean difference", "worst"]
    show_table([*headings, *scores, "same frames", "same answers"], rows)


def _cells(row: dict[str, Any], count: int) -> Sequence[str]:
    return [
        f"{row['weight_mib']:.0f} MiB",
        f"{row['peak_mib']:.0f} MiB",
        seconds(row["median_cpu_s"] / count),
        f"{row['ratio_cpu']:.2f}×",
        *(seconds(row["parts_s"][part]) for part in ("watch", "localize", "answer")),
        f"{row['correlation']:.4f}",
        f"{row['mean_difference']:.2g}",
        f"{row['worst_difference']:.2g}",
        f"{row['same_frames']:.0%}",
        f"{row['same_answers']:.0%}",
    ]

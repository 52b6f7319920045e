"""Answering questions about a video file, against the published procedure on the same weights."""

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.film import film
from benchmarks.floor import Floor, least_work
from benchmarks.machine import MatrixRate, set_threads
from benchmarks.measure import Measured, PartTimings, Work, by_turns, profiled
from benchmarks.published import PublishedAnswer, PublishedProcedure
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.subjects import as_published, model_of, questions
from lavis.common.types import Answer
from lavis.models.loading import usable_device
from lavis.models.pipeline import Timings
from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import SeViLA

SUMMARY = "Seconds per question, against the published procedure on the same weights."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of how many frames."""
    parser.add_argument("--questions", type=int, default=8, help="questions about one video (default: 8)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames watched (default: 32)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames read (default: 4)")
    parser.add_argument("--video-seconds", type=int, default=40, help="length of the film (default: 40)")
    parser.add_argument(
        "--baseline-dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="precision of the baseline"
    )
    parser.add_argument(
        "--baseline-attention", choices=("eager", "sdpa"), default="eager", help="as published: eager (default)"
    )


@dataclass(frozen=True)
class Asked:
    """Answers of one run of our side, and the time spent in its parts."""

    answers: list[Answer]
    timings: Timings


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    set_threads(args.threads)
    device = usable_device(args.device)
    subject = Subject(args, device)
    candidates: dict[str, Work] = {
        "matrix rate": subject.rate,
        "published": subject.ask_published,
        "one question": lambda: subject.ask(1),
        "all questions": lambda: subject.ask(args.questions),
    }
    warmup: dict[str, Work] = {"matrix rate": subject.rate, "ours": subject.warm_up}
    found = by_turns(candidates, repeats=args.repeats, device=device, warmup=warmup)
    results = subject.results(found)
    show_machine(device)
    _show(results, found, args)
    write_figures(args.json, {"options": _plain(args), **results}, device=device)
    if args.profile:
        with profiled(args.profile):
            subject.ask(args.questions)
        print(f"trace: {args.profile}")


class Subject:
    """Both sides with the same weights, one film and the questions about it."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self._args = args
        self._video = film(args.video_seconds)
        self.questions = questions(args.questions, size=args.size)
        # Both precisions are rounded from the same weights.
        self.model = model_of(args.size, dtype="fp32", device=device)
        baseline = as_published(self.model, attention=args.baseline_attention)
        set_precision(self.model, args.dtype)
        set_precision(baseline, args.baseline_dtype)
        self._published = PublishedProcedure(
            baseline,
            video=self._video,
            batch=self.questions,
            num_frames=args.num_frames,
            num_keyframes=args.num_keyframes,
        )
        self._turns = itertools.cycle(range(args.questions))
        self.published_answers: dict[int, PublishedAnswer] = {}
        self.rate = MatrixRate(device=device, dtype=_matrix_dtype(self.model))

    def warm_up(self) -> None:
        """Run every part of our side once, on few frames."""
        self.model.watch(self._video, num_frames=4).ask_all(self.questions[:1], num_keyframes=1)

    def ask_published(self) -> PublishedAnswer:
        """Answer the next question as published; all cost the same."""
        number = next(self._turns)
        self.published_answers[number] = self._published(number, self.questions[number])
        return self.published_answers[number]

    def ask(self, count: int) -> Asked:
        """Watch the film and ask the first questions."""
        timings = PartTimings(self.model.device)
        watched = self.model.watch(self._video, num_frames=self._args.num_frames, timings=timings)
        answers = watched.ask_all(self.questions[:count], num_keyframes=self._args.num_keyframes)
        return Asked(answers, timings)

    def floor(self, answers: list[Answer]) -> Floor:
        """Count the least work that these answers cost."""
        read = {int(position) for answer in answers for position in answer.keyframes.positions}
        return least_work(
            self.model,
            [answer.question for answer in answers],
            num_frames=self._args.num_frames,
            num_keyframes=self._args.num_keyframes,
            num_read=len(read),
        )

    def results(self, found: dict[str, Measured]) -> dict[str, Any]:
        """Put together what goes into the JSON file."""
        rate = self.rate.flops / found["matrix rate"].median_spent_s(self.model.device)
        one, every = found["one question"], found["all questions"]
        return {
            "candidates": {name: measured.figures() for name, measured in found.items()},
            "matrix_rate_gflops": rate / 1e9,
            "parts": {
                "published": _seconds_of(found["published"].last.timings),
                "one question": _parts(one.last, self.floor(one.last.answers), rate),
                "all questions": _parts(every.last, self.floor(every.last.answers), rate),
            },
            "agreement": self._agreement(every.last.answers),
        }

    def _agreement(self, answers: list[Answer]) -> dict[str, Any]:
        """Compare with what the baseline has answered so far."""
        pairs = [(answers[number], published) for number, published in self.published_answers.items()]
        return {
            "compared": len(pairs),
            "same_answer": sum(ours.index == theirs.index for ours, theirs in pairs),
            "same_frames": sum(np.array_equal(ours.keyframes.positions, theirs.positions) for ours, theirs in pairs),
            "worst_frame_score_error": _worst([(a.keyframes.all_scores, b.scores) for a, b in pairs]),
            "worst_option_score_error": _worst([(a.option_scores, b.option_scores) for a, b in pairs]),
        }


def _matrix_dtype(model: SeViLA) -> torch.dtype:
    """Return the precision most of the work is done in."""
    return next(model.vision.parameters()).dtype


def _seconds_of(timings: Timings) -> dict[str, float]:
    return {part: getattr(timings, f"{part}_s") for part in ("decode", "watch", "localize", "answer")}


def _parts(asked: Asked, floor: Floor, rate: float) -> dict[str, Any]:
    """Return seconds, operations and share of the machine's rate of each part."""
    taken = _seconds_of(asked.timings)
    parts: dict[str, Any] = {"decode": {"seconds": taken["decode"]}}
    for name in ("watch", "localize", "answer"):
        flops = getattr(floor, name)
        parts[name] = {
            "seconds": taken[name],
            "gflop": flops / 1e9,
            "share_of_floor": flops / rate / taken[name] if taken[name] else None,
        }
    parts["total_gflop"] = floor.total / 1e9
    parts["floor_s"] = floor.total / rate
    return parts


def _worst(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return max((float(np.abs(ours - theirs).max()) for ours, theirs in pairs), default=0.0)


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items() if name != "run"
    }


def _show(results: dict[str, Any], found: dict[str, Measured], args: argparse.Namespace) -> None:
    published, one, every = (found[name] for name in ("published", "one question", "all questions"))
    parts, count = results["parts"], args.questions
    device = torch.device(args.device)
    rows = [
        _row("published, each question", published, published, 1, ""),
        _row("ours, one question", one, published, 1, _share(parts["one question"], one, device)),
        _row(f"ours, each of {count}", every, published, count, _share(parts["all questions"], every, device)),
    ]
    headings = ["per question", "median", "spread", "ratio", "CPU time", "ratio in CPU time", "of the floor", "peak"]
    show_table(headings, rows)
    clock, processor = every.median_s / one.median_s, every.median_cpu_s / one.median_cpu_s
    print(f"{count} questions cost {clock:.2f} times one question ({processor:.2f} in CPU time)")
    print(f"matrix rate {results['matrix_rate_gflops']:.0f} GFLOP/s", "of CPU time" if device.type == "cpu" else "")
    _show_parts(parts)
    print("agreement with the published procedure:", results["agreement"])


def _share(parts: dict[str, Any], measured: Measured, device: torch.device) -> str:
    """Word the floor as a share of the time that was spent."""
    return f"{parts['floor_s'] / measured.median_spent_s(device):.0%}"


def _row(name: str, measured: Measured, baseline: Measured, count: int, share: str) -> list[str]:
    return [
        name,
        seconds(measured.median_s / count),
        f"±{measured.spread:.0%}",
        f"{baseline.median_s / measured.median_s * count:.2f}×",
        seconds(measured.median_cpu_s / count),
        f"{baseline.median_cpu_s / measured.median_cpu_s * count:.2f}×",
        share,
        f"{measured.peak_bytes / 2**20:.0f} MiB",
    ]


def _show_parts(parts: dict[str, Any]) -> None:
    rows = []
    for name in ("decode", "watch", "localize", "answer"):
        row = [name, seconds(parts["published"][name])]
        for side in ("one question", "all questions"):
            part = parts[side][name]
            flops, share = part.get("gflop"), part.get("share_of_floor")
            row += [seconds(part["seconds"]), f"{flops:.0f}" if flops else "", f"{share:.0%}" if share else ""]
        rows.append(row)
    every = ["all questions", "GFLOP", "of the floor"]
    show_table(["time spent, last round", "published", "one question", "GFLOP", "of the floor", *every], rows)

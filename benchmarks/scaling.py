"""Training on several processes, each pinned to a core (or GPU) of its own, against one such process."""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import scaling_worker
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.scaling_worker import Work, allowed_cores
from lavis.common.errors import ConfigError, FaultError
from lavis.models.machine import usable_device

SUMMARY = "Samples a second of training on several processes, against one; the work of each is the same."
# Frames of a question, as published.
TASKS = {"self_refinement": 4, "answerer_finetuning": 32}
TARGET = 1.7
_PATIENCE_S = 3600


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is trained on how many processes."""
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="to compare (default: 1 2)")
    parser.add_argument("--task", choices=TASKS, default="self_refinement", help="what is trained")
    parser.add_argument("--batch-size", type=int, default=2, help="videos of a process and step (default: 2)")
    parser.add_argument("--num-frames", type=int, help="frames of each (default: 4 to refine, 32 to fine-tune)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames that fine-tuning reads (default: 4)")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of a round (default: 4)")


@dataclass
class Scaled:
    """What was seen with so many processes, a value per step of all rounds.

    Attributes:
        step_s: of steps in which gradients are exchanged.
        alone_s: of steps of the same processes, at the same time, in which they are not: of the slowest process.
    """

    step_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.step_s)

    @property
    def spread(self) -> float:
        """Half the distance from the fastest to the slowest step, as a share of the median."""
        return (max(self.step_s) - min(self.step_s)) / 2 / self.median_s

    @property
    def exchanging(self) -> float:
        """The share of a step that exchanging gradients takes, over and above computing them."""
        return max(0.0, 1 - statistics.median(self.alone_s) / self.median_s)


def run(args: argparse.Namespace) -> None:
    """Measure by turns, show and write down."""
    device = usable_device(args.device)
    work = Work(
        task=args.task,
        size=args.size,
        dtype=args.dtype,
        device=device.type,
        threads=args.threads or 1,
        batch_size=args.batch_size,
        num_frames=args.num_frames or TASKS[args.task],
        num_keyframes=args.num_keyframes,
        steps=args.steps,
    )
    counts = sorted({1, *args.processes})
    _check(counts, work)
    show_machine(device)
    results = {count: Scaled() for count in counts}
    for turn in range(args.repeats):
        for count in counts if turn % 2 == 0 else reversed(counts):
            measured = _launch(count, work)
            results[count].step_s += measured["step_s"]
            results[count].alone_s += measured["alone_s"]
            results[count].load.append(os.getloadavg()[0])
    write_figures(args.json, {"options": dataclasses.asdict(work), "processes": show(results, work)}, device=device)
    if args.profile:
        _launch(counts[-1], dataclasses.replace(work, profile=str(args.profile)))
        print(f"trace of the first of {counts[-1]} processes: {args.profile}")


def _check(counts: Sequence[int], work: Work) -> None:
    if counts[0] < 1 or work.steps < 1 or work.batch_size < 1:
        raise ConfigError("--processes, --steps and --batch-size must be 1 or more")
    if work.device == "cuda":
        if counts[-1] > torch.cuda.device_count():
            raise ConfigError(f"--processes {counts[-1]} needs as many GPUs; there are {torch.cuda.device_count()}")
    elif counts[-1] * work.threads > len(allowed_cores()):
        raise ConfigError(
            f"--processes {counts[-1]} of {work.threads} threads need as many cores; there are {len(allowed_cores())}"
        )


def _launch(processes: int, work: Work) -> dict[str, Any]:
    """Run a round and return the seconds of its steps.

    Raises:
        FaultError: a process failed; it has printed why.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "seconds.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        worker = ["-m", scaling_worker.__name__, str(target), json.dumps(dataclasses.asdict(work))]
        command = [sys.executable, *launcher, *worker]
        environment = {**os.environ, "OMP_NUM_THREADS": str(work.threads)}
        done = subprocess.run(command, env=environment, timeout=_PATIENCE_S, check=False)
        if done.returncode:
            raise FaultError(f"a round on {processes} processes ended with exit code {done.returncode}")
        measured: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return measured


def show(results: dict[int, Scaled], work: Work) -> dict[str, Any]:
    """Print the table and return what goes into the JSON file."""
    place = "a GPU" if work.device == "cuda" else f"{work.threads} pinned core{'s' * (work.threads > 1)}"
    print(
        f"\n{work.task}, {work.size} in {work.dtype}: each process on {place}, "
        f"{work.batch_size} videos of {work.num_frames} frames a step"
    )
    figures = {}
    for count, scaled in results.items():
        ratio = count * results[1].median_s / scaled.median_s
        figures[str(count)] = {
            "samples_per_s": count * work.batch_size / scaled.median_s,
            "ratio": ratio,
            "efficiency": ratio / count,
            "exchanging": scaled.exchanging if count > 1 else 0.0,
            "median_s": scaled.median_s,
            "spread": scaled.spread,
            **dataclasses.asdict(scaled),
        }
    rows = [
        [
            count,
            f"{one['samples_per_s']:.3g}",
            f"{one['ratio']:.2f}×",
            f"{one['efficiency']:.0%}",
            f"{one['exchanging']:.1%}",
            seconds(one["median_s"]),
            f"±{one['spread']:.0%}",
        ]
        for count, one in figures.items()
    ]
    show_table(["processes", "samples/s", "ratio", "of linear", "exchanging", "median step", "spread"], rows)
    if "2" in figures:
        verdict = "met" if figures["2"]["ratio"] >= TARGET else "missed"
        print(f"two processes: {figures['2']['ratio']:.2f}× the samples of one; the target of {TARGET}× is {verdict}")
    return figures

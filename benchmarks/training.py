"""One optimizer step of self-refinement and of answerer fine-tuning, against the same step as published."""

import argparse
import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

import torch

from benchmarks.measure import Measured, set_threads
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.subprocess_worker import SubprocessWorker
from benchmarks.training_side import FirstStep, Side, SideOptions
from benchmarks.variants import DTYPES
from lavis.models.language.checkpointing import CHECKPOINTING, check_checkpointing
from lavis.models.machine import usable_device

SUMMARY = "Samples a second and peak memory of an optimizer step, against the same step as published."
TOLERANCE = 1e-4
AMP = ("bf16", "fp16")
# Frames of a question, and videos in a batch on a GPU (published) and on the CPU.
TASKS = {"self_refinement": (4, 8, 8), "answerer_finetuning": (32, 8, 2)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is trained on how much."""
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=list(TASKS), help="what is trained (default: all)")
    parser.add_argument(
        "--batch-size", type=int, help="videos of a step (default: 8 as published; 2 to fine-tune on a CPU)"
    )
    parser.add_argument("--num-frames", type=int, help="frames of each (default: 4 to refine, 32 to fine-tune)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames that fine-tuning reads (default: 4)")
    parser.add_argument("--baseline-dtype", choices=DTYPES, default="fp32", help="precision of the published side")
    parser.add_argument("--amp", choices=AMP, help="autocast of our side, as run.amp and run.amp_dtype")
    parser.add_argument("--baseline-amp", choices=AMP, help="autocast of the published side (published on a GPU: fp16)")
    parser.add_argument(
        "--checkpointing", choices=CHECKPOINTING, default="none", help="as model.checkpointing, ours (default: none)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, show and write down; return 1 where the sides do not compute the same."""
    check_checkpointing(args.checkpointing)
    set_threads(args.threads)
    device = usable_device(args.device)
    show_machine(device)
    figures = {task: _measure(args, task, device) for task in args.tasks}
    write_figures(args.json, {"tasks": figures}, device=device)
    return int(any(task["losses"]["equal"] is False for task in figures.values()))


def _measure(args: argparse.Namespace, task: str, device: torch.device) -> dict[str, Any]:
    """Run both sides by turns, each in a process of its own."""
    options = {side: _options(args, side, task, device) for side in ("published", "ours")}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(closing(SubprocessWorker(Side, options[name]))) for name in options}
        firsts: dict[str, FirstStep] = {name: side.call("first") for name, side in sides.items()}
        results = {name: Measured() for name in sides}
        for turn in range(args.repeats):
            for name in list(sides) if turn % 2 == 0 else reversed(sides):
                results[name].include(sides[name].call("measure"))
        if args.profile:
            for name, side in sides.items():
                trace = args.profile.with_stem(f"{args.profile.stem}-{task}-{name}")
                print(f"\n{task}, {name}; trace: {trace}\n{side.call('profile', trace)}")
    return _show(options["ours"], options["published"], firsts, results)


def _options(args: argparse.Namespace, side: str, task: str, device: torch.device) -> SideOptions:
    frames, on_gpu, on_cpu = TASKS[task]
    return SideOptions(
        side=side,
        task=task,
        size=args.size,
        dtype=args.dtype if side == "ours" else args.baseline_dtype,
        device=str(device),
        threads=args.threads,
        amp=args.amp if side == "ours" else args.baseline_amp,
        checkpointing=args.checkpointing,
        batch_size=args.batch_size or (on_cpu if device.type == "cpu" else on_gpu),
        num_frames=args.num_frames or frames,
        num_keyframes=args.num_keyframes,
    )


def _show(
    ours: SideOptions, published: SideOptions, firsts: Mapping[str, FirstStep], results: Mapping[str, Measured]
) -> dict[str, Any]:
    """Print the table and return what goes into the JSON file."""
    print(
        f"\n{ours.task}: {ours.batch_size} videos of {ours.num_frames} frames; published in {_precision(published)}, "
        f"ours in {_precision(ours)} with checkpointing {ours.checkpointing}"
    )
    rows = [_row(name, ours.batch_size, firsts, results) for name in results]
    headings = ["an optimizer step", "samples/s", "median", "spread", "ratio", "CPU time", "ratio in CPU time"]
    show_table([*headings, "peak", "of published", "above the weights", "of published"], rows)
    losses = _losses(firsts, exact=_precision(ours) == _precision(published) == "fp32")
    print("without dropout:", losses)
    sides = {
        name: {
            **measured.figures(),
            **dataclasses.asdict(firsts[name]),
            "above_weights_mib": _above(name, firsts, results) / 2**20,
        }
        for name, measured in results.items()
    }
    return {
        "options": dataclasses.asdict(ours),
        "published": dataclasses.asdict(published),
        "sides": sides,
        "losses": losses,
    }


def _precision(side: SideOptions) -> str:
    return f"{side.dtype} and {side.amp} autocast" if side.amp else side.dtype


def _losses(firsts: Mapping[str, FirstStep], *, exact: bool) -> dict[str, Any]:
    """Compare what the sides computed; lower precisions are not expected to agree."""
    published, ours = firsts["published"], firsts["ours"]
    far = abs(published.loss - ours.loss), abs(published.gradient_norm / ours.gradient_norm - 1)
    return {
        "loss_published": published.loss,
        "loss_ours": ours.loss,
        "gradient_norm_published": published.gradient_norm,
        "gradient_norm_ours": ours.gradient_norm,
        "equal": max(far) < TOLERANCE if exact else None,
    }


def _above(name: str, firsts: Mapping[str, FirstStep], results: Mapping[str, Measured]) -> int:
    return results[name].peak_bytes - firsts[name].idle_bytes


def _row(name: str, batch_size: int, firsts: Mapping[str, FirstStep], results: Mapping[str, Measured]) -> list[str]:
    measured, baseline = results[name], results["published"]
    above, published = (_above(side, firsts, results) for side in (name, "published"))
    return [
        name,
        f"{batch_size / measured.median_s:.3g}",
        seconds(measured.median_s),
        f"±{measured.spread:.0%}",
        f"{baseline.median_s / measured.median_s:.2f}×",
        seconds(measured.median_cpu_s),
        f"{baseline.median_cpu_s / measured.median_cpu_s:.2f}×",
        f"{measured.peak_bytes / 2**20:.0f} MiB",
        f"{measured.peak_bytes / baseline.peak_bytes:.2f}×",
        f"{above / 2**20:.0f} MiB",
        f"{above / published:.2f}×",
    ]

"""A dry run: build everything, take a step or two on the first batch, and say what a real run would do and cost."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from lavis.common.distributed import World
from lavis.common.errors import UserError, counted
from lavis.datasets.dataset import build_loader
from lavis.models.base import TrainableModel
from lavis.runners.build import (
    TrainingParts,
    build_batches,
    build_parts,
    build_plan,
    build_updater,
    build_validator,
    join_training_splits,
    set_training,
    set_training_as_published,
)
from lavis.runners.checkpoint import selector_in
from lavis.runners.config import RunConfig, TrainConfig, evaluation_of
from lavis.runners.evaluation.evaluator import build_evaluator
from lavis.runners.evaluation.evaluator import build_parts as build_evaluation_parts
from lavis.runners.optim import build_schedule
from lavis.runners.progress import as_duration, memory_mib
from lavis.runners.trainer import Updater, split_microbatches
from lavis.selection.policies.trained import PART

_Result = TypeVar("_Result")

# What is done for the first time also loads kernels and takes memory: it is timed again where it took less than this.
_LONG_S = 20.0


def dry_run(config: TrainConfig, world: World) -> str:
    """Take a step, and another one to time where it is short, and return the report; nothing is written.

    Raises:
        UserError: whatever would stop the real run at its start.
    """
    run = config.run
    parts = build_parts(config, world)
    dataset = join_training_splits(parts.builder, run.train_splits)
    batches = build_batches(run, num_samples=len(dataset), world=world)
    updater = build_updater(run, parts, world=world)
    (set_training_as_published if run.published_quirks else set_training)(parts.model)

    started = time.perf_counter()
    first = list(itertools.islice(build_loader(dataset, batches), run.accum_grad_iters))
    read_s = time.perf_counter() - started
    unreadable = sorted({item.reason for batch in first for item in batch.unreadable})
    if not world.sum([sum(map(len, first))])[0]:
        raise UserError(f"none of the first samples can be read, for instance: {unreadable[0]}")
    size = run.batch_size_train
    ready = [part for batch in first for part in split_microbatches(batch, size=size, count=1, device=world.device)]
    rate = build_schedule(run, steps_per_epoch=len(batches)).rate(epoch=0, step=len(first) - 1)
    report, step_s = _settled(lambda: updater.update(ready, rate=rate), world)

    plan = build_plan(run, parts.task, batches, world)
    iterations = plan.iterations(len(batches))
    measuring, measuring_s = _measuring(config, parts, updater, validations=plan.validations(len(batches)), world=world)
    # Workers decode while the step computes; without them each step waits.
    training_s = _with_readers(read_s, step_s, run) * iterations / len(first)
    figures = "".join(f", {name} {value:.4g}" for name, value in report.metrics.items())
    lines = [
        *_parts(_with_selector(parts.model)),
        f"samples: {len(dataset)}, batches per epoch: {len(batches)}, iterations: {iterations}, "
        f"processes: {world.size}",
        f"first step: {counted(report.samples, 'sample')}{figures}",
        f"time: reading {read_s:.2f} s, step {step_s:.2f} s; expected for training alone: {as_duration(training_s)}",
        *measuring,
        f"expected in all: {as_duration(training_s + measuring_s)}",
        f"memory: {memory_mib():.0f} MiB",
        *(f"unreadable: {reason}" for reason in unreadable),
    ]
    return "\n".join(lines)


def _settled(work: Callable[[], _Result], world: World) -> tuple[_Result, float]:
    """Do work that all processes do together; return what it first gave, and the seconds that it takes."""
    started = time.perf_counter()
    result = work()
    taken_s = time.perf_counter() - started
    if max(world.gather(taken_s)) < _LONG_S:
        started = time.perf_counter()
        work()
        taken_s = time.perf_counter() - started
    return result, taken_s


def _with_readers(read_s: float, compute_s: float, run: RunConfig) -> float:
    """Return how long a piece of work takes: workers read while it computes; without them it waits."""
    return max(compute_s, read_s / run.num_workers) if run.num_workers else compute_s + read_s


def _measuring(
    config: TrainConfig, parts: TrainingParts, updater: Updater, *, validations: int, world: World
) -> tuple[list[str], float]:
    """Measure the first questions of each split; return a line for each, and the seconds that all of them take."""
    run = config.run
    times = dict.fromkeys(run.valid_splits, validations)
    for split in run.test_splits:
        times[split] = times.get(split, 0) + 1
    here = replace(config, run=replace(run, num_workers=0))
    validator = build_validator(here, parts, splits=times, world=world, at_most=run.batch_size_eval)
    parts.model.eval()
    lines, whole_s = [], 0.0
    for split, often in times.items():
        started = time.perf_counter()
        count = sum(1 for _ in validator.samples(split, parts.model))
        read_s = time.perf_counter() - started
        with torch.random.fork_rng(devices=[]):
            validate = partial(updater.parallel.evaluate, partial(validator, split=split))
            _, answering_s = _settled(validate, world)
        compute_s = max(0.0, answering_s - read_s)
        each_s = _with_readers(read_s, compute_s, run) / max(1, count)
        total = validator.count(split)
        split_s = often * each_s * -(-total // world.size)
        whole_s += split_s
        lines.append(
            f"measuring {split}: {counted(total, 'question')}, {often} times, {each_s:.2f} s a question; "
            f"expected: {as_duration(split_s)}"
        )
    return lines, whole_s


def dry_evaluation(config: TrainConfig, world: World) -> str:
    """Build what `run.evaluate` tests and return the report; nothing is written.

    Raises:
        UserError: whatever would stop the evaluation at its start.
    """
    evaluation = evaluation_of(config)
    parts = build_evaluation_parts(evaluation, world)
    few = parts.groups[: world.size]
    here = replace(evaluation, base=replace(config, run=replace(config.run, num_workers=0)))
    started = time.perf_counter()
    for _ in build_evaluator(here, parts, world, cache=None).predictions(few):
        pass
    each_s = time.perf_counter() - started
    lines = [
        *_parts(parts.model.parts()),
        f"questions: {len(parts.dataset)} of the split {evaluation.split!r}, processes: {world.size}",
        "run.evaluate is true: the real run only tests, and trains nothing",
        f"time: first clip {each_s:.2f} s; expected in all: {as_duration(each_s * len(parts.groups) / len(few))}",
        f"memory: {memory_mib():.0f} MiB",
    ]
    return "\n".join(lines)


def _with_selector(model: TrainableModel) -> dict[str, nn.Module]:
    """Return the parts of a model, with the selector that trains within it, if one does."""
    selector = selector_in(model)
    return model.parts() if selector is None else {**model.parts(), PART: selector}


def _parts(parts: Mapping[str, nn.Module]) -> list[str]:
    """Say for each part how many parameters it has and how many of them train."""
    lines = [f"{'part':<12}{'parameters':>16}{'trained':>16}  precision"]
    for name, part in parts.items():
        parameters = list(part.parameters())
        count = sum(parameter.numel() for parameter in parameters)
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})
        lines.append(f"{name:<12}{count:>16,}{trained:>16,}  {', '.join(kinds)}")
    return lines

"""The training loop: epochs of optimizer steps, validation, checkpoints, and the test at the end.

An *iteration* is one batch of each process; `accum_grad_iters` of them make an optimizer step. Each sample of a step
weighs the same, whichever process and batch it is in: the gradients of W processes are those of one process with the W
batches joined.
"""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError, ConfigError, TerminatedError, UserError, did_you_mean
from lavis.common.files import read_object, write_text
from lavis.datasets.dataset import ClipBatch, EpochBatches
from lavis.models.base import TrainableModel
from lavis.runners.checkpoint import (
    WEIGHTS,
    Best,
    BestCheckpoint,
    Checkpoint,
    CheckpointSaver,
    RunShape,
    RunState,
    add_prefix,
    load_state,
    load_trained,
    rng_state,
    selector_in,
    set_rng_state,
    strip_prefix,
    trained_weights,
    without_selector,
)
from lavis.runners.faults import Notice, shared_failure
from lavis.runners.optim import MovingAverage, Parallel, Schedule, distribute_like, full_tensor, local_share
from lavis.runners.progress import TrainingLog
from lavis.runners.validation import Validator
from lavis.tasks.objectives import Objective, Teacher

logger = logging.getLogger(__name__)

_OPTIMIZER, _GRADIENTS, _AVERAGE = "optimizer.", "gradients.", "average."


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a run is, and what happens in between.

    Attributes:
        max_iters: ends the run before `max_epoch` does; None leaves it to that.
        carry_gradients: published: iterations left over at an epoch's end add to the next epoch's first step.
        save_freq: iterations between checkpoints; None saves at the end of each epoch.
        max_unreadable: the largest share of an epoch's samples that may fail.
        valid_splits: measured at each validation; the first decides. Empty: the last weights are the best.
        best_metric: the metric that decides; higher is better.
        test_splits: measured at the end, with the best weights.
    """

    max_epoch: int
    max_iters: int | None = None
    accum_grad_iters: int = 1
    carry_gradients: bool = False
    valid_freq: int = 1
    validate_first: bool = False
    save_freq: int | None = None
    max_unreadable: float = 0.05
    valid_splits: Sequence[str] = ()
    best_metric: str = ""
    test_splits: Sequence[str] = ()

    def iterations(self, per_epoch: int) -> int:
        """Return the iterations of the whole run."""
        total = self.max_epoch * per_epoch
        return total if self.max_iters is None else min(total, self.max_iters)

    def validations(self, per_epoch: int) -> int:
        """Return how often the whole run validates."""
        epochs = -(-self.iterations(per_epoch) // per_epoch)
        return -(-epochs // self.valid_freq) + self.validate_first


@dataclass
class Position:
    """How far a run has come: whole epochs, batches of the current one, and how many samples of it failed."""

    epoch: int = 0
    batch: int = 0
    failed: int = 0


def split_microbatches(batch: ClipBatch, *, size: int, count: int, device: torch.device) -> Iterator[ClipBatch]:
    """Yield a batch as `count` parts of at most `size` samples, on the device; the last ones may be empty.

    A run that is resumed with fewer processes makes the same steps in this way, without more memory in each of them.
    """
    for start in range(0, size * count, size):
        part = batch.part(start, start + size)
        # Pictures are prepared on the CPU.
        yield part if part.sizes else replace(part, pixels=part.pixels.to(device, non_blocking=True))


class DivergedError(UserError):
    """The loss is not a number."""


@dataclass(frozen=True)
class StepReport:
    """What a step did, over all processes.

    Attributes:
        samples: how many it learned from; 0 if none could be read and nothing was changed.
        metrics: sample-weighted means of the loss and of the objective's metrics.
        grad_norm: norm of all gradients before clipping; None where it was not asked for.
    """

    samples: int
    metrics: Mapping[str, float]
    grad_norm: float | None = None


class Updater:
    """Accumulates gradients over batches and applies them.

    Args:
        divide: give every sample the same weight; False adds up the batches' mean losses as published.
        clip_grad_norm: largest norm of all gradients together; None for no clipping.
        autocast_dtype: precision of what is safe to compute in it; None computes as the weights are.
    """

    def __init__(
        self,
        parallel: Parallel,
        objective: Objective,
        optimizer: Optimizer,
        *,
        world: World,
        divide: bool = True,
        clip_grad_norm: float | None = None,
        autocast_dtype: torch.dtype | None = None,
        average: MovingAverage | None = None,
    ) -> None:
        self.parallel, self._objective, self._optimizer, self._world = parallel, objective, optimizer, world
        self._divide, self._clip, self._autocast_dtype, self._average = divide, clip_grad_norm, autocast_dtype, average
        self._stand_in: ClipBatch | None = None
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=autocast_dtype is torch.float16)

    def update(self, batches: Sequence[ClipBatch], *, rate: float) -> StepReport:
        """Accumulate the gradients of the batches and change the weights.

        Every process calls this with equally many batches, some of which may be empty.

        Raises:
            DivergedError: the loss is not finite.
        """
        report = self.accumulate(batches)
        return self.apply(report, rate=rate) if report.samples else report

    def accumulate(self, batches: Sequence[ClipBatch]) -> StepReport:
        """Add up gradients without changing weights."""
        counts = self._world.gather([len(batch) for batch in batches])
        total = sum(map(sum, counts))
        if not total:
            return StepReport(0, {})
        weighted = self._equal_passes(batches, counts)
        sums: dict[str, float] = {}
        for number, (batch, is_counted) in enumerate(weighted):
            # Exchanging averages over processes, which the number of processes undoes.
            share = len(batch) * self._world.size / total if is_counted else 0.0
            with self.parallel.syncing(last=number == len(weighted) - 1):
                found = self._backward(batch, share if self._divide or not is_counted else 1.0)
            if len(batch) and is_counted:
                for name, value in _scalars(found).items():
                    sums[name] = sums.get(name, 0.0) + value * len(batch)
        return StepReport(total, self._means(sums, total))

    def apply(self, report: StepReport, *, rate: float) -> StepReport:
        """Change the weights by the accumulated gradients.

        Raises:
            DivergedError: the loss is not finite; nothing is changed.
        """
        if not torch.isfinite(torch.tensor(report.metrics["loss"])):
            raise DivergedError(
                f"the loss is {report.metrics['loss']}; continue from the last checkpoint with a lower run.init_lr "
                "and run.resume_changed=true"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._scaler.unscale_(self._optimizer)
        norm = None
        if self._clip is not None:
            norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(self._parameters(), self._clip)))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update()
        return StepReport(report.samples, report.metrics, norm)

    def state_dict(self) -> RunState:
        """Return what a resumed run needs; gradients are there if some are left over."""
        optimizer = self._optimizer.state_dict()
        tensors = {
            f"{_OPTIMIZER}{number}.{name}": value
            for number, entry in optimizer["state"].items()
            for name, value in entry.items()
        }
        for number, parameter in enumerate(self._parameters()):
            if parameter.grad is not None:
                tensors[f"{_GRADIENTS}{number}"] = parameter.grad
        if self._average is not None:
            tensors |= add_prefix(_AVERAGE, self._average.state_dict())
        return RunState(tensors, {"groups": optimizer["param_groups"], "scaler": self._scaler.state_dict()})

    def load_state_dict(self, state: RunState) -> None:
        """Load what `state_dict` returned, whole or in the layout of the parameters."""
        parameters = self._parameters()
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in strip_prefix(_OPTIMIZER, state.tensors).items():
            number, _, name = key.partition(".")
            parameter = parameters[int(number)]
            fits = value.shape == parameter.shape
            moments.setdefault(int(number), {})[name] = distribute_like(value, parameter) if fits else value
        self._optimizer.load_state_dict({"state": moments, "param_groups": state.rest["groups"]})
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state.rest["scaler"])
        if self._average is not None:
            self._average.load_state_dict(strip_prefix(_AVERAGE, state.tensors))
        gradients = strip_prefix(_GRADIENTS, state.tensors)
        for place, parameter in enumerate(parameters):
            left = gradients.get(str(place))
            parameter.grad = None if left is None else distribute_like(left, parameter)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Let the model have the moving average as its weights in a block, where there is one."""
        return contextlib.nullcontext() if self._average is None else self._average.in_place()

    def layout(self) -> dict[str, torch.Tensor]:
        """Return the parameters that tensors of the state are laid out as, by the beginning of their names."""
        parameters = enumerate(self._parameters())
        return {f"{prefix}{n}": value.detach() for n, value in parameters for prefix in (_OPTIMIZER, _GRADIENTS)}

    def _parameters(self) -> list[torch.nn.Parameter]:
        """Return what the optimizer changes, in the order of its own numbering."""
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def _backward(self, batch: ClipBatch, weight: float) -> dict[str, Any]:
        dtype = self._autocast_dtype
        with torch.autocast(self._world.device.type, dtype=dtype, enabled=dtype is not None):
            found: dict[str, Any] = self.parallel.module(partial(self._loss, batch=batch))
        self._scaler.scale(found["loss"] * weight).backward()
        return found

    def _loss(self, model: TrainableModel, batch: ClipBatch) -> dict[str, Any]:
        if len(batch):
            return self._objective(model, batch)
        # A process without samples still takes part in exchanging gradients: its loss is zero, but reaches them all.
        touched = [parameter.flatten()[:0].sum() for parameter in model.parameters() if parameter.requires_grad]
        return {"loss": torch.stack(touched).sum()}

    def _equal_passes(self, batches: Sequence[ClipBatch], counts: list[list[int]]) -> list[tuple[ClipBatch, bool]]:
        """Return what to run, and whether it counts.

        Split models exchange weights while they compute, so all processes must run the same passes. Where
        batches differ in size, which happens at the end of an epoch, samples are run one at a time, and
        processes with fewer of them run stand-ins that do not count.
        """
        equal = all(len(set(column)) == 1 for column in zip(*counts, strict=True))
        if self.parallel.in_step and batches and len(batches[0]):
            self._stand_in = batches[0].part(0, 1)
        if not self.parallel.in_step or equal:
            return [(batch, True) for batch in batches]
        singles = [batch.part(i, i + 1) for batch in batches for i in range(len(batch))]
        if self._stand_in is None:
            raise UserError("a process has no sample in its first step; use fewer processes with fsdp")
        missing = max(map(sum, counts)) - len(singles)
        return [(single, True) for single in singles] + [(self._stand_in, False)] * missing

    def _means(self, sums: Mapping[str, float], total: int) -> dict[str, float]:
        added: dict[str, float] = {}
        for found in self._world.gather(sums):
            for name, value in found.items():
                added[name] = added.get(name, 0.0) + value
        return {name: value / total for name, value in added.items()}


def _scalars(found: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value.detach())
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and value.ndim == 0
    }


class Runner:
    """Trains what is trainable in a model.

    Args:
        batch_size: samples that a process computes at once, at most.
        folder: of the run: gets metrics, the best weights in `best`, and the learning curves.
        teacher: the frozen role that the objective asks; what it said is kept in checkpoints.
        shape: what a run that is resumed must have in common with this one.
        set_training: puts the model into training mode.
    """

    def __init__(
        self,
        model: TrainableModel,
        *,
        updater: Updater,
        schedule: Schedule,
        batches: EpochBatches,
        loader: "DataLoader[ClipBatch]",
        batch_size: int,
        plan: Plan,
        validator: Validator,
        folder: Path,
        saver: CheckpointSaver,
        teacher: Teacher,
        shape: RunShape,
        log: TrainingLog,
        world: World,
        set_training: Callable[[TrainableModel], object],
    ) -> None:
        self._model, self._updater, self._schedule = model, updater, schedule
        self._batches, self._loader, self._batch_size = batches, loader, batch_size
        self._plan, self._validator, self._saver, self._shape = plan, validator, saver, shape
        self._folder, self._teacher, self._log, self._world = folder, teacher, log, world
        self._set_training = set_training
        self._position = Position()
        self._failed_videos: set[str | None] = set()
        self._saved_at: int | None = None
        self._resumed_at: int | None = None
        self._best_checkpoint = BestCheckpoint(folder)
        self._best: Best | None = None
        self._notice = Notice()

    @property
    def iteration(self) -> int:
        """Iterations done so far."""
        return self._position.epoch * len(self._batches) + self._position.batch

    @property
    def total(self) -> int:
        """Iterations of the whole run."""
        return self._plan.iterations(len(self._batches))

    def run(self) -> dict[str, dict[str, float]]:
        """Train to the end and return the test's metrics, by split.

        Raises:
            UserError: too many samples cannot be read, the loss diverges, or a file cannot be written.
            TerminatedError: SIGTERM came; a step that was under way is finished, and saved.
        """
        try:
            with self._notice.listening():
                return self._run()
        finally:
            self._log.close()

    def _run(self) -> dict[str, dict[str, float]]:
        # What is written is written to its end, and processes end together; only measuring is interrupted.
        with self._notice.deferred():
            if self._saved_at is None:
                self._log.start_over()
            if self._plan.validate_first and self.iteration == 0:
                self.validate(epoch=-1)
            if self._saved_at is not None:
                # An earlier start may have ended between the last step of an epoch and what follows it.
                self._end_epoch()
            while self.iteration < self.total:
                self._train_epoch()
                self._end_epoch()
            self._saver.wait()
        for warning in self._model.prompt_warnings():
            logger.warning(warning)
        return self.finish()

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            DivergedError: the weights are not finite; the checkpoint before is the last good one.
        """
        state = self.state()
        weights = strip_prefix(WEIGHTS, state.tensors).values()
        if self._world.sum([sum(not local_share(value).isfinite().all() for value in weights)])[0]:
            raise DivergedError(
                f"the weights are not finite after iteration {self.iteration}; "
                "go on from the last checkpoint with a lower run.init_lr and run.resume_changed=true"
            )
        self._saver.save(state, step=self.iteration, shape=self._shape)
        self._saved_at = self.iteration

    def resume(self, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint.

        Raises:
            CheckpointError: it is damaged, or of another model.
        """
        trained = {name: value.detach() for name, value in self._model.trainable_parameters()}
        layout = {**add_prefix(WEIGHTS, trained), **add_prefix(_AVERAGE, trained), **self._updater.layout()}
        state = load_state(checkpoint, layout=layout, world=self._world)
        weights = strip_prefix(WEIGHTS, state.tensors)
        shapes, expected = ({name: value.shape for name, value in part.items()} for part in (weights, trained))
        if shapes != expected:
            raise CheckpointError(f"{checkpoint.folder} does not fit: other parts train now, or of another size")
        load_trained(self._model, weights)
        self._updater.load_state_dict(RunState(state.tensors, state.rest["updater"]))
        self._position = Position(**state.rest["position"])
        self._saved_at = self.iteration
        self._teacher.load_state_dict(state.rest.get("verdicts", {}), self._world)
        self._log.resume(self.iteration, state.rest["progress"])
        self._resume_best()
        self._set_rng(state.rest["rng"])
        logger.info("going on at iteration %d of %d", self.iteration, self.total)

    def validate(self, *, epoch: int) -> None:
        """Measure the weights, or their average, and keep them where they are the best; epoch -1 is before training."""
        plan, earlier = self._plan, self._best
        with self._updater.averaged():
            metrics = {split: self._measure(split, f"epoch{epoch}", epoch) for split in plan.valid_splits}
            value = self._deciding(metrics)
            if value is None or earlier is None or earlier.value is None or value > earlier.value:
                self._best = Best(value, epoch, self.iteration)
                self._write_best(self._best, metrics)
                return
        if epoch > earlier.epoch and self._world.is_main:
            when = "before training" if earlier.epoch < 0 else f"of epoch {earlier.epoch}"
            logger.warning(
                "epoch %d: %s is %.2f, not above %.2f; the weights %s stay the best",
                *(epoch, plan.best_metric, value, earlier.value, when),
            )

    def finish(self) -> dict[str, dict[str, float]]:
        """Load the best weights, test them, and draw the learning curves; return the metrics by split."""
        epoch, best = -1, self._find_best()
        if best is not None:
            load_trained(self._model, self._best_checkpoint.read())
            epoch = best.epoch
            if epoch < 0 and best.value is not None and self._world.is_main:
                text = "training did not raise %s above %.2f: what was there before is kept"
                logger.warning(text, self._plan.best_metric, best.value)
        elif self._world.is_main:
            logger.warning("there are no best weights to test: the last ones are tested")
        metrics = {split: self._measure(split, "best", epoch) for split in self._plan.test_splits}
        if self._world.is_main:
            # matplotlib takes a moment to import.
            from lavis.export.pictures import draw_learning_curves

            draw_learning_curves(self._folder / "log.jsonl", self._folder / "curves.png")
        return metrics

    def state(self) -> RunState:
        """Return everything a resumed run needs; every process must call this."""
        updater = self._updater.state_dict()
        weights = {name: value.detach() for name, value in self._model.trainable_parameters()}
        rest = {
            "position": dataclasses.asdict(self._position),
            "updater": updater.rest,
            "rng": self._world.gather(rng_state(self._world)),
            "verdicts": self._teacher.state_dict(self._world),
            "progress": self._log.state_dict(),
        }
        return RunState({**add_prefix(WEIGHTS, weights), **updater.tensors}, rest)

    def _set_rng(self, states: list[dict[str, object]]) -> None:
        if len(states) == self._world.size:
            set_rng_state(states[self._world.rank], self._world)
            return
        logger.warning("the run had %d processes, now %d: dropout differs", len(states), self._world.size)
        # A state cannot be shared out; a seed that no process had before can.
        torch.manual_seed(hash((self._shape.seed, self.iteration, self._world.size, self._world.rank)))

    def _end_epoch(self) -> None:
        """Save and validate at the end of an epoch, which `max_iters` may bring early; else do nothing."""
        is_over = self.iteration >= self.total
        if self._position.batch and not is_over:
            return
        # First: a run that ends while it validates loses no step.
        self._teacher.share(self._world)
        if self._saved_at != self.iteration:
            self.save()
        # Agreed on by all: where one ended by itself, the others would lose a process that they wait for.
        self._check_notice()
        epochs = self._position.epoch + bool(self._position.batch)
        if epochs % self._plan.valid_freq == 0 or is_over:
            self.validate(epoch=epochs - 1)

    def _train_epoch(self) -> None:
        position, plan = self._position, self._plan
        self._batches.seek(epoch=position.epoch, first_batch=position.batch)
        stream = iter(self._loader)
        self._set_training(self._model)
        end = min(len(self._batches), self.total - position.epoch * len(self._batches))
        while position.batch < end:
            asked = time.perf_counter()
            group = [next(stream) for _ in range(min(plan.accum_grad_iters, end - position.batch))]
            waited_s = time.perf_counter() - asked
            if self._is_asked_to_end(group):
                self._stop()
            self._step(group, waited_s)
            is_due = plan.save_freq is not None and self.iteration - (self._saved_at or 0) >= plan.save_freq
            if is_due and position.batch < end:
                self.save()
        if position.batch == len(self._batches):
            self._position = Position(epoch=position.epoch + 1)

    def _stop(self) -> None:
        """Save, unless nothing was done since, and end by a `TerminatedError`."""
        if self.iteration and self._saved_at != self.iteration:
            self.save()
        self._saver.wait()
        raise TerminatedError(
            f"asked to end (SIGTERM) after iteration {self.iteration} of {self.total}, which is saved; "
            "go on with run.resume=auto"
        )

    def _check_notice(self) -> None:
        if self._world.sum([self._notice.is_given])[0]:
            self._stop()

    def _is_asked_to_end(self, group: list[ClipBatch]) -> bool:
        """Count what cannot be read, and ask whether any process was told to end, in one exchange."""
        failed = [item for batch in group for item in batch.unreadable]
        for item in failed:
            if item.question.video not in self._failed_videos:
                self._failed_videos.add(item.question.video)
                logger.warning("skipped: %s", item.reason)
        num_failed, notices = self._world.sum([len(failed), self._notice.is_given])
        if notices:
            return True
        self._position.failed += int(num_failed)
        if self._position.failed > self._plan.max_unreadable * self._shape.num_samples:
            last = f", the last: {failed[-1].reason}" if failed else ""
            raise UserError(
                f"{self._position.failed} of {self._shape.num_samples} samples cannot be read{last}; "
                f"mend them, or raise run.max_unreadable (now {self._plan.max_unreadable})"
            )
        return False

    def _step(self, group: list[ClipBatch], waited_s: float) -> None:
        position, plan = self._position, self._plan
        report = self._updater.accumulate(list(self._microbatches(group)))
        is_left_over = plan.carry_gradients and len(group) < plan.accum_grad_iters
        rate = self._schedule.rate(epoch=position.epoch, step=position.batch + len(group) - 1)
        if report.samples and not is_left_over:
            report = self._updater.apply(report, rate=rate)
        position.batch += len(group)
        metrics = {**report.metrics, "lr": rate}
        if report.grad_norm is not None:
            metrics["grad_norm"] = report.grad_norm
        self._log.step(
            metrics, iteration=self.iteration, epoch=position.epoch, samples=report.samples, waited_s=waited_s
        )

    def _microbatches(self, group: list[ClipBatch]) -> Iterator[ClipBatch]:
        most = -(-self._batches.samples_per_step // self._world.size)
        count = -(-most // self._batch_size)
        for batch in group:
            yield from split_microbatches(batch, size=self._batch_size, count=count, device=self._world.device)

    def _measure(self, split: str, name: str, epoch: int) -> dict[str, float]:
        file = self._folder / "metrics" / f"{split}_{name}.json"
        metrics = self._measured_before(file, epoch) or self._evaluate(split)
        logger.info("%s %s: %s", split, name, "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        self._log.event(split, metrics, iteration=self.iteration, epoch=epoch)
        if self._world.is_main:
            content = {"epoch": epoch, "iteration": self.iteration, **metrics}
            write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return metrics

    def _measured_before(self, file: Path, epoch: int) -> dict[str, float] | None:
        """Return what an earlier start measured at the very place where this one was resumed."""
        if self.iteration != self._resumed_at:
            return None
        found: dict[str, float] | None = self._world.gather(read_object(file))[0]
        if found is None or (found.pop("iteration", None), found.pop("epoch", None)) != (self.iteration, epoch):
            return None
        return found

    def _evaluate(self, split: str) -> dict[str, float]:
        self._model.eval()
        # Random numbers that validation draws must not change those of training.
        devices = [self._world.device] if self._world.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._notice.heeded():
            return self._updater.parallel.evaluate(lambda model: self._validator(model, split))

    def _deciding(self, metrics: Mapping[str, Mapping[str, float]]) -> float | None:
        if not metrics:
            return None
        measured, name = metrics[self._plan.valid_splits[0]], self._plan.best_metric
        if name not in measured:
            raise ConfigError(f"run.best_metric {name!r} is not measured; {did_you_mean(name, measured)}")
        return measured[name]

    def _write_best(self, best: Best, metrics: Mapping[str, Mapping[str, float]]) -> None:
        weights = trained_weights(self._model)
        with shared_failure(self._world):
            if self._world.is_main:
                model = self._model.config
                self._best_checkpoint.write(
                    weights,
                    model_name=model.name,
                    config=model.as_json(),
                    best=best,
                    metrics=metrics,
                    selector=selector_in(self._model),
                    write_more=lambda folder: self._model.save_trained(folder, without_selector(weights)),
                )

    def _find_best(self) -> Best | None:
        found: Best | None = self._world.gather(self._best_checkpoint.find() if self._world.is_main else None)[0]
        return found

    def _resume_best(self) -> None:
        """Load what is on disk about the best weights, and remove metrics of what is trained again."""
        if self._world.is_main:
            for file in (self._folder / "metrics").glob("*.json"):
                if (read_object(file) or {}).get("iteration", self.iteration + 1) > self.iteration:
                    file.unlink()
        self._best, self._resumed_at = self._find_best(), self.iteration

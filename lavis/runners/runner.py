"""The training loop: epochs of optimizer steps, validation, checkpoints, and the test at the end.

An *iteration* is one batch of each process; `accum_grad_iters` of them make an optimizer step.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from lavis.common.distributed import World
from lavis.common.errors import UserError
from lavis.datasets.dataset import ClipBatch
from lavis.datasets.sampler import EpochBatches
from lavis.models.sevila.model import SeViLA
from lavis.runners.checkpoints import CheckpointStore
from lavis.runners.keeper import BestKeeper
from lavis.runners.progress import Progress
from lavis.runners.schedules import Schedule
from lavis.runners.update import Updater
from lavis.runners.weights import load_trained, trained_weights
from lavis.tasks.objectives.base import TrainingBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a run is, and what happens in between.

    Attributes:
        max_iters: ends the run before `max_epoch` does; None leaves it to that.
        carry_gradients: published: iterations left over at an epoch's end add to the next epoch's first step.
        save_freq: iterations between checkpoints; None saves at the end of each epoch.
        max_unreadable: the largest share of an epoch's samples that may fail.
    """

    max_epoch: int
    max_iters: int | None = None
    accum_grad_iters: int = 1
    carry_gradients: bool = False
    valid_freq: int = 1
    validate_first: bool = False
    save_freq: int | None = None
    max_unreadable: float = 0.05

    def iterations(self, per_epoch: int) -> int:
        """Return the iterations of the whole run."""
        whole = self.max_epoch * per_epoch
        return whole if self.max_iters is None else min(whole, self.max_iters)


@dataclass
class Position:
    """How far a run has come: whole epochs, batches of the current one, and how many samples of it failed."""

    epoch: int = 0
    batch: int = 0
    failed: int = 0


class Runner:
    """Trains what is trainable in a model.

    Args:
        loader: reads the batches that `batches` names.
        keeper: validates, and keeps the best weights.
        prepare_training: puts the model into training mode.
    """

    def __init__(
        self,
        model: SeViLA,
        *,
        updater: Updater,
        schedule: Schedule,
        batches: EpochBatches,
        loader: "DataLoader[ClipBatch]",
        num_samples: int,
        plan: Plan,
        keeper: BestKeeper,
        store: CheckpointStore,
        progress: Progress,
        world: World,
    ) -> None:
        self._model, self._updater, self._schedule = model, updater, schedule
        self._batches, self._loader, self._num_samples = batches, loader, num_samples
        self._plan, self._keeper, self._store, self._progress, self._world = plan, keeper, store, progress, world
        self._position = Position()
        self._failed_videos: set[str | None] = set()
        self._saved_at = 0

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
        """
        try:
            return self._run()
        finally:
            self._progress.close()

    def _run(self) -> dict[str, dict[str, float]]:
        if self._plan.validate_first and self.iteration == 0:
            self._keeper.validate(epoch=-1, iteration=0)
        while self.iteration < self.total:
            self._train_epoch()
            # An epoch that `max_iters` cuts short counts too.
            epochs = self._position.epoch + bool(self._position.batch)
            if epochs % self._plan.valid_freq == 0 or self.iteration >= self.total:
                self._keeper.validate(epoch=epochs - 1, iteration=self.iteration)
            if self._plan.save_freq is None or self.iteration >= self.total:
                self.save()
        language = self._model.language
        if language.num_cut_prompts:
            limit = language.max_text_length
            logger.warning("%d prompts were longer than %d tokens and lost their end", language.num_cut_prompts, limit)
        return self._keeper.finish(iteration=self.iteration)

    def save(self) -> None:
        """Write a checkpoint."""
        weights, state = trained_weights(self._model), self.state_dict()
        if self._world.is_main:
            self._store.save(weights, state, step=self.iteration)
        self._saved_at = self.iteration
        self._world.wait()

    def resume(self) -> bool:
        """Go on from the newest checkpoint, if there is one."""
        found = self._store.load_newest()
        if found is None:
            return False
        weights, state = found
        load_trained(self._model, weights)
        self.load_state_dict(state)
        self._progress.go_on(self.iteration)
        logger.info("going on at iteration %d of %d", self.iteration, self.total)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs beside the weights; every process must call this."""
        return {
            "position": dataclasses.asdict(self._position),
            "updater": self._updater.state_dict(),
            "rng": self._world.gather(_rng_state(self._world)),
            "best": self._keeper.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._position = Position(**state["position"])
        self._updater.load_state_dict(state["updater"])
        self._keeper.load_state_dict(state["best"])
        self._saved_at = self.iteration
        if len(state["rng"]) == self._world.size:
            _set_rng_state(state["rng"][self._world.rank], self._world)
        else:
            logger.warning("the run had %d processes, now %d: dropout differs", len(state["rng"]), self._world.size)

    def _train_epoch(self) -> None:
        position, plan = self._position, self._plan
        self._batches.seek(epoch=position.epoch, first_batch=position.batch)
        stream = iter(self._loader)
        self._keeper.prepare_training()
        end = min(len(self._batches), self.total - position.epoch * len(self._batches))
        while position.batch < end:
            asked = time.perf_counter()
            group = [next(stream) for _ in range(min(plan.accum_grad_iters, end - position.batch))]
            waited_s = time.perf_counter() - asked
            self._count_unreadable(group)
            self._step(group, waited_s)
            if plan.save_freq is not None and self.iteration - self._saved_at >= plan.save_freq:
                self.save()
        if position.batch == len(self._batches):
            self._position = Position(epoch=position.epoch + 1)

    def _step(self, group: list[ClipBatch], waited_s: float) -> None:
        position, plan = self._position, self._plan
        report = self._updater.accumulate(list(self._on_device(group)))
        is_left_over = plan.carry_gradients and len(group) < plan.accum_grad_iters
        rate = self._schedule.rate(epoch=position.epoch, step=position.batch + len(group) - 1)
        if report.samples and not is_left_over:
            report = self._updater.apply(report, rate=rate)
        position.batch += len(group)
        figures = {**report.figures, "lr": rate}
        if report.grad_norm is not None:
            figures["grad_norm"] = report.grad_norm
        self._progress.step(
            figures, iteration=self.iteration, epoch=position.epoch, samples=report.samples, waited_s=waited_s
        )

    def _on_device(self, group: list[ClipBatch]) -> Iterator[TrainingBatch]:
        device = self._world.device
        for batch in group:
            yield TrainingBatch(
                pixels=batch.pixels.to(device, non_blocking=True), times_s=batch.times_s, questions=batch.questions
            )

    def _count_unreadable(self, group: list[ClipBatch]) -> None:
        failed = [item for batch in group for item in batch.unreadable]
        for item in failed:
            if item.question.video not in self._failed_videos:
                self._failed_videos.add(item.question.video)
                logger.warning("skipped: %s", item.reason)
        self._position.failed += int(self._world.sum([len(failed)])[0])
        if self._position.failed > self._plan.max_unreadable * self._num_samples:
            last = f", the last: {failed[-1].reason}" if failed else ""
            raise UserError(
                f"{self._position.failed} of {self._num_samples} samples cannot be read{last}; "
                f"mend them, or raise run.max_unreadable (now {self._plan.max_unreadable})"
            )


def _rng_state(world: World) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(world.device)
    return state


def _set_rng_state(state: Mapping[str, torch.Tensor], world: World) -> None:
    torch.set_rng_state(state["cpu"])
    if world.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], world.device)

"""The training loop: epochs of optimizer steps, validation, checkpoints, and the test at the end.

An *iteration* is one batch of each process; `accum_grad_iters` of them make an optimizer step.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError, TerminatedError, UserError
from lavis.datasets.dataset import ClipBatch
from lavis.datasets.loader import EpochBatches
from lavis.models.sevila.model import SeViLA
from lavis.runners.checkpoints import Checkpoint
from lavis.runners.keeper import BestKeeper
from lavis.runners.manifest import RunShape
from lavis.runners.plan import Plan, Position, in_pieces
from lavis.runners.progress import Progress
from lavis.runners.saving import WEIGHTS, Saver, load_state
from lavis.runners.schedules import Schedule
from lavis.runners.state import RunState, local, prefixed, rng_state, set_rng_state, under
from lavis.runners.stopping import Notice
from lavis.runners.update import AVERAGE, DivergedError, Updater
from lavis.runners.weights import load_trained
from lavis.tasks.objectives.base import TrainingBatch
from lavis.tasks.objectives.verdicts import Verdicts

logger = logging.getLogger(__name__)


class Runner:
    """Trains what is trainable in a model.

    Args:
        loader: reads the batches that `batches` names.
        batch_size: samples that a process computes at once, at most.
        keeper: validates, and keeps the best weights.
        verdicts: what the objective asks a frozen role; kept in checkpoints.
        shape: what a run that goes on must have in common with this one.
    """

    def __init__(
        self,
        model: SeViLA,
        *,
        updater: Updater,
        schedule: Schedule,
        batches: EpochBatches,
        loader: "DataLoader[ClipBatch]",
        batch_size: int,
        plan: Plan,
        keeper: BestKeeper,
        saver: Saver,
        verdicts: Verdicts,
        shape: RunShape,
        progress: Progress,
        world: World,
    ) -> None:
        self._model, self._updater, self._schedule = model, updater, schedule
        self._batches, self._loader, self._batch_size = batches, loader, batch_size
        self._plan, self._keeper, self._saver, self._shape = plan, keeper, saver, shape
        self._verdicts = verdicts
        self._progress, self._world = progress, world
        self._position = Position()
        self._failed_videos: set[str | None] = set()
        self._saved_at: int | None = None
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
            self._progress.close()

    def _run(self) -> dict[str, dict[str, float]]:
        if self._saved_at is None:
            self._progress.start_over()
        if self._plan.validate_first and self.iteration == 0:
            self._keeper.validate(epoch=-1, iteration=0)
        if self._saved_at is not None:
            # An earlier start may have ended between the last step of an epoch and what follows it.
            self._end_epoch()
        while self.iteration < self.total:
            with self._notice.deferred():
                self._train_epoch()
            self._end_epoch()
        with self._notice.deferred():
            self._saver.wait()
        language = self._model.language
        if language.num_cut_prompts:
            limit = language.max_text_length
            logger.warning("%d prompts were longer than %d tokens and lost their end", language.num_cut_prompts, limit)
        if language.num_unspelt_prompts:
            logger.warning("%d prompts hold text that the tokenizer cannot spell", language.num_unspelt_prompts)
        return self._keeper.finish(iteration=self.iteration)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            DivergedError: the weights are not finite; the checkpoint before is the last good one.
        """
        state = self.state()
        weights = under(WEIGHTS, state.tensors).values()
        if self._world.sum([sum(not local(value).isfinite().all() for value in weights)])[0]:
            raise DivergedError(
                f"the weights are not finite after iteration {self.iteration}; "
                "go on from the last checkpoint with a lower run.init_lr and run.resume_changed=true"
            )
        self._saver.save(state, step=self.iteration, shape=self._shape)
        self._saved_at = self.iteration

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it is damaged, or of another model.
        """
        state = load_state(checkpoint, layout=self._layout, world=self._world)
        weights = under(WEIGHTS, state.tensors)
        expected = {name: value.shape for name, value in self._model.trainable_parameters()}
        if {name: value.shape for name, value in weights.items()} != expected:
            raise CheckpointError(f"{checkpoint.folder} does not fit: other parts train now, or of another size")
        load_trained(self._model, weights)
        self._updater.load_state_dict(RunState(state.tensors, state.rest["updater"]))
        self._position = Position(**state.rest["position"])
        self._saved_at = self.iteration
        self._verdicts.load_state_dict(state.rest.get("verdicts", {}), self._world)
        self._progress.go_on(self.iteration, state.rest["progress"])
        self._keeper.go_on(self.iteration)
        self._set_rng(state.rest["rng"])
        logger.info("going on at iteration %d of %d", self.iteration, self.total)

    def state(self) -> RunState:
        """Return everything a resumed run needs; every process must call this."""
        updater = self._updater.state_dict()
        weights = {name: value.detach() for name, value in self._model.trainable_parameters()}
        rest = {
            "position": dataclasses.asdict(self._position),
            "updater": updater.rest,
            "rng": self._world.gather(rng_state(self._world)),
            "verdicts": self._verdicts.state_dict(self._world),
            "progress": self._progress.state_dict(),
        }
        return RunState({**prefixed(WEIGHTS, weights), **updater.tensors}, rest)

    def _layout(self, name: str) -> torch.Tensor | None:
        for prefix in (WEIGHTS, AVERAGE):
            if name.startswith(prefix):
                found = dict(self._model.trainable_parameters()).get(name.removeprefix(prefix))
                return None if found is None else found.detach()
        return self._updater.layout(name)

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
        with self._notice.deferred():
            self._verdicts.share(self._world)
            if self._saved_at != self.iteration:
                self.save()
        self._check_notice()
        epochs = self._position.epoch + bool(self._position.batch)
        if epochs % self._plan.valid_freq == 0 or is_over:
            self._keeper.validate(epoch=epochs - 1, iteration=self.iteration)

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
            if self._is_asked_to_end(group):
                self._stop()
            self._step(group, waited_s)
            is_due = plan.save_freq is not None and self.iteration - (self._saved_at or 0) >= plan.save_freq
            if is_due and position.batch < end:
                self.save()
        if position.batch == len(self._batches):
            self._position = Position(epoch=position.epoch + 1)

    def _stop(self) -> None:
        """Save, unless nothing was done since, and end.

        Raises:
            TerminatedError: always.
        """
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
        report = self._updater.accumulate(list(self._pieces(group)))
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

    def _pieces(self, group: list[ClipBatch]) -> Iterator[TrainingBatch]:
        most = -(-self._batches.samples_per_step // self._world.size)
        count = -(-most // self._batch_size)
        for batch in group:
            yield from in_pieces(batch, size=self._batch_size, count=count, device=self._world.device)

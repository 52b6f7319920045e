"""How long a run is, what happens in between, and how far it has come.

An *iteration* is one batch of each process; `accum_grad_iters` of them make an optimizer step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lavis.datasets.dataset import ClipBatch
from lavis.runners.config import RunConfig
from lavis.tasks.objectives.base import TrainingBatch
from lavis.tasks.published import PublishedTask


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


def build_plan(run: RunConfig, task: PublishedTask) -> Plan:
    """Say how long the run is and what happens in between."""
    validate_first = task.objective == "self_refinement" if run.validate_first is None else run.validate_first
    return Plan(
        max_epoch=run.max_epoch,
        max_iters=run.max_iters,
        accum_grad_iters=run.accum_grad_iters,
        carry_gradients=run.published_quirks,
        valid_freq=run.valid_freq,
        validate_first=validate_first and bool(run.valid_splits),
        save_freq=run.save_freq,
        max_unreadable=run.max_unreadable,
    )


def in_pieces(batch: ClipBatch, *, size: int, count: int, device: torch.device) -> Iterator[TrainingBatch]:
    """Yield a batch as so many pieces of at most `size` samples, on the device; the last ones may be empty.

    A run that goes on with fewer processes keeps its steps so, without more memory in each of them.
    """
    for start in range(0, size * count, size):
        piece = slice(start, start + size)
        yield TrainingBatch(
            pixels=batch.pixels[piece].to(device, non_blocking=True),
            times_s=batch.times_s[piece],
            questions=batch.questions[piece],
            frame_idx=batch.frame_idx[piece],
        )

"""One optimizer step: several batches in, changed weights out.

Each sample of a step weighs the same, whichever process and batch it is in: the gradients of W
processes are those of one process with the W batches joined.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from lavis.common.distributed import World
from lavis.common.errors import UserError
from lavis.runners.ema import MovingAverage
from lavis.runners.parallel import Parallel, like, whole
from lavis.runners.state import RunState, prefixed, under
from lavis.tasks.objectives.base import Objective, TrainingBatch

_OPTIMIZER, _GRADIENTS = "optimizer.", "gradients."
AVERAGE = "average."


class DivergedError(UserError):
    """The loss is not a number."""


@dataclass(frozen=True)
class StepReport:
    """What a step did, over all processes.

    Attributes:
        samples: how many it learned from; 0 if none could be read and nothing was changed.
        figures: sample-weighted means of the loss and of the objective's figures.
        grad_norm: norm of all gradients before clipping; None where it was not asked for.
    """

    samples: int
    figures: Mapping[str, float]
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
        self._parallel = parallel
        self._stand_in: TrainingBatch | None = None
        self._objective = objective
        self._optimizer = optimizer
        self._world = world
        self._divide = divide
        self._clip = clip_grad_norm
        self._autocast_dtype = autocast_dtype
        self._average = average
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=autocast_dtype is torch.float16)

    def update(self, batches: Sequence[TrainingBatch], *, rate: float) -> StepReport:
        """Accumulate the gradients of the batches and change the weights.

        Every process calls this with equally many batches, some of which may be empty.

        Raises:
            DivergedError: the loss is not finite.
        """
        report = self.accumulate(batches)
        return self.apply(report, rate=rate) if report.samples else report

    def accumulate(self, batches: Sequence[TrainingBatch]) -> StepReport:
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
            with self._parallel.syncing(last=number == len(weighted) - 1):
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
        if not torch.isfinite(torch.tensor(report.figures["loss"])):
            raise DivergedError(
                f"the loss is {report.figures['loss']}; continue from the last checkpoint with a lower run.init_lr "
                "and run.resume_changed=true"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._scaler.unscale_(self._optimizer)
        norm = None
        if self._clip is not None:
            norm = float(whole(torch.nn.utils.clip_grad_norm_(self._parameters(), self._clip)))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update()
        return StepReport(report.samples, report.figures, norm)

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
            tensors |= prefixed(AVERAGE, self._average.state_dict())
        return RunState(tensors, {"groups": optimizer["param_groups"], "scaler": self._scaler.state_dict()})

    def load_state_dict(self, state: RunState) -> None:
        """Take up what `state_dict` returned, whole or in the layout of the parameters."""
        parameters = self._parameters()
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in under(_OPTIMIZER, state.tensors).items():
            number, _, name = key.partition(".")
            parameter = parameters[int(number)]
            fits = value.shape == parameter.shape
            moments.setdefault(int(number), {})[name] = like(value, parameter) if fits else value
        self._optimizer.load_state_dict({"state": moments, "param_groups": state.rest["groups"]})
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state.rest["scaler"])
        if self._average is not None:
            self._average.load_state_dict(under(AVERAGE, state.tensors))
        gradients = under(_GRADIENTS, state.tensors)
        for place, parameter in enumerate(parameters):
            left = gradients.get(str(place))
            parameter.grad = None if left is None else like(left, parameter)

    def layout(self, name: str) -> torch.Tensor | None:
        """Return a parameter that is laid out as the named tensor of the state, or None if none is."""
        for prefix in (_OPTIMIZER, _GRADIENTS):
            if name.startswith(prefix):
                return self._parameters()[int(name.removeprefix(prefix).partition(".")[0])].detach()
        return None

    def _parameters(self) -> list[torch.nn.Parameter]:
        """Return what the optimizer changes, in the order of its own numbering."""
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def _backward(self, batch: TrainingBatch, weight: float) -> dict[str, Any]:
        with self._autocast():
            found: dict[str, Any] = self._parallel.module(partial(self._loss, batch=batch))
        self._scaler.scale(found["loss"] * weight).backward()
        return found

    def _loss(self, model: Any, batch: TrainingBatch) -> dict[str, Any]:
        if len(batch):
            return self._objective(model, batch)
        # A process without samples still takes part in exchanging gradients: its loss is zero, but reaches them all.
        touched = [parameter.flatten()[:0].sum() for parameter in model.parameters() if parameter.requires_grad]
        return {"loss": torch.stack(touched).sum()}

    def _autocast(self) -> Any:
        if self._autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._world.device.type, dtype=self._autocast_dtype)

    def _equal_passes(
        self, batches: Sequence[TrainingBatch], counts: list[list[int]]
    ) -> list[tuple[TrainingBatch, bool]]:
        """Return what to run, and whether it counts.

        Split models exchange weights while they compute, so all processes must run the same passes. Where
        batches differ in size, which happens at the end of an epoch, samples are run one at a time, and
        processes with fewer of them run stand-ins that do not count.
        """
        equal = all(len(set(column)) == 1 for column in zip(*counts, strict=True))
        if self._parallel.in_step and batches and len(batches[0]):
            self._stand_in = one_sample(batches[0], 0)
        if not self._parallel.in_step or equal:
            return [(batch, True) for batch in batches]
        singles = [one_sample(batch, i) for batch in batches for i in range(len(batch))]
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


def one_sample(batch: TrainingBatch, index: int) -> TrainingBatch:
    """Return a batch of one of the samples."""
    one = slice(index, index + 1)
    return TrainingBatch(
        pixels=batch.pixels[one],
        times_s=batch.times_s[one],
        questions=batch.questions[one],
        frame_idx=None if batch.frame_idx is None else batch.frame_idx[one],
    )


def _scalars(found: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value.detach())
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and value.ndim == 0
    }

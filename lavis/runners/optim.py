"""How a model lies on the processes there are, and what changes its weights: optimizer, learning rates, their average.

A model runs alone, replicated (DDP) or split (FSDP2); the gradients that come out are those of the mean of the
processes' losses.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.models.language.checkpointing import outermost_blocks
from lavis.runners.config import RunConfig

T = TypeVar("T")


class _OnePass(nn.Module):
    """Runs any work on a model as one forward pass, so that wrappers see it, whichever parts of the model it calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Any], T]) -> T:
        """Return what the work returns."""
        return work(self.model)


class Parallel:
    """A model on the processes there are.

    Args:
        mode: "ddp" (every process holds the whole model, only gradients of what trains are exchanged) or "fsdp" (every
            process holds a share of each block, for models too large for one GPU); one process needs neither.
        find_unused_parameters: for objectives that leave parameters without gradient (DDP only).

    Attributes:
        module: what is called with the work of a training step.
        in_step: whether all processes must run the same passes, because they exchange weights meanwhile.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(self, model: Any, world: World, *, mode: str = "ddp", find_unused_parameters: bool = False) -> None:
        if mode not in ("ddp", "fsdp"):
            raise ConfigError(f"unknown run.distributed {mode!r}; known: ddp, fsdp")
        self._model = model
        self._ddp: DistributedDataParallel | None = None
        self._fsdp: FSDPModule | None = None
        self.module: nn.Module = _OnePass(model)
        self.in_step = mode == "fsdp" and world.size > 1
        if world.size == 1:
            return
        if self.in_step:
            self._fsdp = _split(self.module, world)
        else:
            self.module = self._ddp = DistributedDataParallel(
                self.module,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                broadcast_buffers=False,
                # Gradients lie in the exchange buffers: no second copy of them.
                gradient_as_bucket_view=True,
                find_unused_parameters=find_unused_parameters,
            )

    def syncing(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context for forward and backward; gradients are exchanged in the last one only."""
        if self._fsdp is not None:
            self._fsdp.set_requires_gradient_sync(last)
        if self._ddp is not None and not last:
            return self._ddp.no_sync()
        return contextlib.nullcontext()

    def evaluate(self, work: Callable[[Any], T]) -> T:
        """Run work on the model that needs no gradients; on a split model every process must do all of it."""
        if self._fsdp is None:
            return work(self._model)
        with torch.no_grad():
            result: T = self.module(work)
        return result


def _split(module: nn.Module, world: World) -> FSDPModule:
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in outermost_blocks(module):
        fully_shard(block, mesh=mesh)
    split: FSDPModule = fully_shard(module, mesh=mesh)
    # The buffers that weights are gathered into must not be made in inference mode, or training cannot use them.
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.unshard()
            part.reshard()
    return split


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that is split over processes as a whole one; all processes must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def distribute_like(values: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return whole values in the layout of a tensor that may be split over processes; the inverse of `full_tensor`.

    Values that are split already come back as they are.
    """
    if isinstance(values, DTensor):
        return values
    if isinstance(tensor, DTensor):
        return distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements)
    return values.to(tensor.device)


def local_share(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a tensor that may be split over processes."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def build_adamw(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
) -> AdamW:
    """Build the published optimizer, with its defaults; what has one dimension (biases, LayerNorms) does not decay."""
    trained = [parameter for _, parameter in named_parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr, betas=betas, eps=1e-8)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Gives the learning rate of a step; it holds no state, so a resumed run asks for the same rates.

    Linear warm-up over global steps, then a cosine that reaches `min_lr` at the last step or, with a `decay_rate`, a
    decay by this factor each epoch, down to `min_lr`. As published, warm-up happens within the first epoch only (the
    rate jumps if it is longer), and the cosine moves once an epoch and never reaches `min_lr`.

    Attributes:
        init_lr: the rate after warm-up.
        steps_per_epoch: optimizer iterations (batches) of an epoch.
        max_iters: steps of a run that ends before `max_epoch` does.
        warmup_start_lr: the rate of the very first step; below 0, as by default, it is `init_lr`.
    """

    init_lr: float
    min_lr: float
    max_epoch: int
    steps_per_epoch: int
    max_iters: int | None = None
    warmup_start_lr: float = -1.0
    warmup_steps: int = 0
    decay_rate: float | None = None
    as_published: bool = False

    def rate(self, *, epoch: int, step: int) -> float:
        """Return the rate at `step` (from 0) within `epoch` (from 0)."""
        now = epoch * self.steps_per_epoch + step
        start_lr = self.warmup_start_lr if self.warmup_start_lr >= 0 else self.init_lr
        warming = start_lr + (self.init_lr - start_lr) * now / max(self.warmup_steps, 1)
        if self.as_published and not epoch:
            return min(self.init_lr, warming)
        if not self.as_published and now < self.warmup_steps:
            return warming
        if self.decay_rate is not None:
            return max(self.min_lr, self.init_lr * self.decay_rate**epoch)
        angle = math.pi * epoch / self.max_epoch
        if not self.as_published:
            total = self.max_epoch * self.steps_per_epoch
            last = (total if self.max_iters is None else min(total, self.max_iters)) - 1
            angle = math.pi * min(1.0, (now - self.warmup_steps) / max(1, last - self.warmup_steps))
        return self.min_lr + (self.init_lr - self.min_lr) * 0.5 * (1 + math.cos(angle))


def build_schedule(run: RunConfig, *, steps_per_epoch: int) -> Schedule:
    """Build the schedule of learning rates."""
    return Schedule(
        init_lr=run.init_lr,
        min_lr=run.min_lr,
        max_epoch=run.max_epoch,
        steps_per_epoch=steps_per_epoch,
        max_iters=run.max_iters,
        warmup_start_lr=run.init_lr if run.warmup_lr is None else run.warmup_lr,
        warmup_steps=run.warmup_steps,
        decay_rate=run.lr_decay_rate if run.lr_sched == "linear_warmup_step_lr" else None,
        as_published=run.published_quirks,
    )


class MovingAverage:
    """Follows parameters exponentially; `decay` is the share of the average that is kept at each step."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], *, decay: float) -> None:
        self._parameters = dict(parameters)
        self._decay = decay
        self._mean = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights."""
        for name, parameter in self._parameters.items():
            self._mean[name].lerp_(parameter, 1 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the average as its weights while the block runs."""
        trained = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(trained)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the average by parameter name, laid out as the parameters are."""
        return dict(self._mean)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load what `state_dict` returned."""
        for name, value in self._mean.items():
            value.copy_(distribute_like(state[name], value))

    @torch.no_grad()
    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

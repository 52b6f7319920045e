"""How a model runs on several processes: alone, replicated (DDP) or split (FSDP2).

The gradients that come out are those of the mean of the processes' losses.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.models.language.checkpointing import outermost_blocks

T = TypeVar("T")


class _OnePass(nn.Module):
    """Runs any work on a model as one forward pass, so that wrappers see it, whichever parts of the model it calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Any], T]) -> T:
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
        if world.size == 1:
            return
        if mode == "fsdp":
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

    @property
    def in_step(self) -> bool:
        """See the class."""
        return self._fsdp is not None

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

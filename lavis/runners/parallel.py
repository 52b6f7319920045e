"""How a model runs on several processes: alone, replicated (DDP) or split (FSDP2).

The gradients that come out are those of the mean of the processes' losses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.models.language.checkpointing import outermost_blocks

T = TypeVar("T")


class OnePass(nn.Module):
    """Runs any work on a model as one forward pass, so that wrappers see it whole, whichever parts it calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Any], T]) -> T:
        """Return what the work returns for the model."""
        return work(self.model)


class Parallel(Protocol):
    """A way to run a model on the processes there are.

    Attributes:
        module: what is called with the work of a training step.
        in_step: whether all processes must run the same passes, because they exchange weights meanwhile.
    """

    module: nn.Module
    in_step: bool

    def syncing(self, *, last: bool) -> Any:
        """Return a context for forward and backward; gradients are exchanged in the last one only."""
        ...

    def evaluate(self, work: Callable[[Any], T]) -> T:
        """Run work on the model that needs no gradients."""
        ...


class Alone:
    """One process."""

    in_step = False

    def __init__(self, one_pass: OnePass) -> None:
        self.module: nn.Module = one_pass
        self._model = one_pass.model

    @contextmanager
    def syncing(self, *, last: bool) -> Iterator[None]:
        """Exchange nothing."""
        del last
        yield

    def evaluate(self, work: Callable[[Any], T]) -> T:
        """Call the work."""
        return work(self._model)


class Replicated:
    """Every process holds the whole model (DDP); only what trains is exchanged."""

    in_step = False

    def __init__(self, one_pass: OnePass, world: World, *, find_unused_parameters: bool = False) -> None:
        self._ddp = DistributedDataParallel(
            one_pass,
            device_ids=[world.device] if world.device.type == "cuda" else None,
            broadcast_buffers=False,
            # Gradients lie in the exchange buffers: no second copy of them.
            gradient_as_bucket_view=True,
            find_unused_parameters=find_unused_parameters,
        )
        self.module: nn.Module = self._ddp
        self._model = one_pass.model

    @contextmanager
    def syncing(self, *, last: bool) -> Iterator[None]:
        """Let DDP exchange gradients while it computes the last ones."""
        if last:
            yield
        else:
            with self._ddp.no_sync():
                yield

    def evaluate(self, work: Callable[[Any], T]) -> T:
        """Call the work."""
        return work(self._model)


class Split:
    """Every process holds a share of each block (FSDP2), for models too large for one GPU."""

    in_step = True

    def __init__(self, one_pass: OnePass, world: World) -> None:
        mesh = init_device_mesh(world.device.type, (world.size,))
        for block in outermost_blocks(one_pass):
            fully_shard(block, mesh=mesh)
        self._fsdp: FSDPModule = fully_shard(one_pass, mesh=mesh)
        # The buffers that weights are gathered into must not be made in inference mode, or training cannot use them.
        for module in one_pass.modules():
            if isinstance(module, FSDPModule):
                module.unshard()
                module.reshard()
        self.module: nn.Module = one_pass

    @contextmanager
    def syncing(self, *, last: bool) -> Iterator[None]:
        """Let FSDP reduce gradients with the last micro-batch only."""
        self._fsdp.set_requires_gradient_sync(last)
        yield

    def evaluate(self, work: Callable[[Any], T]) -> T:
        """Let every process do all of the work: passes must not differ between them."""
        with torch.no_grad():
            result: T = self.module(work)
        return result


def parallelise(one_pass: OnePass, world: World, *, mode: str, find_unused_parameters: bool = False) -> Parallel:
    """Wrap a model for the processes there are.

    Args:
        mode: "ddp" or "fsdp"; one process needs neither.
        find_unused_parameters: for objectives that leave parameters without gradient (DDP only).

    Raises:
        ConfigError: an unknown mode.
    """
    if mode not in ("ddp", "fsdp"):
        raise ConfigError(f"unknown run.distributed {mode!r}; known: ddp, fsdp")
    if world.size == 1:
        return Alone(one_pass)
    if mode == "fsdp":
        return Split(one_pass, world)
    return Replicated(one_pass, world, find_unused_parameters=find_unused_parameters)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that is split over processes as a whole one; all processes must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(values: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return whole values in the layout of a tensor that may be split over processes; the inverse of `whole`.

    Values that have this layout already come back as they are.
    """
    if isinstance(values, DTensor):
        return values
    if isinstance(tensor, DTensor):
        return torch.distributed.tensor.distribute_tensor(
            values.to(tensor.device), tensor.device_mesh, tensor.placements
        )
    return values.to(tensor.device)

"""What a run has to remember to go on exactly: tensors by name, and everything else."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from lavis.common.distributed import World


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        tensors: weights, moments of the optimizer and such; each may be split over the processes.
        rest: plain values and small tensors, which torch loads without running code.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


def prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values under longer names."""
    return {f"{prefix}{name}": value for name, value in values.items()}


def under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose names start so, by the rest of the name; the inverse of `prefixed`."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a tensor that may be split over processes."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def rng_state(world: World) -> dict[str, Any]:
    """Return the state of every random number generator of this process.

    Samples are drawn by generators of their own, seeded by epoch and index, so workers have none to keep.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
    }
    if world.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(world.device)
    return state


def set_rng_state(state: Mapping[str, Any], world: World) -> None:
    """Take up what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    random.setstate(state["python"])
    name, keys, *numbers = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *numbers))
    if world.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], world.device)

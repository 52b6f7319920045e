"""Writing and reading the state of a run: whole by the first process, or each process its own share."""

import hashlib
import io
import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError
from lavis.models.checkpoints.safe import read_weights, write_weights
from lavis.runners.checkpoints import Checkpoint, CheckpointStore
from lavis.runners.faults import shared_failure
from lavis.runners.manifest import RunShape
from lavis.runners.parallel import whole
from lavis.runners.sharded import ShardedWriter, read_shards
from lavis.runners.state import RunState, prefixed, under

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
STATE_FILE = "state.pt"
WEIGHTS = "weights."

# Says in which layout a tensor is wanted; None is whole, on the CPU.
Layout = Callable[[str], torch.Tensor | None]


class Saver(Protocol):
    """Makes checkpoints; every process calls it."""

    def save(self, state: RunState, *, step: int, shape: RunShape) -> None:
        """Write a checkpoint, or begin to."""
        ...

    def wait(self) -> None:
        """Wait until what was begun is complete."""
        ...


class WholeSaver:
    """The first process writes everything, and all wait for it."""

    def __init__(self, store: CheckpointStore, *, world: World) -> None:
        self._store, self._world = store, world

    def save(self, state: RunState, *, step: int, shape: RunShape) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the disk is full, or takes nothing.
            FaultError: the same, for the other processes.
        """
        tensors = {name: whole(value.detach()) for name, value in state.tensors.items()}
        with shared_failure(self._world):
            if self._world.is_main:
                self._write(RunState(tensors, state.rest), step=step, shape=shape)

    def wait(self) -> None:
        """Return at once: nothing is left to do."""

    def _write(self, state: RunState, *, step: int, shape: RunShape) -> None:
        made = self._store.begin(step)
        try:
            weights = under(WEIGHTS, state.tensors)
            others = {name: value.cpu() for name, value in state.tensors.items() if not name.startswith(WEIGHTS)}
            digests = {
                WEIGHTS_FILE: write_weights(made / WEIGHTS_FILE, weights, metadata={"format": "pt"}),
                STATE_FILE: write_state(made / STATE_FILE, {**state.rest, "tensors": others}),
            }
            self._store.finish(made, step=step, layout="whole", shape=shape, digests=digests)
        except OSError:
            self._store.discard(made)
            raise


class ShardedSaver:
    """Each process writes its own share, while training goes on.

    Args:
        timeout_s: how long a silent process is waited for.
    """

    def __init__(self, store: CheckpointStore, *, world: World, timeout_s: float) -> None:
        self._store, self._world = store, world
        self._writer = ShardedWriter(world, timeout_s=timeout_s)

    def save(self, state: RunState, *, step: int, shape: RunShape) -> None:
        """Copy the state, and begin to write it; an earlier one is waited for.

        Raises:
            OSError: the disk is full, or takes nothing.
            FaultError: the same, for the other processes.
        """
        self.wait()
        made, digests = None, {}
        with shared_failure(self._world):
            if self._world.is_main:
                made = self._store.begin(step)
                digests = {STATE_FILE: write_state(made / STATE_FILE, state.rest)}
        folder: Path = self._world.gather(made)[0]

        def finish() -> None:
            self._store.finish(folder, step=step, layout="sharded", shape=shape, digests=digests)

        self._writer.begin(state.tensors, folder, then=finish if self._world.is_main else None)

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is complete.

        Raises:
            FaultError: it could not be written.
        """
        with shared_failure(self._world):
            self._writer.wait()


def load_state(checkpoint: Checkpoint, *, layout: Layout, world: World) -> RunState:
    """Read the state of a run, whoever wrote it; every process calls this.

    Args:
        layout: how the tensors of a sharded checkpoint are wanted.

    Raises:
        CheckpointError: a file is damaged.
    """
    folder = checkpoint.folder
    rest = read_state(folder / STATE_FILE)
    if checkpoint.manifest.layout == "sharded":
        return RunState(read_shards(folder, layout=layout, world=world), rest)
    tensors = rest.pop("tensors")
    return RunState({**prefixed(WEIGHTS, read_weights(folder / WEIGHTS_FILE)), **tensors}, rest)


def write_state(file: Path, state: Mapping[str, Any]) -> str:
    """Write values that torch can load without running code, and return their sha256."""
    # Through memory: torch's own writer ends the process where a disk is full.
    content = io.BytesIO()
    torch.save(dict(state), content)
    file.write_bytes(content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()


def read_state(file: Path) -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises:
        CheckpointError: it is damaged, or holds more than values.
    """
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"{file} is damaged: {reason}") from error
    return state

"""Tensors that are split over processes, through torch's distributed checkpoints (DCP).

Every process writes the shares it holds, in a thread beside training; another number of processes can read them,
because each asks for the part it needs.
"""

import datetime
import io
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError, FaultError
from lavis.runners.faults import one_line

_METADATA = ".metadata"
# What torch's own metadata is made of, beside its classes; anything else in it is refused.
_CLASSES = "torch.distributed.checkpoint.metadata"
_OTHERS = frozenset(
    {
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        *((module, f"{kind}Path") for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    }
)


class ShardedWriter:
    """Writes shares in the background, one checkpoint at a time; every process has one.

    Args:
        timeout_s: how long a silent process is waited for.
    """

    def __init__(self, world: World, *, timeout_s: float = 1800.0) -> None:
        timeout = datetime.timedelta(seconds=timeout_s)
        # Training exchanges gradients meanwhile; what is said about checkpoints must not get between.
        self._group = dist.new_group(backend="gloo", timeout=timeout) if world.size > 1 else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def begin(self, tensors: Mapping[str, torch.Tensor], folder: Path, *, then: Callable[[], None] | None) -> None:
        """Copy the tensors, and return while they are being written.

        Args:
            then: called when all processes have written; for one process.
        """
        # Training must not change what is being written: what is not copied to the CPU anyway is copied here.
        copies = {name: _copy(value.detach()) for name, value in tensors.items()}
        writer = dcp.FileSystemWriter(folder, sync_files=True)
        # With another kind of stager than the default one, this would be more than a Future.
        writing = cast("Future[Any]", dcp.async_save(copies, storage_writer=writer, process_group=self._group))

        def complete() -> None:
            writing.result()
            if then is not None:
                then()

        self._pending = self._thread.submit(complete)

    def wait(self) -> None:
        """Wait for what was begun.

        Raises:
            FaultError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except CheckpointException as error:
            causes = [str(cause[0]) for cause in error.failures.values()]
            raise FaultError(f"the checkpoint could not be written: {one_line(causes[0])}") from error


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone() if tensor.device.type == "cpu" else tensor


def read_shards(folder: Path, *, layout: Callable[[str], torch.Tensor | None], world: World) -> dict[str, torch.Tensor]:
    """Read all tensors of a folder, each in the layout it is wanted in; every process calls this.

    Args:
        layout: a tensor laid out as the named one is wanted; None for whole ones.

    Raises:
        CheckpointError: the folder is damaged.
    """
    reader = _Reader(folder)
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in reader.read_metadata().state_dict_metadata.items():
        if isinstance(entry, TensorStorageMetadata):
            wanted = layout(name)
            fits = wanted is not None and wanted.shape == entry.size
            like = wanted if fits else None
            tensors[name] = (
                torch.empty(entry.size, dtype=entry.properties.dtype) if like is None else torch.empty_like(like)
            )
    try:
        dcp.load(tensors, storage_reader=reader, no_dist=world.size == 1)
    except CheckpointException as error:
        causes = [str(cause[0]) for cause in error.failures.values()]
        raise CheckpointError(f"{folder} is damaged: {one_line(causes[0])}") from error
    return tensors


class _Reader(dcp.FileSystemReader):
    """Reads metadata, which torch pickles, without running what it may carry."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._file = folder / _METADATA

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what is stored where.

        Raises:
            CheckpointError: it holds anything else.
        """
        del args, kwargs
        try:
            metadata = _Metadata(io.BytesIO(self._file.read_bytes())).load()
        except (OSError, EOFError, pickle.UnpicklingError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"{self._file} is damaged: {one_line(error)}") from error
        if not isinstance(metadata, Metadata):
            raise CheckpointError(f"{self._file} is damaged: it holds no metadata")
        return metadata


class _Metadata(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in _OTHERS or module == _CLASSES:
            found = super().find_class(module, name)
            if (module, name) in _OTHERS or (isinstance(found, type) and found.__module__ == _CLASSES):
                return found
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

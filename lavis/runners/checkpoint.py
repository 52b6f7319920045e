"""The checkpoints of a run: all it needs to resume exactly, in numbered folders that are complete or absent.

Every process writes the tensors that it holds, through torch's distributed checkpoint (DCP), and any number of
processes can read them. A folder is made under another name, flushed, sealed with the digests of its files, and only
then renamed. What is found damaged later is set aside, and the one before it is used. Beside them lies `best`, the
weights that validated best.
"""

import datetime
import hashlib
import io
import json
import logging
import os
import pickle
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from lavis.common import files
from lavis.common.distributed import World
from lavis.common.errors import CheckpointError, ConfigError, FaultError, first_line
from lavis.common.files import read_object, write_text
from lavis.models.base import TrainableModel
from lavis.models.checkpoints.weights_io import read_weights, write_weights
from lavis.runners.config import RunConfig
from lavis.runners.faults import shared_failure
from lavis.runners.optim import distribute_like, full_tensor
from lavis.selection.policies.trained import PART, WEIGHTS_FILE, FrameNetwork, as_metadata

logger = logging.getLogger(__name__)

MANIFEST, STATE_FILE, _METADATA = "manifest.json", "state.pt", ".metadata"
WEIGHTS = "weights."
# Before the names of a selector's weights, which have a file of their own: no model has a place for them.
_SELECTOR = f"{PART}.network."
BEST_FOLDER, BEST_FILE, _BEST_METRICS = "best", "model.safetensors", "metrics.json"
_NUMBERED = re.compile(r"step_(\d+)")
_UNFINISHED, _DAMAGED = ".unfinished_", "damaged_"
# What earlier versions wrote on one process or with DDP: weights, and a state that holds the other tensors.
_WHOLE, _WHOLE_WEIGHTS = "whole", "weights.safetensors"
# What torch's own metadata is made of, beside its classes; anything else in it is refused.
_METADATA_MODULE = "torch.distributed.checkpoint.metadata"
_METADATA_OTHERS = frozenset(
    {
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        *((module, f"{kind}Path") for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    }
)


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        tensors: weights, moments of the optimizer and such; each may be split over the processes.
        rest: plain values and small tensors, which torch loads without running code.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


def add_prefix(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values under longer names."""
    return {f"{prefix}{name}": value for name, value in values.items()}


def strip_prefix(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose names start with the prefix, by the rest of the name; the inverse of `add_prefix`."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


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
    """Load what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    random.setstate(state["python"])
    name, keys, *numbers = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *numbers))
    if world.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], world.device)


@dataclass(frozen=True)
class RunShape:
    """What a resumed run must have in common with the one before, or has to know about it.

    Attributes:
        num_samples: of an epoch.
        samples_per_step: of all processes together.
    """

    seed: int
    num_samples: int
    samples_per_step: int
    processes: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all there and undamaged, as its `manifest.json` describes it.

    Attributes:
        layout: "sharded"; "whole" where an earlier version wrote it.
        files: sha256 of each file, by its name in the folder.
    """

    folder: Path
    step: int
    layout: str
    shape: RunShape
    files: Mapping[str, str]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the manifest of a folder and compare every file with it.

    Raises:
        CheckpointError: the manifest or a file is missing or damaged.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        checkpoint = Checkpoint(folder, **{**content, "shape": RunShape(**content["shape"])})
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not complete: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged") from error
    for name, expected in checkpoint.files.items():
        try:
            _check_digest(folder / name, expected)
        except FileNotFoundError as error:
            raise CheckpointError(f"{folder} is not complete: it has no {name}") from error
        except OSError as error:
            raise CheckpointError(f"cannot read {folder / name}: {error.strerror}") from error
    return checkpoint


def _check_digest(file: Path, expected: str) -> None:
    if files.file_digest(file) != expected:
        raise CheckpointError(f"{file} is damaged: it fails its checksum")


def _flush(path: Path) -> None:
    """Make sure that a file, or the names in a folder, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class CheckpointStore:
    """The folder of the last `keep_last` checkpoints of one run; for one process."""

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self._folder = folder
        self._keep_last = keep_last

    def begin(self, step: int) -> Path:
        """Return an empty folder to write a checkpoint to."""
        self._clear()
        made = self._folder / f"{_UNFINISHED}{_name(step)}"
        made.mkdir(parents=True)
        return made

    def finish(self, made: Path, *, step: int, shape: RunShape, digests: Mapping[str, str]) -> None:
        """Make what was written to a folder of `begin` a checkpoint, and remove those that are too old.

        Args:
            digests: sha256 of files as they were meant to be written; that of the others is read from disk.

        Raises:
            CheckpointError: what can be read back is not what was written.
        """
        for name, expected in digests.items():
            _check_digest(made / name, expected)
        found = {file.name: digests.get(file.name) or files.file_digest(file) for file in sorted(made.iterdir())}
        for name in found:
            _flush(made / name)
        manifest = {"step": step, "layout": "sharded", "shape": asdict(shape), "files": found}
        write_text(made / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        _flush(made)
        target = self._folder / _name(step)
        if target.exists():
            self._set_aside(target)
        made.rename(target)
        _flush(self._folder)
        for old in self.steps()[: -self._keep_last]:
            self._set_aside(self._folder / _name(old))
        self._clear()

    def steps(self) -> list[int]:
        """Return the steps there are checkpoints of, oldest first."""
        names = [path.name for path in self._folder.glob("step_*")]
        return sorted(int(match[1]) for match in map(_NUMBERED.fullmatch, names) if match)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not damaged, or None; damaged ones are set aside."""
        for step in reversed(self.steps()):
            folder = self._folder / _name(step)
            try:
                return read_checkpoint(folder)
            except CheckpointError as error:
                aside = self._folder / f"{_DAMAGED}{folder.name}"
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
                logger.warning("a checkpoint is passed over and kept as %s: %s", aside.name, error)
        return None

    def _set_aside(self, folder: Path) -> None:
        """Rename a checkpoint to be removed: there is no moment at which a folder of its name is half removed."""
        folder.rename(self._folder / f"{_UNFINISHED}old_{folder.name}")

    def _clear(self) -> None:
        for leftover in self._folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _name(step: int) -> str:
    return f"step_{step:08d}"


class CheckpointSaver:
    """Writes checkpoints; every process calls it.

    Args:
        in_background: write a copy of the tensors while training goes on.
        timeout_s: how long a silent process is waited for.
    """

    def __init__(
        self, store: CheckpointStore, *, world: World, in_background: bool = False, timeout_s: float = 1800.0
    ) -> None:
        self._store, self._world = store, world
        timeout = datetime.timedelta(seconds=timeout_s)
        # Training exchanges gradients meanwhile; what is said about checkpoints must not get between.
        self._group = dist.new_group(backend="gloo", timeout=timeout) if world.size > 1 else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if in_background else None
        self._pending: Future[None] | None = None

    def save(self, state: RunState, *, step: int, shape: RunShape) -> None:
        """Write a checkpoint, or begin to; an earlier one is waited for.

        Raises:
            OSError: the disk is full, or takes nothing.
            FaultError: the checkpoint cannot be written, or another process cannot write its part.
        """
        self.wait()
        made, rest = None, b""
        with shared_failure(self._world):
            if self._world.is_main:
                made, rest = self._store.begin(step), packed(state.rest)
        folder: Path = self._world.gather(made)[0]
        tensors = {name: value.detach() for name, value in state.tensors.items()}
        writer = _Writer(folder, sync_files=True)
        if self._thread is not None:
            # Training must not change what is being written: what torch does not copy to the CPU anyway is copied here.
            copies = {name: value.clone() if value.device.type == "cpu" else value for name, value in tensors.items()}
            writing = cast("Future[Any]", dcp.async_save(copies, storage_writer=writer, process_group=self._group))
            self._pending = self._thread.submit(self._finish, writing.result, folder, rest, step, shape)
            return
        alone = self._group is None
        write = partial(dcp.save, tensors, storage_writer=writer, process_group=self._group, no_dist=alone)
        with shared_failure(self._world), _unwarned():
            self._finish(write, folder, rest, step, shape)

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is complete; errors as for `save`."""
        pending, self._pending = self._pending, None
        with shared_failure(self._world):
            if pending is not None:
                pending.result()

    def _finish(self, write: Callable[[], Any], folder: Path, rest: bytes, step: int, shape: RunShape) -> None:
        try:
            write()
            if self._world.is_main:
                (folder / STATE_FILE).write_bytes(rest)
                digests = {STATE_FILE: hashlib.sha256(rest).hexdigest()}
                self._store.finish(folder, step=step, shape=shape, digests=digests)
        except (CheckpointException, OSError) as error:
            # Its room may be what is missing.
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise
            raise _cause(error) from error


class _Writer(dcp.FileSystemWriter):
    """Lets a full disk be an OSError that says so; torch hides it behind an error of its own."""

    def write_data(self, *args: Any, **kwargs: Any) -> Any:
        """Write tensors, as the class above does."""
        try:
            return super().write_data(*args, **kwargs)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def _cause(error: CheckpointException) -> OSError | FaultError:
    cause = next(iter(error.failures.values()))[0]
    if isinstance(cause, OSError):
        return cause
    return FaultError(f"the checkpoint could not be written: {first_line(cause)}")


def packed(state: Mapping[str, Any]) -> bytes:
    """Return values as the content of a file that torch can load without running code."""
    content = io.BytesIO()
    torch.save(dict(state), content)
    return content.getvalue()


def read_state(file: Path) -> dict[str, Any]:
    """Read a file of `packed` values.

    Raises:
        CheckpointError: it is damaged, or holds more than values.
    """
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"{file} is damaged: {reason}") from error
    return state


# How tensors are wanted, by name or all of it but its last part: laid out as these; others are whole, on the CPU.
Layout = Mapping[str, torch.Tensor]


def load_state(checkpoint: Checkpoint, *, layout: Layout, world: World) -> RunState:
    """Read the state of a run, whoever wrote it; every process calls this.

    Raises:
        CheckpointError: a file is damaged.
    """
    folder = checkpoint.folder
    rest = read_state(folder / STATE_FILE)
    if checkpoint.layout == _WHOLE:
        tensors = rest.pop("tensors")
        return RunState({**add_prefix(WEIGHTS, read_weights(folder / _WHOLE_WEIGHTS)), **tensors}, rest)
    return RunState(read_tensors(folder, layout=layout, world=world), rest)


def read_tensors(folder: Path, *, layout: Layout, world: World) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint's folder; every process calls this.

    Raises:
        CheckpointError: the folder is damaged.
    """
    reader = _Reader(folder)
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in reader.read_metadata().state_dict_metadata.items():
        if isinstance(entry, TensorStorageMetadata):
            wanted = layout.get(name, layout.get(name.rpartition(".")[0]))
            if wanted is not None and wanted.shape == entry.size:
                tensors[name] = torch.empty_like(wanted)
            else:
                tensors[name] = torch.empty(entry.size, dtype=entry.properties.dtype)
    try:
        with _unwarned():
            dcp.load(tensors, storage_reader=reader, no_dist=world.size == 1)
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise CheckpointError(f"{folder} is damaged: {first_line(cause)}") from error
    return tensors


@contextmanager
def _unwarned() -> Iterator[None]:
    """Keep torch from warning that one process is not distributed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


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
            metadata = _MetadataUnpickler(io.BytesIO(self._file.read_bytes())).load()
        except (OSError, EOFError, pickle.UnpicklingError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"{self._file} is damaged: {first_line(error)}") from error
        if not isinstance(metadata, Metadata):
            raise CheckpointError(f"{self._file} is damaged: it holds no metadata")
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """Makes objects of the classes alone that torch describes a checkpoint with."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class by its name, if it is one of these."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in _METADATA_OTHERS or module == _METADATA_MODULE:
            found = super().find_class(module, name)
            if module != _METADATA_MODULE or (isinstance(found, type) and found.__module__ == _METADATA_MODULE):
                return found
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def find_checkpoint(store: CheckpointStore, run: RunConfig, *, num_samples: int, world: World) -> Checkpoint | None:
    """Return the checkpoint to resume from, if there is one; every process gets the same.

    Raises:
        ConfigError: the run was begun with something that cannot change.
    """
    if run.resume != "auto":
        return None
    found: Checkpoint | None = world.gather(store.newest() if world.is_main else None)[0]
    if found is None:
        return None
    shape = found.shape
    if shape.seed != run.seed:
        raise ConfigError(f"{run.output_dir} was begun with run.seed={shape.seed}, not {run.seed}; go on with that")
    if shape.num_samples != num_samples:
        raise ConfigError(
            f"{run.output_dir} was begun on {shape.num_samples} training samples, now there are {num_samples}; "
            "name another run.output_dir"
        )
    if shape.processes != world.size and run.published_quirks:
        raise ConfigError(
            f"{run.output_dir} was begun on {shape.processes} processes, not {world.size}; "
            "with run.published_quirks that would be another training"
        )
    return found


def trained_weights(model: TrainableModel) -> dict[str, torch.Tensor]:
    """Return copies of what trains, whole and on the CPU; every process must call this."""
    return {name: full_tensor(value.detach()).cpu().clone() for name, value in model.trainable_parameters()}


@torch.no_grad()
def load_trained(model: TrainableModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Load what `trained_weights` returned."""
    for name, parameter in model.trainable_parameters():
        parameter.copy_(distribute_like(weights[name], parameter))


def load_partial(model: TrainableModel, path: Path) -> list[str]:
    """Put a run's checkpoint, or what the model itself can load, over its weights; return the names of the parts.

    Raises:
        CheckpointError: nothing there, damaged, or weights that the model has no place for.
    """
    if not (path / _METADATA).is_file():
        return model.load_partial(path)
    weights = strip_prefix(WEIGHTS, read_tensors(path, layout={}, world=World()))
    return model.load_weights(without_selector(weights), place=path)


def without_selector(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights that are the model's own."""
    return {name: value for name, value in weights.items() if not name.startswith(_SELECTOR)}


def selector_in(model: TrainableModel) -> FrameNetwork | None:
    """Return the selector that trains within a model, if one does."""
    return getattr(getattr(model, PART, None), "network", None)


@dataclass(frozen=True)
class Best:
    """When the best weights were validated.

    Attributes:
        value: of the metric that decides; None without validation.
        epoch: -1 is before training.
    """

    value: float | None
    epoch: int
    iteration: int


class BestCheckpoint:
    """The folder `best` within that of a run; for one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / BEST_FOLDER
        self._new, self._old = folder / f".{BEST_FOLDER}.new", folder / f".{BEST_FOLDER}.old"

    def write(
        self,
        weights: Mapping[str, torch.Tensor],
        *,
        model_name: str,
        config: str,
        best: Best,
        metrics: Mapping[str, Any],
        selector: FrameNetwork | None = None,
        write_more: Callable[[Path], None] = lambda _: None,
    ) -> None:
        """Replace what is there; `config` is the model's, as JSON, and `write_more` adds files to a folder.

        Args:
            selector: where one trains within the model; its weights are among the others, and get a file of their own.
        """
        shutil.rmtree(self._new, ignore_errors=True)
        try:
            own, metadata = without_selector(weights), {"format": "pt", "model": model_name}
            sha256 = {BEST_FILE: write_weights(self._new / BEST_FILE, own, metadata=metadata)}
            if selector is not None:
                learned, file = strip_prefix(_SELECTOR, weights), self._new / WEIGHTS_FILE
                sha256[WEIGHTS_FILE] = write_weights(file, learned, metadata=as_metadata(selector))
            write_text(self._new / "config.json", config)
            write_more(self._new)
            # Of the one file that most runs have, as earlier versions wrote it.
            digests = sha256[BEST_FILE] if selector is None else sha256
            facts = {"epoch": best.epoch, "iteration": best.iteration, "value": best.value, "sha256": digests}
            write_text(self._new / _BEST_METRICS, json.dumps({**facts, "metrics": metrics}, indent=2) + "\n")
        except OSError:
            shutil.rmtree(self._new, ignore_errors=True)
            raise
        shutil.rmtree(self._old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(self._old)
        self._new.rename(self._folder)
        _flush(self._folder.parent)
        shutil.rmtree(self._old, ignore_errors=True)

    def find(self) -> Best | None:
        """Return when the weights that are there were validated; None if there are none, or they are damaged."""
        if not self._folder.exists() and self._old.exists():
            self._old.rename(self._folder)
        facts = read_object(self._folder / _BEST_METRICS)
        if facts is None or not {"epoch", "iteration", "value", "sha256"} <= facts.keys():
            return None
        expected = facts["sha256"] if isinstance(facts["sha256"], dict) else {BEST_FILE: facts["sha256"]}
        for file, sha256 in ((self._folder / name, sha256) for name, sha256 in expected.items()):
            if not file.is_file() or files.file_digest(file) != sha256:
                logger.warning("%s is damaged: the best weights so far are lost", file)
                return None
        return Best(facts["value"], facts["epoch"], facts["iteration"])

    def read(self) -> dict[str, torch.Tensor]:
        """Return the weights, those of a selector too.

        Raises:
            CheckpointError: there are none, or they are damaged.
        """
        file = self._folder / WEIGHTS_FILE
        selector = add_prefix(_SELECTOR, read_weights(file)) if file.is_file() else {}
        return {**read_weights(self._folder / BEST_FILE), **selector}

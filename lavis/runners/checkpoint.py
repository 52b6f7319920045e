"""The checkpoints of a run: numbered folders, each complete or absent, and the weights that validated best.

A folder is made under another name, flushed, sealed with the digests of its files, read again, and only then renamed.
What is found damaged later is set aside, and the one before it is used.
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
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.tensor import DTensor

from lavis.common.distributed import World
from lavis.common.errors import CheckpointError, ConfigError, FaultError
from lavis.common.files import write_text
from lavis.models.checkpoints.weights_io import read_weights, write_weights
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.names import to_ours
from lavis.models.sevila.published import FILES
from lavis.runners.config import RunConfig
from lavis.runners.faults import one_line, shared_failure
from lavis.runners.parallel import like, whole

logger = logging.getLogger(__name__)


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


MANIFEST = "manifest.json"
_CHUNK = 2**20


@dataclass(frozen=True)
class RunShape:
    """What a run cannot change while it goes on, or has to know about how it was.

    Attributes:
        num_samples: of an epoch.
        samples_per_step: of all processes together.
    """

    seed: int
    num_samples: int
    samples_per_step: int
    processes: int


@dataclass(frozen=True)
class Manifest:
    """The content of a `manifest.json`.

    Attributes:
        layout: "whole", or "sharded" where every process wrote its own share.
        files: sha256 of each file, by its name in the folder.
    """

    step: int
    layout: str
    shape: RunShape
    files: Mapping[str, str]


def seal(folder: Path, *, step: int, layout: str, shape: RunShape, digests: Mapping[str, str]) -> None:
    """Flush all files of a folder to disk, and write its manifest.

    Args:
        digests: sha256 of what was meant to be written, where it is known; the rest is read from disk.
    """
    files = {file.name: digests.get(file.name) or digest(file) for file in sorted(folder.iterdir())}
    for name in files:
        flush(folder / name)
    manifest = Manifest(step=step, layout=layout, shape=shape, files=files)
    write_text(folder / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
    flush(folder)


def verified(folder: Path) -> Manifest:
    """Read the manifest of a folder and compare every file with it.

    Raises:
        CheckpointError: the manifest or a file is missing or damaged.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**{**content, "shape": RunShape(**content["shape"])})
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not complete: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged") from error
    for name, expected in manifest.files.items():
        try:
            found = digest(folder / name)
        except FileNotFoundError as error:
            raise CheckpointError(f"{folder} is not complete: it has no {name}") from error
        except OSError as error:
            raise CheckpointError(f"cannot read {folder / name}: {error.strerror}") from error
        if found != expected:
            raise CheckpointError(f"{folder / name} is damaged: it fails its checksum")
    return manifest


def digest(file: Path) -> str:
    """Return the sha256 of a file."""
    summed = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            summed.update(chunk)
    return summed.hexdigest()


def flush(path: Path) -> None:
    """Make sure that a file, or the names in a folder, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(file: Path) -> dict[str, Any] | None:
    """Return the object that a JSON file holds, or None if there is none or it is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


_NUMBERED = re.compile(r"step_(\d+)")
_UNFINISHED = ".unfinished_"
_DAMAGED = "damaged_"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole."""

    folder: Path
    manifest: Manifest


class CheckpointStore:
    """The folder that the checkpoints of one run lie in; for one process.

    Args:
        keep_last: older ones are removed.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self._folder = folder
        self._keep_last = keep_last

    def begin(self, step: int) -> Path:
        """Return an empty folder to write a checkpoint to."""
        self._clear()
        made = self._folder / f"{_UNFINISHED}{_name(step)}"
        made.mkdir(parents=True)
        return made

    def finish(
        self, made: Path, *, step: int, layout: str, shape: RunShape, digests: Mapping[str, str] | None = None
    ) -> Path:
        """Make what was written to a folder of `begin` a checkpoint, and remove those that are too old.

        Args:
            layout: see `Manifest`.
            digests: sha256 of files as they were meant to be written.

        Raises:
            CheckpointError: what can be read back is not what was written.
        """
        seal(made, step=step, layout=layout, shape=shape, digests=digests or {})
        verified(made)
        target = self._folder / _name(step)
        if target.exists():
            # Set aside first: there is no moment at which a folder of this name is half removed.
            target.rename(self._folder / f"{_UNFINISHED}old_{target.name}")
        made.rename(target)
        flush(self._folder)
        for old in self.steps()[: -self._keep_last]:
            aside = self._folder / f"{_UNFINISHED}old_{_name(old)}"
            (self._folder / _name(old)).rename(aside)
        self._clear()
        return target

    def discard(self, made: Path) -> None:
        """Remove what was written to a folder of `begin`: its room may be what is missing."""
        shutil.rmtree(made, ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps there are checkpoints of, oldest first."""
        names = [path.name for path in self._folder.glob("step_*")]
        return sorted(int(match[1]) for match in map(_NUMBERED.fullmatch, names) if match)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not damaged, or None; damaged ones are set aside."""
        for step in reversed(self.steps()):
            folder = self._folder / _name(step)
            try:
                return Checkpoint(folder, verified(folder))
            except CheckpointError as error:
                aside = self._folder / f"{_DAMAGED}{folder.name}"
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
                logger.warning("a checkpoint is passed over and kept as %s: %s", aside.name, error)
        return None

    def _clear(self) -> None:
        for leftover in self._folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _name(step: int) -> str:
    return f"step_{step:08d}"


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


def build_saver(run: RunConfig, store: CheckpointStore, *, world: World) -> Saver:
    """Build what makes checkpoints."""
    if run.distributed == "fsdp" and world.size > 1:
        return ShardedSaver(store, world=world, timeout_s=run.distributed_timeout_s)
    return WholeSaver(store, world=world)


def find_checkpoint(store: CheckpointStore, run: RunConfig, *, num_samples: int, world: World) -> Checkpoint | None:
    """Return what to go on from, if there is anything; every process gets the same.

    Raises:
        ConfigError: the run was begun with something that cannot change.
    """
    if run.resume != "auto":
        return None
    found: Checkpoint | None = world.gather(store.newest() if world.is_main else None)[0]
    if found is None:
        return None
    shape = found.manifest.shape
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


# Files that a folder of weights may hold, the first that exists counts.
_WEIGHT_FILES = ("model.safetensors", "weights.safetensors")


def trained_weights(model: SeViLA) -> dict[str, torch.Tensor]:
    """Return copies of what trains, whole and on the CPU; every process must call this."""
    return {name: whole(value.detach()).cpu().clone() for name, value in model.trainable_parameters()}


@torch.no_grad()
def load_trained(model: SeViLA, weights: Mapping[str, torch.Tensor]) -> None:
    """Put back what `trained_weights` returned."""
    for name, parameter in model.trainable_parameters():
        parameter.copy_(like(weights[name], parameter))


def check_there(path: Path) -> None:
    """Make sure that there is something at a path of `model.finetuned`.

    Raises:
        CheckpointError: there is nothing.
    """
    if path.exists():
        return
    way_out = "set model.finetuned to weights that are there, such as the folder `best` of an earlier run"
    if path.name in FILES:
        way_out = f"download them with: sevila checkpoint fetch {path.name}"
    raise CheckpointError(f"no weights at {path}; {way_out}")


@torch.no_grad()
def lay_over(model: SeViLA, path: Path) -> list[str]:
    """Put the weights of a file over those of a model, and return the names of the parts it had.

    Args:
        path: a folder or `.safetensors` file of ours, or a published `.pth` file.

    Raises:
        CheckpointError: nothing there, damaged, or weights that the model has no place for.
    """
    file = path
    check_there(path)
    if path.is_dir():
        found = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"{path} holds no weights; looked for {' and '.join(_WEIGHT_FILES)}")
        file = found[0]
    weights = read_weights(file)
    parameters = dict(model.named_parameters())
    if not any(name in parameters for name in weights):
        weights = to_ours(weights)
    for name, value in weights.items():
        if name not in parameters:
            raise CheckpointError(f"{file} does not fit the model {model.config.name}: it has no {name}")
        if parameters[name].shape != value.shape:
            expected = list(parameters[name].shape)
            raise CheckpointError(f"{file} does not fit the model: {name} is {list(value.shape)}, not {expected}")
        parameters[name].copy_(value)
    return sorted({name.partition(".")[0] for name in weights})


BEST_FOLDER = "best"
BEST_FILE = "model.safetensors"
_METRICS = "metrics.json"


@dataclass(frozen=True)
class Best:
    """When the best weights came about.

    Attributes:
        value: of the figure that decides; None without validation.
        epoch: -1 is before training.
    """

    value: float | None
    epoch: int
    iteration: int


class BestWeights:
    """The folder `best` of a run; for one process.

    Args:
        folder: of the run.
    """

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
    ) -> None:
        """Replace what is there.

        Args:
            config: of the model, as JSON.
            metrics: all figures, by split.
        """
        shutil.rmtree(self._new, ignore_errors=True)
        try:
            sha256 = write_weights(self._new / BEST_FILE, weights, metadata={"format": "pt", "model": model_name})
            write_text(self._new / "config.json", config)
            facts = {"epoch": best.epoch, "iteration": best.iteration, "value": best.value, "sha256": sha256}
            write_text(self._new / _METRICS, json.dumps({**facts, "metrics": metrics}, indent=2) + "\n")
        except OSError:
            shutil.rmtree(self._new, ignore_errors=True)
            raise
        shutil.rmtree(self._old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(self._old)
        self._new.rename(self._folder)
        flush(self._folder.parent)
        shutil.rmtree(self._old, ignore_errors=True)

    def find(self) -> Best | None:
        """Return when the weights that are there came about; None if there are none, or they are damaged."""
        if not self._folder.exists() and self._old.exists():
            self._old.rename(self._folder)
        facts = read_json(self._folder / _METRICS)
        if facts is None or not {"epoch", "iteration", "value", "sha256"} <= facts.keys():
            return None
        file = self._folder / BEST_FILE
        if not file.is_file() or digest(file) != facts["sha256"]:
            logger.warning("%s is damaged: the best weights so far are lost", file)
            return None
        return Best(facts["value"], facts["epoch"], facts["iteration"])

    def read(self) -> dict[str, torch.Tensor]:
        """Return the weights.

        Raises:
            CheckpointError: there are none, or they are damaged.
        """
        return read_weights(self._folder / BEST_FILE)

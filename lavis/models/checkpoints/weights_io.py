"""Files of weights, and folders of saved models: reading, writing and comparing; reading runs nothing of a file.

PyTorch files are unpickled with `weights_only`, which refuses code; safetensors cannot carry any.
Both are mapped into memory: a tensor takes up room when it is used, and only as long. Both are checked for damage when
they are read: PyTorch records have checksums, and safetensors files written here carry one in their metadata.

A saved model is a folder with `config.json`, `model.safetensors`, `tokenizer/` and `manifest.json`, which names size
and sha256 of every file, and where each part came from. What the configuration says is the model's own business.
"""

import hashlib
import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from lavis.common.errors import CheckpointError, UserError, first_line
from lavis.common.files import file_digest, read_json, write_text, written_whole

StateDict = dict[str, torch.Tensor]
Shapes = Mapping[str, torch.Size]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# The last is that of a checkpoint in training.
_SINGLE_FILES = (WEIGHTS_FILE, "pytorch_model.bin", "weights.safetensors")

_HEADER_LENGTH = struct.Struct("<Q")
_METADATA, _CHECKSUM = "__metadata__", "sha256"  # the latter of everything behind the header
_BLOCK = 1 << 22
_DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# What a published PyTorch file may keep its weights under, beside optimizer, epoch and the like.
_WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict", "module")
# What torch.compile, FSDP and activation checkpointing put into the names of what they wrap.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_REPLICATED = "module."  # before every name: DistributedDataParallel, DataParallel
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)|class '([\w.]+)'")
# What the unpickler, zipfile and safetensors raise for damaged content, beside UnpicklingError.
_DAMAGE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, MemoryError, struct.error, zipfile.BadZipFile, zlib.error, SafetensorError),
)


def read_weights(path: str | Path) -> StateDict:
    """Read a safetensors or PyTorch file, told apart by content, to a flat state dict.

    Published PyTorch files wrap their state dict as `{"model": ...}` beside optimizer and epoch; only
    the weights are returned. What DDP, FSDP, torch.compile and activation checkpointing add to names is taken off.

    Raises:
        CheckpointError: the file is missing, damaged, carries code, or holds no state dict.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"no weights at {file}")
    try:
        weights = _read(file)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file} is refused: {_surplus(error)}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{file} is damaged: {first_line(error)}") from error
    return _unwrapped(weights, place=str(file))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return what a safetensors file says beside its weights; nothing for other files."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _read(file: Path) -> StateDict:
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    archive = zipfile.is_zipfile(file)
    # The length before a safetensors header may begin with the byte that pickles begin with.
    if archive or (start[:1] == b"\x80" and start[8:9] != b"{"):
        if file.suffix == ".safetensors":  # torch.load goes by this name
            raise CheckpointError(f"{file} is a PyTorch file under the name of another format; rename it to .pth")
        if archive:
            _check_sums(file)
        return _state_dict(torch.load(file, map_location="cpu", weights_only=True, mmap=archive), file)
    if start[8:9] == b"{":
        weights = load_file(file)
        _check_own_sum(file)
        return weights
    if start[:4] == b"PK\x03\x04":
        raise CheckpointError(f"{file} is damaged: its end is missing")
    raise CheckpointError(f"{file} is neither a safetensors nor a PyTorch file, or is damaged")


def write_weights(path: str | Path, weights: Mapping[str, torch.Tensor], *, metadata: Mapping[str, str]) -> str:
    """Write a safetensors file whole, and return its sha256."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        return stream_weights(file, weights, metadata=metadata)


def stream_weights(
    file: BinaryIO,
    weights: Mapping[str, torch.Tensor],
    *,
    metadata: Mapping[str, str],
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> str:
    """Write the safetensors format to an open file, one tensor after the other, and return the sha256.

    Args:
        dtypes: names of weights to store in another precision; each is converted when its turn comes,
            so no second copy of the model is held.
    """
    stored = {name: (dtypes or {}).get(name, tensor.dtype) for name, tensor in weights.items()}
    # Wide types first keeps every tensor aligned.
    order = sorted(weights, key=lambda name: (-stored[name].itemsize, name))
    checksum = hashlib.sha256()
    for name in order:
        checksum.update(_raw(weights[name], stored[name]))
    header: dict[str, Any] = {_METADATA: {**metadata, _CHECKSUM: checksum.hexdigest()}}
    end = 0
    for name in order:
        begin, end = end, end + weights[name].numel() * stored[name].itemsize
        shape = list(weights[name].shape)
        header[name] = {"dtype": _DTYPE_NAMES[stored[name]], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    for block in (_HEADER_LENGTH.pack(len(text)), text):
        file.write(block)
        digest.update(block)
    for name in order:
        raw = _raw(weights[name], stored[name])
        file.write(raw)
        digest.update(raw)
    file.flush()
    return digest.hexdigest()


def _raw(tensor: torch.Tensor, dtype: torch.dtype) -> memoryview:
    data = tensor.detach().to(dtype=dtype).cpu().contiguous().flatten()
    return data.view(torch.uint8).numpy().data


def _check_own_sum(file: Path) -> None:
    """Compare what a safetensors file holds with the checksum it carries; files of others carry none."""
    with safe_open(file, "pt") as header:
        wanted = (header.metadata() or {}).get(_CHECKSUM)
    if wanted is None:
        return
    found = hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(_HEADER_LENGTH.unpack(opened.read(_HEADER_LENGTH.size))[0], os.SEEK_CUR)
        while block := opened.read(_BLOCK):
            found.update(block)
    if found.hexdigest() != wanted:
        raise CheckpointError(f"{file} is damaged: it fails its checksum; get or save it again")


def _surplus(error: pickle.UnpicklingError) -> str:
    """Say what a file holds beside weights, and how to get rid of it."""
    found = _FOREIGN.search(str(error))
    if found is None:
        return "it holds more than weights, or is damaged"
    return (
        f"it holds more than weights ({found[1] or found[2]}), and reading that could run code; if you trust the file, "
        "save its weights alone: torch.save(torch.load(FILE, weights_only=False)['model'], 'weights.pth')"
    )


def _check_sums(file: Path) -> None:
    """Compare every record of a PyTorch file with its checksum; torch itself does not look at them."""
    with zipfile.ZipFile(file) as archive:
        # Torch stores its records as they are; a kilobyte of others may unpack to gigabytes.
        packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise CheckpointError(f"{file} is refused: {packed[0]} is compressed, which no PyTorch file is")
        if (broken := archive.testzip()) is not None:
            raise CheckpointError(f"{file} is damaged: {broken} fails its checksum")


def _state_dict(content: Any, file: Path) -> StateDict:
    inner = content
    if isinstance(content, dict):
        inner = next((content[key] for key in _WEIGHTS_KEYS if isinstance(content.get(key), dict)), content)
    entries = inner.items() if isinstance(inner, dict) else ()
    others = [name for name, value in entries if not (isinstance(name, str) and isinstance(value, torch.Tensor))]
    if len(others) == len(entries):
        raise CheckpointError(f"{file} holds no state dict: a mapping of names to tensors is needed")
    if others:
        kind = type(inner[others[0]]).__name__
        raise CheckpointError(f"{file} holds no state dict: {others[0]!r} is no tensor but {kind}; leave it out")
    return inner


def _unwrapped(weights: StateDict, *, place: str) -> StateDict:
    """Return weights under the names that they have in the model itself."""
    names = {name: _WRAPPERS.sub("", name) for name in weights}
    while names and all(name.startswith(_REPLICATED) for name in names.values()):
        names = {theirs: name.removeprefix(_REPLICATED) for theirs, name in names.items()}
    result = {names[theirs]: value for theirs, value in weights.items()}
    if len(result) < len(weights):
        doubled = Counter(names.values()).most_common(1)[0][0]
        raise CheckpointError(f"{place} holds {doubled} a second time, under the name that a wrapper gives it")
    return result


def state_of(model: nn.Module) -> StateDict:
    """Return every parameter and persistent buffer of a model once, under its first name."""
    persistent = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


def shapes_of(weights: Mapping[str, torch.Tensor]) -> Shapes:
    """Return the shapes of weights."""
    return {name: tensor.shape for name, tensor in weights.items()}


def misfits(shapes: Shapes, expected: Shapes) -> list[str]:
    """Say what is missing, unexpected or of another shape, each with a count and the first few; empty if all fits."""
    reshaped = [
        f"{name} {list(shapes[name])} instead of {list(expected[name])}"
        for name in expected
        if name in shapes and shapes[name] != expected[name]
    ]
    kinds = (
        ("missing", [name for name in expected if name not in shapes]),
        ("unexpected", [name for name in shapes if name not in expected]),
        ("of another shape", reshaped),
    )
    return [f"{len(found)} {kind} ({first_few(found)})" for kind, found in kinds if found]


def first_few(items: Sequence[str]) -> str:
    """Name the first few of a list, for messages."""
    return ", ".join(items[:3]) + (", ..." if len(items) > 3 else "")


@dataclass(frozen=True)
class Manifest:
    """What a saved model consists of.

    Attributes:
        files: number of bytes and sha256, by path relative to the folder.
        origins: part of the model -> the file it came from; empty for a model saved by training.
    """

    files: dict[str, tuple[int, str]]
    origins: dict[str, str]


def write_folder(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    *,
    name: str,
    config: str,
    tokenizer: Mapping[str, bytes],
    origins: Mapping[str, str] | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> None:
    """Write a model, or some of its parts, to a folder.

    Each file is replaced whole, and `config.json` comes last: a folder without it is not a model. It is taken away just
    before the first file is replaced, so that no reader sees old and new mixed. `config` is the content of
    `config.json`, `tokenizer` that of its files by name; see `Manifest` for `origins`.

    Raises:
        UserError: the folder cannot be written to.
        CheckpointError: the folder holds parts that `weights` lacks, and they would be lost.
    """
    _refuse_to_lose_parts(folder, weights)
    with written_whole(folder / WEIGHTS_FILE) as temporary:
        try:
            with temporary.open("wb") as file:
                sha256 = stream_weights(file, weights, metadata={"format": "pt", "model": name}, dtypes=dtypes)
            written = {WEIGHTS_FILE: (temporary.stat().st_size, sha256)}
            (folder / CONFIG_FILE).unlink(missing_ok=True)
            (folder / MANIFEST_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {folder / WEIGHTS_FILE}: {error.strerror}") from error
    contents = {f"{TOKENIZER_FOLDER}/{file}": content for file, content in tokenizer.items()}
    contents[CONFIG_FILE] = config.encode("utf-8")
    for path, content in contents.items():
        written[path] = (len(content), hashlib.sha256(content).hexdigest())
        if path != CONFIG_FILE:
            _write(folder / path, content)
    write_manifest(folder, written, origins=origins or {})
    _write(folder / CONFIG_FILE, contents[CONFIG_FILE])


def read_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Return a tokenizer's files as they stand in a folder; empty where there is no `tokenizer.json`."""
    if not (folder / TOKENIZER_FILES[0]).is_file():
        return {}
    return {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}


def write_manifest(folder: Path, files: Mapping[str, tuple[int, str]], *, origins: Mapping[str, str]) -> None:
    """Write the manifest of a folder."""
    listing = {name: {"bytes": num_bytes, "sha256": sha256} for name, (num_bytes, sha256) in files.items()}
    text = json.dumps({"files": listing, "origins": dict(origins)}, indent=2, ensure_ascii=False)
    write_text(folder / MANIFEST_FILE, text + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a folder, None where there is none; a CheckpointError says that it is damaged."""
    file = folder / MANIFEST_FILE
    if not file.is_file():
        return None
    try:
        content = read_json(file)
        files = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in content["files"].items()}
        return Manifest(files, {str(part): str(origin) for part, origin in content["origins"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def manifest_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Compare every listed file with what the manifest says of it; empty if all agree."""
    problems = []
    for name, (num_bytes, sha256) in manifest.files.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != num_bytes:
            problems.append(f"{name} has {file.stat().st_size} bytes instead of {num_bytes}")
        elif file_digest(file) != sha256:
            problems.append(f"{name} was changed: its sha256 is not the one in {MANIFEST_FILE}")
    return problems


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the weight files of a folder, or the file itself.

    Raises:
        CheckpointError: neither a file nor a folder with weights, or an index names a file that is not there.
    """
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"no weights at {path}")
        return (path,)
    for index in (path / name for name in _INDEX_FILES):
        if index.is_file():
            files = tuple(path / name for name in index_entries(index))
            for file in files:
                if not file.is_file():
                    raise CheckpointError(f"{file} is missing: {index.name} lists it")
            return files
    for name in _SINGLE_FILES:
        if (path / name).is_file():
            return (path / name,)
    raise CheckpointError(f"{path} holds no weights: neither {WEIGHTS_FILE} nor an index of several files")


def index_entries(index: Path) -> list[str]:
    """Return the file names that the index of a sharded model lists.

    Raises:
        CheckpointError: it is damaged, or names files elsewhere.
    """
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of weight files: {error}") from error
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", str(name)):
            raise CheckpointError(f"{index} names {name!r}, which is not a file beside it")
    return names


def _refuse_to_lose_parts(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that lack a module, down to its second name ("localizer.norm"), of which the folder holds some."""
    try:
        with safe_open(folder / WEIGHTS_FILE, "pt") as opened:
            there = opened.keys()
    except (OSError, SafetensorError):
        return
    lost = {_module(name) for name in there} - {_module(name) for name in weights}
    if lost:
        parts = sorted({module.partition(".")[0] for module in lost})
        raise CheckpointError(f"{folder} also holds {', '.join(parts)}, which would be lost; save to another folder")


def _module(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _write(path: Path, content: bytes) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(content)

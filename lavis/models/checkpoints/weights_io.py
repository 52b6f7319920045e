"""Reading, writing and comparing weights; reading runs nothing that a file carries.

PyTorch files are unpickled with `weights_only`, which refuses code; safetensors cannot carry any.
Both are mapped into memory: a tensor takes up room when it is used, and only as long. Both are checked for damage when
they are read: PyTorch records have checksums, and safetensors files written here carry one in their metadata.
"""

import hashlib
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lavis.common.errors import CheckpointError, UserError, first_line
from lavis.common.files import parse_json, written_whole

StateDict = dict[str, torch.Tensor]
Shapes = Mapping[str, torch.Size]

_HEADER_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 100_000_000  # as the safetensors format allows
METADATA, _CHECKSUM = "__metadata__", "sha256"  # the latter of everything behind the header
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


def write_weights(
    path: str | Path,
    weights: Mapping[str, torch.Tensor],
    *,
    metadata: Mapping[str, str],
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> str:
    """Write a safetensors file whole, one tensor after the other, and return its sha256.

    Args:
        dtypes: names of weights to store in another precision; each is converted when its turn comes,
            so no second copy of the model is held.
    """
    with written_whole(path) as temporary, temporary.open("wb") as file:
        return stream_weights(file, weights, metadata=metadata, dtypes=dtypes)


def stream_weights(
    file: BinaryIO,
    weights: Mapping[str, torch.Tensor],
    *,
    metadata: Mapping[str, str],
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> str:
    """Write the safetensors format to an open file; see `write_weights`."""
    stored = {name: (dtypes or {}).get(name, tensor.dtype) for name, tensor in weights.items()}
    # Wide types first keeps every tensor aligned.
    order = sorted(weights, key=lambda name: (-stored[name].itemsize, name))
    checksum = hashlib.sha256()
    for name in order:
        checksum.update(_raw(weights[name], stored[name]))
    header: dict[str, Any] = {METADATA: {**metadata, _CHECKSUM: checksum.hexdigest()}}
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


def read_header(opened: BinaryIO) -> dict[str, Any]:
    """Read the header of a safetensors file, up to where its numbers begin.

    Raises:
        ValueError: it is none.
    """
    length = int.from_bytes(opened.read(_HEADER_LENGTH.size), "little")
    header = parse_json(opened.read(length)) if length <= _MAX_HEADER_BYTES else None
    if not isinstance(header, dict):
        raise ValueError("it has no header")
    return header


def _check_own_sum(file: Path) -> None:
    """Compare what a safetensors file holds with the checksum it carries; files of others carry none."""
    with file.open("rb") as opened:
        wanted = (read_header(opened).get(METADATA) or {}).get(_CHECKSUM)
        if wanted is None:
            return
        found = hashlib.sha256()
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

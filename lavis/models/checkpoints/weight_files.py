"""The files of a saved model, and the files that weights lie in.

A saved model is a folder with `config.json`, `model.safetensors`, `tokenizer/` and `manifest.json`, which names size
and sha256 of every file, and where each part came from. What the configuration says is the model's own business.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lavis.common.errors import CheckpointError, UserError
from lavis.common.files import file_digest, read_json, write_text, written_whole
from lavis.models.checkpoints.weights_io import METADATA, read_header, stream_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# The last is that of a checkpoint in training.
_SINGLE_FILES = (WEIGHTS_FILE, "pytorch_model.bin", "weights.safetensors")


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

    Each file is replaced whole, and `config.json` comes last: a folder without it is not a model. It
    is taken away just before the first file is replaced, so that no reader sees old and new mixed.

    Args:
        name: of the model.
        config: content of `config.json`.
        tokenizer: content of the tokenizer's files by name.
        origins: see `Manifest`.
        dtypes: see `write_weights`.

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
    """Read the manifest of a folder; None where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
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
        with (folder / WEIGHTS_FILE).open("rb") as opened:
            there = read_header(opened).keys() - {METADATA}
    except (OSError, ValueError):
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

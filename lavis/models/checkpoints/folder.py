"""The folder of a saved model: `config.json`, `model.safetensors`, `tokenizer/` and `manifest.json`."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from lavis.common.errors import CheckpointError, UserError
from lavis.common.files import written_whole
from lavis.models.checkpoints.manifest import (
    MANIFEST_FILE,
    FileDigest,
    digest_bytes,
    write_manifest,
)
from lavis.models.checkpoints.safe import stream_weights
from lavis.models.checkpoints.schemes import group_of
from lavis.models.checkpoints.sources import WEIGHTS_FILE
from lavis.models.sevila.config import SeViLAConfig

CONFIG_FILE = "config.json"
TOKENIZER_FOLDER = "tokenizer"
# As the safetensors format allows.
_MAX_HEADER_BYTES = 100_000_000
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def write_folder(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    *,
    config: SeViLAConfig,
    tokenizer: Mapping[str, bytes],
    origins: Mapping[str, str] | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> None:
    """Write a model, or some of its parts, to a folder.

    Each file is replaced whole, and `config.json` comes last: a folder without it is not a model. It
    is taken away just before the first file is replaced, so that no reader sees old and new mixed.

    Args:
        tokenizer: content of the tokenizer's files by name.
        origins: see `Manifest`.
        dtypes: see `write_weights`.

    Raises:
        UserError: the folder cannot be written to.
        CheckpointError: the folder holds parts that `weights` lacks, and they would be lost.
    """
    _refuse_to_lose_parts(folder, weights)
    metadata = {"format": "pt", "model": config.name}
    with written_whole(folder / WEIGHTS_FILE) as temporary:
        try:
            with temporary.open("wb") as file:
                sha256 = stream_weights(file, weights, metadata=metadata, dtypes=dtypes)
            written = {WEIGHTS_FILE: FileDigest(temporary.stat().st_size, sha256)}
            (folder / CONFIG_FILE).unlink(missing_ok=True)
            (folder / MANIFEST_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {folder / WEIGHTS_FILE}: {error.strerror}") from error
    contents = {f"{TOKENIZER_FOLDER}/{name}": content for name, content in tokenizer.items()}
    contents[CONFIG_FILE] = config.as_json().encode("utf-8")
    for name, content in contents.items():
        written[name] = digest_bytes(content)
        if name != CONFIG_FILE:
            _write(folder / name, content)
    write_manifest(folder, written, origins=origins or {})
    _write(folder / CONFIG_FILE, contents[CONFIG_FILE])


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """Return the files a tokenizer saves."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        return {file.name: file.read_bytes() for file in sorted(Path(name).iterdir()) if file.is_file()}


def read_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Return a tokenizer's files as they stand in a folder; empty where there is no `tokenizer.json`."""
    if not (folder / TOKENIZER_FILES[0]).is_file():
        return {}
    return {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}


def stored_groups(file: Path) -> frozenset[str]:
    """Return the groups of weights in a safetensors file of ours, from its header alone; empty if unreadable."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length < _MAX_HEADER_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return frozenset()
    names = header if isinstance(header, dict) else ()
    return frozenset(group_of(name) for name in names if name != "__metadata__")


def _refuse_to_lose_parts(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    lost = stored_groups(folder / WEIGHTS_FILE) - frozenset(map(group_of, weights))
    if lost:
        parts = sorted({group.partition(".")[0] for group in lost})
        raise CheckpointError(f"{folder} also holds {', '.join(parts)}, which would be lost; save to another folder")


def _write(path: Path, content: bytes) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(content)

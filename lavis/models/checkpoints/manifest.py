"""The manifest of a saved model: size and sha256 of every file, and where each part came from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lavis.common.errors import CheckpointError
from lavis.common.files import read_json, write_text

MANIFEST_FILE = "manifest.json"
_BLOCK = 1 << 22


@dataclass(frozen=True)
class FileDigest:
    """What a file must be."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a saved model consists of.

    Attributes:
        files: by path relative to the folder.
        origins: part of the model -> the file it came from; empty for a model saved by training.
    """

    files: dict[str, FileDigest]
    origins: dict[str, str]


def digest_file(path: Path) -> FileDigest:
    """Measure and hash a file, block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return FileDigest(path.stat().st_size, digest.hexdigest())


def digest_bytes(content: bytes) -> FileDigest:
    """Measure and hash what a file will hold."""
    return FileDigest(len(content), hashlib.sha256(content).hexdigest())


def write_manifest(folder: Path, files: Mapping[str, FileDigest], *, origins: Mapping[str, str]) -> None:
    """Write the manifest of a folder."""
    listing = {name: {"bytes": file.num_bytes, "sha256": file.sha256} for name, file in files.items()}
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
        files = {
            name: FileDigest(int(entry["bytes"]), str(entry["sha256"])) for name, entry in content["files"].items()
        }
        return Manifest(files, {str(part): str(origin) for part, origin in content["origins"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def manifest_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Compare every listed file with what the manifest says of it; empty if all agree."""
    problems = []
    for name, wanted in manifest.files.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != wanted.num_bytes:
            problems.append(f"{name} has {file.stat().st_size} bytes instead of {wanted.num_bytes}")
        elif digest_file(file).sha256 != wanted.sha256:
            problems.append(f"{name} was changed: its sha256 is not the one in {MANIFEST_FILE}")
    return problems

"""What a checkpoint says about itself: its files with their digests, and the run it belongs to."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lavis.common.errors import CheckpointError
from lavis.common.files import write_text

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

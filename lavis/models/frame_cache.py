"""Frame tokens on disk: a video is watched once over all runs.

Tokens of both roles are kept, not the vision tower's features: they are all that questions need, and they are smaller
(a frame takes 256 KiB at Flan-T5-XL size in bf16 where its features take 707, and 192 KiB at base size in fp32 instead
of 771). What is lost by that is small: a newly trained visual prompter watches its videos again.
"""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from lavis.common import defaults
from lavis.common.defaults import VERSION
from lavis.common.errors import ConfigError, UserError
from lavis.common.files import written_whole

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = defaults.CACHE_GIB * 2**30
_ENDING = ".tokens"
_LAYOUT = 1
_DIGEST_BYTES = 32
# Whatever a process that was killed has left half written is nobody's any more after so long.
_LEFTOVER_S = 24 * 3600

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class CacheUsage:
    """How many entries there are, and how many bytes they take."""

    entries: int
    num_bytes: int


class FrameCache:
    """Tensors by key in a folder of bounded size, safe for any number of processes at once.

    An entry is written beside its place and moved there, so nobody reads half of one. It carries a checksum; an entry
    that is damaged counts as missing. When the folder is full, entries that were not used for longest go first; whoever
    is just reading one of them has it open and reads it to its end. A folder that cannot be written to costs a warning,
    not the answer.

    Args:
        folder: None is the folder `SEVILA_CACHE` names, or else `~/.cache/sevila/frames`.
        max_bytes: what all entries may take together.

    Raises:
        ConfigError: the folder is a file, or the bound is less than one byte.

    Example:
        >>> video = lavis.load_model("sevila", "tiny").watch("clip.mp4", cache=FrameCache())
    """

    def __init__(self, folder: str | Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self.max_bytes = max_bytes
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"the cache {self.folder} is a file; name a folder")
        if max_bytes < 1:
            raise ConfigError(f"a cache of {max_bytes} bytes holds nothing; allow it at least 1")

    def read(self, key: str) -> Tensors | None:
        """Return the tensors kept under a key, on the CPU; None where there are none that are whole."""
        file = self._file(key)
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("the frame cache cannot be read (%s); watching again", error)
            return None
        payload = content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:_DIGEST_BYTES]:
            logger.warning("%s is damaged; watching again", file)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # systems are often told not to note by themselves when a file is read
        try:
            return load(payload)
        except SafetensorError:
            logger.warning("%s is damaged; watching again", file)
            return None

    def write(self, key: str, tensors: Tensors) -> None:
        """Keep tensors under a key, and let others go where there is no room."""
        payload = save({name: value.contiguous().cpu() for name, value in tensors.items()})
        if _DIGEST_BYTES + len(payload) > self.max_bytes:
            return
        try:
            with written_whole(self._file(key)) as temporary:
                temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
        except (OSError, UserError) as error:
            logger.warning("the frame cache cannot be written (%s); going on without", error)
            return
        self._make_room()

    def usage(self) -> CacheUsage:
        """Count what is there."""
        sizes = [status.st_size for _, status in self._entries()]
        return CacheUsage(len(sizes), sum(sizes))

    def clear(self) -> CacheUsage:
        """Remove every entry, and nothing else that lies in the folder; return what was removed."""
        removed = self.usage()
        for file, _ in self._entries():
            file.unlink(missing_ok=True)
        self._remove_leftovers()
        return removed

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}{_ENDING}"

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for file in self.folder.glob(f"[0-9a-f]*{_ENDING}"):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                yield file, file.stat()

    def _make_room(self) -> None:
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        excess = sum(status.st_size for _, status in entries) - self.max_bytes
        for file, status in entries:
            if excess <= 0:
                break
            with contextlib.suppress(OSError):  # some systems keep what is being read
                file.unlink(missing_ok=True)
                excess -= status.st_size
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for file in self.folder.glob(f".*{_ENDING}"):
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > _LEFTOVER_S:
                    file.unlink()


def default_folder() -> Path:
    """Return the folder of the cache where none is named."""
    return Path(os.environ.get("SEVILA_CACHE") or Path.home() / ".cache" / "sevila" / "frames")


def entry_key(**facts: Any) -> str:
    """Return the key of what depends on these facts (JSON values), and on this version of the package."""
    everything = {"layout": _LAYOUT, "version": VERSION, **facts}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

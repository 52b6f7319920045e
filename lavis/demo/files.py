"""The folder of everything visitors upload and the page makes for them, and its cleaning."""

import os
import re
import secrets
import shutil
import stat
import threading
import time
from pathlib import Path

from lavis.common.errors import VideoError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MADE = "made"
_KEPT = "kept"


class VisitorFiles:
    """Files of visitors, each in a folder with a name that nobody can guess.

    Gradio serves what lies in here to whoever knows the path, which is only who uploaded or asked for it.

    Args:
        folder: where Gradio puts uploads.
        keep_s: older files are removed by `sweep`.
    """

    def __init__(self, folder: Path, *, keep_s: float) -> None:
        self.folder = folder.resolve()
        self._keep_s = keep_s

    def new_path(self, name: str) -> Path:
        """Return the path for a file to be made, in a folder of its own."""
        folder = self.folder / _MADE / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder / (_UNSAFE.sub("_", name).lstrip(".") or "file")

    def keep_forever(self, name: str) -> Path:
        """Make a folder for what the page itself shows to everybody, which is not swept."""
        folder = self.folder / _KEPT / name
        folder.mkdir(parents=True)
        return folder

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.new_path(name)
        path.write_bytes(content)
        return path

    def uploaded(self, path: str) -> Path:
        """Return an uploaded file.

        Raises:
            VideoError: the path is not that of an upload, whatever else it may name.
        """
        try:
            resolved = Path(path).resolve(strict=True)
            inside = resolved.relative_to(self.folder)
            regular = stat.S_ISREG(resolved.stat().st_mode)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
            raise VideoError("This video is no longer here; upload it again.") from None
        # Uploads lie at HASH/name; temporary and made files do not.
        if not regular or len(inside.parts) != 2 or inside.parts[0] in (_MADE, _KEPT):
            raise VideoError("This video is no longer here; upload it again.")
        return resolved

    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(entry.st_size for _, entry in self._entries())

    def sweep(self) -> None:
        """Remove what is older than it may get, and folders that are empty."""
        oldest = time.time() - self._keep_s
        for path, entry in self._entries():
            if entry.st_mtime < oldest:
                path.unlink(missing_ok=True)
        for folder in [*self.folder.glob("*"), *(self.folder / _MADE).glob("*")]:
            if folder.is_dir() and folder.name not in (_MADE, _KEPT) and not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.folder.rglob("*"):
            if path.is_relative_to(self.folder / _KEPT):
                continue
            try:
                entry = path.lstat()
            except FileNotFoundError:  # removed meanwhile
                continue
            if not stat.S_ISDIR(entry.st_mode):
                found.append((path, entry))
        return found


class Sweeper(threading.Thread):
    """Sweeps every so often until it is stopped."""

    def __init__(self, files: VisitorFiles, *, every_s: float) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._files = files
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sweep."""
        while not self._stopped.wait(self._every_s):
            self._files.sweep()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

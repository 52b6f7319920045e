"""The folder of a running page, and in it everything that visitors upload and the page makes for them."""

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lavis.common.errors import VideoError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there a killed page's folder stays.
    fcntl = None  # type: ignore[assignment]

_PREFIX = "sevila_demo_"
_LOCK = "lock"
_TRIES = 5
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MADE = "made"
_KEPT = "kept"


@contextmanager
def visitors_folder() -> Iterator[Path]:
    """Make a folder for the block, after removing those of pages that no longer run."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        stack.callback(lambda: _remove(folder))
        if fcntl is not None:
            _remove_left(folder.parent)
            # The system takes the lock from a process that dies, however it dies. It is one of this opened file, not
            # of the process, which may serve several pages.
            lock = stack.enter_context((folder / _LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Only now does it get the name that other pages look for, so they never see it without a lock.
            folder = folder.rename(folder.with_name(folder.name[1:]))
        visitors = folder.resolve() / "files"  # Gradio takes a path through a link for one from elsewhere
        visitors.mkdir()
        yield visitors


def _remove_left(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, not ours, or being removed by another page
            if folder.lstat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder that a thread may still be writing to."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


class VisitorFiles:
    """Files of visitors, each in a folder with a name that nobody can guess (128 random bits).

    What lies in here is served to whoever knows the path, which is only who uploaded or asked for it; an upload with an
    owner, to nobody else. `sweep` removes files older than `keep_s`.
    """

    def __init__(self, folder: Path, *, keep_s: float) -> None:
        self.folder = folder.resolve()
        self._keep_s = keep_s
        self._owners: dict[str, str] = {}
        # Later on no parent folder is made, so that nothing comes back once the folder is removed.
        for name in (_MADE, _KEPT):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def new_path(self, name: str) -> Path:
        """Return the path for a file to be made, in a folder of its own."""
        folder = self.folder / _MADE / secrets.token_hex(16)
        folder.mkdir()
        return folder / (_UNSAFE.sub("_", name).lstrip(".") or "file")

    def keep_forever(self, name: str) -> Path:
        """Make a folder for what the page shows to everybody; it is not swept."""
        folder = self.folder / _KEPT / name
        folder.mkdir()
        return folder

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.new_path(name)
        path.write_bytes(content)
        return path

    def take(self, name: str, content: BinaryIO, *, owner: str | None = None) -> Path:
        """Keep an upload, whole or not at all; without an `owner` whoever knows the path may name it.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        with contextlib.ExitStack() as undo:  # half an upload is nobody's
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            with (folder / name).open("xb") as file:
                shutil.copyfileobj(content, file)
            undo.pop_all()
        if owner is not None:
            self._owners[folder.name] = owner
        return folder / name

    def uploaded(self, path: str) -> Path:
        """Return an uploaded file; a VideoError says that the path is not that of one."""
        inside = self._inside(path)
        # Uploads lie at TOKEN/name; temporary and made files do not.
        if inside is None or len(inside.parts) != 2 or inside.parts[0] in (_MADE, _KEPT):
            raise VideoError("This video is no longer here; upload it again.")
        return self.folder / inside

    def is_anothers(self, path: str, visitor: str | None) -> bool:
        """Whether a path is that of an upload with another owner."""
        inside = self._inside(path)
        return inside is not None and self._owners.get(inside.parts[0], visitor) != visitor

    def may_be_read(self, path: str) -> bool:
        """Whether a path is that of an upload, a made file or a shipped clip, and nothing else."""
        inside = self._inside(path)
        return inside is not None and len(inside.parts) == (3 if inside.parts[0] in (_MADE, _KEPT) else 2)

    def _inside(self, path: str) -> Path | None:
        """Return where in the folder a file lies, or None where it lies elsewhere, or is none."""
        try:
            resolved = Path(path).resolve(strict=True)
            inside = resolved.relative_to(self.folder)
            return inside if stat.S_ISREG(resolved.stat().st_mode) else None
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
            return None

    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(entry.st_size for _, entry in self._entries())

    def sweep(self) -> None:
        """Remove files older than `keep_s`, and empty folders."""
        oldest = time.time() - self._keep_s
        for path, entry in self._entries():
            if entry.st_mtime < oldest:
                path.unlink(missing_ok=True)
        for folder in [*self.folder.glob("*"), *(self.folder / _MADE).glob("*")]:
            if folder.is_dir() and folder.name not in (_MADE, _KEPT) and not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
                self._owners.pop(folder.name, None)

    @contextmanager
    def swept(self, *, every_s: float) -> Iterator[None]:
        """Sweep in a thread, every `every_s`, during the block."""
        ended = threading.Event()

        def sweep() -> None:
            while not ended.wait(every_s):
                self.sweep()

        threading.Thread(target=sweep, name="sweeper", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

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

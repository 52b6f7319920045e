"""The folder of a running page: nothing of it outlives the page, and a killed one's goes when the next one starts."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks; there a killed page's folder stays.
    fcntl = None  # type: ignore[assignment]

_PREFIX = "sevila_demo_"
_LOCK = "lock"
_TRIES = 5


@contextmanager
def visitors_folder() -> Iterator[Path]:
    """Have a new folder for the block; those of pages that are no longer running are removed first."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        stack.callback(lambda: _remove(folder))
        if fcntl is not None:
            _remove_left(folder.parent)
            # The system takes the lock from a process that dies, however it dies. It is one of this opened file, not
            # of the process, which may serve several pages.
            lock = stack.enter_context((folder / _LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Only now it gets the name that others look for: they never see it without a lock.
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

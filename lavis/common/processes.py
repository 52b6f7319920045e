"""Locking the folder of a run, and ending with torchrun; quick to import."""

import contextlib
import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lavis.common.errors import ConfigError, FaultError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there the promise is not kept.
    fcntl = None  # type: ignore[assignment]

_LOCK_FILE = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)
_SECONDS_BETWEEN_LOOKS, _PATIENCE_S = 1.0, 60.0
# Noted at once: that process may end while libraries are imported, and then another one takes its place.
_PARENT = os.getppid()


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes while the block runs; make it where it is missing.

    The system takes the lock from a process that dies, however it dies. A folder where files cannot be locked or made
    (some network file systems, read-only ones) goes without.

    Raises:
        ConfigError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / _LOCK_FILE).open("a+", encoding="utf-8"))
                _lock(file.fileno(), folder)
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
        yield


def _lock(descriptor: int, folder: Path) -> None:
    try:
        # Not `flock`: processes that read data would inherit it, and outlive a killed run by seconds.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        holder = (folder / _LOCK_FILE).read_text(encoding="utf-8") or "another process"
        raise ConfigError(
            f"{folder} is in use by {holder}; wait until it has ended, or name another run.output_dir"
        ) from error


def end_with_torchrun() -> None:
    """Send this process SIGTERM when the torchrun that started it has ended, also where that was killed.

    Raises:
        FaultError: it has ended already.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    threading.Thread(target=_wait_and_end, daemon=True).start()
    # It may have ended before this process could note it.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        try:
            socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), _PATIENCE_S).close()
        except ConnectionRefusedError as error:
            raise FaultError("torchrun, which started this process, has ended") from error


def _wait_and_end() -> None:
    while os.getppid() == _PARENT:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)

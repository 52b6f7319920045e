"""One run to a folder."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lavis.common.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there the promise is not kept.
    fcntl = None  # type: ignore[assignment]

_FILE = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Have a folder for the block, and let no other process have it meanwhile; it is made where it is missing.

    The system takes the lock from a process that dies, however it dies. A folder where files cannot be locked or made
    (some network file systems, read-only ones) goes without.

    Raises:
        ConfigError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / _FILE).open("a+", encoding="utf-8"))
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
        holder = (folder / _FILE).read_text(encoding="utf-8") or "another process"
        raise ConfigError(
            f"{folder} is in use by {holder}; wait until it has ended, or name another run.output_dir"
        ) from error

"""How a run ends other than by itself: faults of what it stands on, each said in one line, and SIGTERM."""

import errno
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch.distributed as dist

from lavis.common.distributed import World
from lavis.common.errors import FaultError, TerminatedError, UserError, first_line, is_out_of_memory

_GO_ON = "go on from what is saved with run.resume=auto"
# torch and gloo tell these apart from other RuntimeErrors by their text alone.
_READER = re.compile(r"^DataLoader (worker \(pid.*(exited unexpectedly|killed by signal)|timed out)")
_PEER = re.compile(r"gloo|c10d|NCCL|Connection (closed|reset) by peer|Socket Timeout", re.IGNORECASE)
_MACHINE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENOTDIR),
    }
)
_SIZES = {
    "run.batch_size_train": "a smaller run.batch_size_train (a run that goes on keeps its samples per step)",
    "run.batch_size_eval": "a smaller run.batch_size_eval",
}


@contextmanager
def explained(*, batch_size: str = "run.batch_size_train") -> Iterator[None]:
    """Say what gave way, in one line, where the block ends by no mistake of the user or the program.

    Args:
        batch_size: the setting that decides how much memory is needed.

    Raises:
        FaultError: memory or disk is full, a reader or another process has died or hangs.
    """
    try:
        yield
    except MemoryError as error:
        raise FaultError(_memory(batch_size)) from error
    except (ConnectionError, EOFError) as error:
        # A reader that died while it handed over what it had read.
        raise FaultError(_reader(first_line(error))) from error
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        place = f"cannot use {error.filename}: " if error.filename else ""
        reason = error.strerror or first_line(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk is full ({reason})"
        raise FaultError(f"{place}{reason}; mend it, then {_GO_ON}") from error
    except dist.DistError as error:
        raise FaultError(_peer(error)) from error
    except RuntimeError as error:
        line = first_line(error)
        if isinstance(error, FaultError):
            raise
        if is_out_of_memory(error):
            raise FaultError(_memory(batch_size)) from error
        if _READER.search(line):
            raise FaultError(_reader(line)) from error
        # Asked of the environment: by now the process group may be gone.
        if _PEER.search(str(error)) and os.environ.get("WORLD_SIZE", "1") != "1":
            raise FaultError(_peer(error)) from error
        raise


@contextmanager
def shared_failure(world: World) -> Iterator[None]:
    """Let a process's failure to do its part end all processes, with the same line.

    Raises:
        FaultError: another process failed.
    """
    failure: OSError | UserError | FaultError | None = None
    try:
        yield
    except (OSError, UserError, FaultError) as error:
        failure = error
    told = world.gather(None if failure is None else first_line(failure))
    if failure is not None:
        raise failure
    for line in told:
        if line is not None:
            raise FaultError(line)


def _memory(batch_size: str) -> str:
    return f"out of memory: use {_SIZES[batch_size]}, or fewer frames; {_GO_ON}"


def _reader(line: str) -> str:
    return f"a process that reads videos died or hangs ({line}); {_GO_ON}"


def _peer(error: BaseException) -> str:
    return f"another process of this run died or hangs ({first_line(error)[:160]}); {_GO_ON}"


@contextmanager
def ended_readers() -> Iterator[None]:
    """Leave no process that reads videos behind: one that hangs would be waited for at the end."""
    try:
        yield
    finally:
        children = multiprocessing.active_children()
        if children and threading.current_thread() is threading.main_thread():
            # torch reports readers that are killed, wherever the main thread is; these are meant to be.
            earlier = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for child in children:
                child.kill()
                child.join()
            signal.signal(signal.SIGCHLD, earlier)


class Notice:
    """Whether the process was asked to end.

    While it listens, SIGTERM raises `TerminatedError`; inside `deferred`, it is only noted.
    """

    def __init__(self) -> None:
        self.is_given = False
        self._deferrals = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM as notice while the block runs."""
        if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
            yield
            return
        earlier = signal.signal(signal.SIGTERM, self._receive)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, earlier)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block run to its end, notice or not."""
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within `deferred`, let a notice end the block at once, also one that came before."""
        deferrals, self._deferrals = self._deferrals, 0
        try:
            if self.is_given:
                self._end()
            yield
        finally:
            self._deferrals = deferrals

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.is_given = True
        if not self._deferrals:
            self._end()

    def _end(self) -> None:
        raise TerminatedError("asked to end (SIGTERM); go on with run.resume=auto")

"""Ending: SIGTERM finishes what must not be cut short and ends everything else at once, and no reader stays behind."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lavis.common.errors import TerminatedError


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

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.is_given = True
        if not self._deferrals:
            raise TerminatedError("asked to end (SIGTERM); go on with run.resume=auto")

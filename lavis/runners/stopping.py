"""Ending when asked to: SIGTERM finishes what must not be cut short, and ends everything else at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lavis.common.errors import TerminatedError


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

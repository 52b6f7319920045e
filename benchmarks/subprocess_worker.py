"""Objects in processes of their own, so that the memory each takes is measured alone."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from lavis.common.errors import FaultError


class SubprocessWorker:
    """An object in a new process, whose methods are called from here, one at a time.

    Args:
        make: what makes the object there, importable by name, with its arguments.

    Raises:
        FaultError: the process has ended, now or in any later call; it has printed why.
    """

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()
        self._wait()

    def call(self, method: str, *args: Any) -> Any:
        """Call a method and return what it returns."""
        self._connection.send((method, args))
        return self._wait()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def _wait(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError as error:
            self._process.join()
            reason = f"a process of the benchmark ended with exit code {self._process.exitcode}"
            raise FaultError(f"{reason}; where it is -9, memory was short: give a smaller --batch-size") from error


def _serve(connection: Connection, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Make the object and run calls until the other end is closed."""
    subject = make(*args)
    connection.send(None)
    while True:
        try:
            method, given = connection.recv()
        except EOFError:
            return
        connection.send(getattr(subject, method)(*given))

"""Who may use the model now: one job at a time, one per visitor, a short line, and an end to each."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from lavis.demo.problems import JobError

Result = TypeVar("Result")

# Called with what is being done, and how much of how many.
Listener = Callable[[str, int, int], None]

_LOOK_AGAIN_S = 0.5
# How much the latest job counts in what one is expected to take.
_LATEST = 0.2


class Job:
    """One question or search; `report` is called between its steps, and ends it when it has to end."""

    def __init__(self, visitor: str, address: str, *, listener: Listener, max_s: float) -> None:
        self.visitor = visitor
        self.address = address
        self._listener = listener
        self._max_s = max_s
        self._ends_at: float | None = None
        self._cancelled = threading.Event()

    def start(self) -> None:
        """Let the clock run; the time spent waiting does not count."""
        self._ends_at = time.monotonic() + self._max_s

    def cancel(self) -> None:
        """Let the next `report` end the job."""
        self._cancelled.set()

    def check(self) -> None:
        """Let the job go on, unless it has to end.

        Raises:
            JobError: the job was cancelled.
        """
        if self._cancelled.is_set():
            raise JobError("Cancelled.")

    def report(self, what: str, done: int = 0, total: int = 0) -> None:
        """Tell what is being done.

        Raises:
            JobError: the job was cancelled, or its time is over.
        """
        self.check()
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            raise JobError(f"This took longer than {self._max_s:g} s and was stopped; try fewer frames.")
        self._listener(what, done, total)


class Jobs:
    """The line in front of the model, and the thread that runs it.

    It is one for all visitors: every thread that has run a model keeps memory, and torch's helper threads, for itself.

    Args:
        max_waiting: jobs in the line, the running one aside.
        max_per_address: of all jobs, from one network address.
        max_job_s: how long a job may run.
    """

    def __init__(self, *, max_waiting: int, max_per_address: int, max_job_s: float) -> None:
        self._max_waiting = max_waiting
        self._max_per_address = max_per_address
        self._max_job_s = max_job_s
        self._line: list[Job] = []
        self._usual_s: float | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def run(self, work: Callable[[Job], Result], visitor: str, *, address: str, listener: Listener) -> Result:
        """Wait for the model, let `work` have it, and return what it returns.

        Raises:
            JobError: see `turn`, and `Job.report`.
        """
        with self.turn(visitor, address=address, listener=listener) as job:
            with self._changed:  # or the line could be closed between
                job.check()
                # A listener may look at the caller's context to know whom to tell.
                running = self._thread.submit(copy_context().run, work, job)
            return running.result()

    def close(self) -> None:
        """End all jobs, the running one after its step, and take no more."""
        with self._changed:
            self._closed = True
            for job in self._line:
                job.cancel()
            self._changed.notify_all()
            self._thread.shutdown(wait=False)

    @contextmanager
    def turn(self, visitor: str, *, address: str, listener: Listener) -> Iterator[Job]:
        """Wait for the model, and have it for the block.

        Raises:
            JobError: too many jobs, cancelled while waiting, or closed.
        """
        job = Job(visitor, address, listener=listener, max_s=self._max_job_s)
        with self._changed:
            self._admit(job)
            self._line.append(job)
        started = None
        try:
            self._wait(job)
            job.start()
            started = time.monotonic()
            yield job
        finally:
            with self._changed:
                self._line.remove(job)
                if started is not None:
                    self._learn(time.monotonic() - started)
                self._changed.notify_all()

    def cancel(self, visitor: str) -> None:
        """End the visitor's job, whether it waits or runs."""
        with self._changed:
            for job in self._line:
                if job.visitor == visitor:
                    job.cancel()
            self._changed.notify_all()

    def _admit(self, job: Job) -> None:
        if self._closed:
            raise JobError("The page is being closed.")
        if any(other.visitor == job.visitor for other in self._line):
            raise JobError("Your last question is still being answered; wait for it, or cancel it.")
        if sum(other.address == job.address for other in self._line) >= self._max_per_address:
            raise JobError("Too many questions at once from your network; try again in a moment.")
        if len(self._line) > self._max_waiting:
            raise JobError("Too many people are asking at once; try again in a moment.")

    def _wait(self, job: Job) -> None:
        with self._changed:
            while self._line[0] is not job:
                job.report(self._waiting(self._line.index(job)))
                self._changed.wait(_LOOK_AGAIN_S)
            job.check()

    def _waiting(self, ahead: int) -> str:
        if self._usual_s is None:
            return f"waiting for {ahead} before you"
        return f"waiting for {ahead} before you, about {max(1, round(ahead * self._usual_s))} s"

    def _learn(self, taken_s: float) -> None:
        before = taken_s if self._usual_s is None else self._usual_s
        self._usual_s = before + _LATEST * (taken_s - before)

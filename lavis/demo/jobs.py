"""The queue in front of the model: it runs one job at a time, and each visitor has at most one.

The queue has a bounded length, and every job a bounded time.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from lavis.demo.settings import JobError, Settings

Result = TypeVar("Result")

# Called with what is being done, and how much of how many.
Listener = Callable[[str, int, int], None]

_LOOK_AGAIN_S = 0.5
# Weight of the latest job in the moving average of what a job takes.
_LATEST = 0.2


class Job:
    """One question or search; it calls `report` between its steps, which raises once it has to end."""

    def __init__(self, visitor: str, address: str, *, listener: Listener, max_s: float) -> None:
        self.visitor = visitor
        self.address = address
        self._listener = listener
        self._max_s = max_s
        self.started_at: float | None = None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Let the next `report` end the job."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise `JobError` if the job was cancelled."""
        if self._cancelled.is_set():
            raise JobError("Cancelled.")

    def report(self, what: str, done: int = 0, total: int = 0) -> None:
        """Tell the listener what is being done; a JobError ends a job that was cancelled, or whose time is over."""
        self.check()
        if self.started_at is not None and time.monotonic() - self.started_at > self._max_s:
            raise JobError(f"This took longer than {self._max_s:g} s and was stopped; try fewer frames.")
        self._listener(what, done, total)


class Jobs:
    """The queue in front of the model, and the thread that runs it.

    It is one thread for all visitors: each that has run a model keeps memory, and torch's helper threads, for itself.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: list[Job] = []  # the running job, then those that wait
        self._usual_s: float | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def run(self, work: Callable[[Job], Result], visitor: str, *, address: str, listener: Listener) -> Result:
        """Wait until it is this job's `turn`, run it in the model's thread, and return its result."""
        with self.turn(visitor, address=address, listener=listener) as job:
            with self._changed:  # or the queue could be closed between
                job.check()
                # A listener may look at the caller's context to know whom to tell.
                running = self._thread.submit(copy_context().run, work, job)
            return running.result()

    def close(self) -> None:
        """End all jobs, the running one after its step, and take no more."""
        with self._changed:
            self._closed = True
            for job in self._queue:
                job.cancel()
            self._changed.notify_all()
            self._thread.shutdown(wait=False)

    @contextmanager
    def turn(self, visitor: str, *, address: str, listener: Listener) -> Iterator[Job]:
        """Wait until it is this job's turn; the model is the job's alone during the block.

        Raises:
            JobError: too many jobs, cancelled while waiting, or closed.
        """
        job = Job(visitor, address, listener=listener, max_s=self._settings.max_job_s)
        with self._changed:
            self._admit(job)
            self._queue.append(job)
        try:
            self._wait(job)
            job.started_at = time.monotonic()  # the time spent waiting does not count
            yield job
        finally:
            with self._changed:
                self._queue.remove(job)
                if job.started_at is not None:
                    taken_s = time.monotonic() - job.started_at
                    self._usual_s = taken_s if self._usual_s is None else self._usual_s
                    self._usual_s += _LATEST * (taken_s - self._usual_s)
                self._changed.notify_all()

    def cancel(self, visitor: str) -> None:
        """End the visitor's job, whether it waits or runs."""
        with self._changed:
            for job in self._queue:
                if job.visitor == visitor:
                    job.cancel()
            self._changed.notify_all()

    def _admit(self, job: Job) -> None:
        if self._closed:
            raise JobError("The page is being closed.")
        if any(other.visitor == job.visitor for other in self._queue):
            raise JobError("Your last question is still being answered; wait for it, or cancel it.")
        if sum(other.address == job.address for other in self._queue) >= self._settings.max_jobs_per_address:
            raise JobError("Too many questions at once from your network; try again in a moment.")
        if len(self._queue) > self._settings.max_waiting:
            raise JobError("Too many people are asking at once; try again in a moment.")

    def _wait(self, job: Job) -> None:
        with self._changed:
            while self._queue[0] is not job:
                ahead = self._queue.index(job)
                about = "" if self._usual_s is None else f", about {max(1, round(ahead * self._usual_s))} s"
                job.report(f"waiting for {ahead} before you{about}")
                self._changed.wait(_LOOK_AGAIN_S)
            job.check()

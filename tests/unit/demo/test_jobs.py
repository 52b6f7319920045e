"""One job runs at a time, one per visitor; the queue is bounded, and so is the time of each job."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from lavis.demo.jobs import Job, Jobs, Listener
from lavis.demo.settings import JobError, Settings

WAIT_S = 20


def quiet(what: str, done: int, total: int) -> None: ...


def make_jobs(*, max_waiting: int = 4, max_per_address: int = 9, max_job_s: int = 60) -> Jobs:
    return Jobs(Settings(max_waiting=max_waiting, max_jobs_per_address=max_per_address, max_job_s=max_job_s))


def test_the_second_waits_for_the_first_and_is_told_so() -> None:
    jobs, order, told = make_jobs(), [], threading.Event()

    def second() -> None:
        with jobs.turn("bob", address="2", listener=lambda what, *_: (order.append(what), told.set())):
            order.append("second")

    with ThreadPoolExecutor() as pool:
        with jobs.turn("ada", address="1", listener=quiet):
            waiting = pool.submit(second)
            assert told.wait(WAIT_S)
            order.append("first")
        waiting.result(WAIT_S)
    assert order[0] == "waiting for 1 before you"
    assert order[-2:] == ["first", "second"]


def test_whoever_waits_is_told_for_how_long_once_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    jobs, texts, told = make_jobs(max_job_s=1000), [], threading.Event()
    for taken_s in (20.0, 10.0):
        with jobs.turn("ada", address="1", listener=quiet):
            now[0] += taken_s

    def second() -> None:
        with jobs.turn("bob", address="2", listener=lambda what, *_: (texts.append(what), told.set())):
            pass

    with ThreadPoolExecutor() as pool:
        with jobs.turn("ada", address="1", listener=quiet):
            waiting = pool.submit(second)
            assert told.wait(WAIT_S)
        waiting.result(WAIT_S)
    assert texts[0] == "waiting for 1 before you, about 18 s"  # 20 + a fifth of (10 - 20)


def test_a_visitor_has_one_job() -> None:
    jobs = make_jobs()
    again = jobs.turn("ada", address="1", listener=quiet)
    with jobs.turn("ada", address="1", listener=quiet), pytest.raises(JobError, match=r"^Your last question is still "):
        again.__enter__()
    with jobs.turn("ada", address="1", listener=quiet) as job:
        assert job.visitor == "ada"


def test_an_address_has_a_few_jobs() -> None:
    jobs = make_jobs(max_per_address=1)
    another = jobs.turn("bob", address="1", listener=quiet)
    with jobs.turn("ada", address="1", listener=quiet), pytest.raises(JobError, match=r"^Too many questions at once "):
        another.__enter__()


def test_the_queue_is_bounded() -> None:
    jobs, told = make_jobs(max_waiting=1), threading.Event()

    def wait() -> None:
        with jobs.turn("bob", address="2", listener=lambda *_: told.set()):
            pass

    with ThreadPoolExecutor() as pool:
        with jobs.turn("ada", address="1", listener=quiet):
            waiting = pool.submit(wait)
            assert told.wait(WAIT_S)
            with pytest.raises(JobError, match=r"^Too many people are asking at once"):
                jobs.turn("eve", address="3", listener=quiet).__enter__()
        waiting.result(WAIT_S)


def test_a_waiting_job_can_be_cancelled() -> None:
    jobs, told = make_jobs(), threading.Event()

    def wait() -> None:
        with jobs.turn("bob", address="2", listener=lambda *_: told.set()):
            pytest.fail("it had its turn")

    with ThreadPoolExecutor() as pool, jobs.turn("ada", address="1", listener=quiet):
        waiting = pool.submit(wait)
        assert told.wait(WAIT_S)
        jobs.cancel("bob")
        with pytest.raises(JobError, match=r"^Cancelled\.$"):
            waiting.result(WAIT_S)


def test_a_job_that_is_cancelled_when_its_turn_comes_does_not_run() -> None:
    jobs, told = make_jobs(), threading.Event()

    def cancel(*_: object) -> None:
        jobs.cancel("bob")
        told.set()

    def wait() -> None:
        with jobs.turn("bob", address="2", listener=cancel):
            pytest.fail("it had its turn")

    with ThreadPoolExecutor() as pool:
        # The queue is held while somebody is told, so the first one leaves it just when the second looks again.
        with jobs.turn("ada", address="1", listener=quiet):
            waiting = pool.submit(wait)
            assert told.wait(WAIT_S)
        with pytest.raises(JobError, match=r"^Cancelled\.$"):
            waiting.result(WAIT_S)


def test_a_running_job_ends_at_its_next_step_once_cancelled() -> None:
    jobs = make_jobs()
    with jobs.turn("ada", address="1", listener=quiet) as job:
        job.report("watching")
        jobs.cancel("bob")
        job.report("watching")
        jobs.cancel("ada")
        with pytest.raises(JobError, match=r"^Cancelled\.$"):
            job.report("watching")


def test_a_job_ends_at_its_next_step_once_its_time_is_over() -> None:
    job = Job("ada", "1", listener=quiet, max_s=-1)
    job.report("time does not run yet")
    job.started_at = time.monotonic()
    with pytest.raises(JobError, match=r"^This took longer than -1 s and was stopped; try fewer frames\.$"):
        job.report("watching")


def test_all_jobs_run_in_one_thread_and_in_the_context_of_whoever_asked() -> None:
    jobs, visitor = make_jobs(), ContextVar[str]("visitor")

    def ask(name: str) -> tuple[int, str]:
        visitor.set(name)
        return jobs.run(lambda _: (threading.get_ident(), visitor.get()), name, address="1", listener=quiet)

    with ThreadPoolExecutor(3) as pool:
        threads, names = zip(*pool.map(ask, ["ada", "bob", "cleo"]), strict=True)
    assert (len(set(threads)), names) == (1, ("ada", "bob", "cleo"))


def test_what_goes_wrong_in_a_job_goes_to_whoever_asked_and_the_next_one_runs() -> None:
    jobs = make_jobs()
    with pytest.raises(ZeroDivisionError):
        jobs.run(lambda _: 1 // 0, "ada", address="1", listener=quiet)
    assert jobs.run(lambda _: 7, "ada", address="1", listener=quiet) == 7


def test_closing_ends_the_running_job_at_its_next_step_and_whoever_waits() -> None:
    jobs, running, closed = make_jobs(), threading.Event(), threading.Event()

    def work(job: Job) -> None:
        running.set()
        assert closed.wait(WAIT_S)
        job.report("the next step")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(jobs.run, work, "ada", address="1", listener=quiet)
        assert running.wait(WAIT_S)
        waiting = threading.Event()
        second = pool.submit(jobs.run, work, "bob", address="2", listener=lambda *_: waiting.set())
        assert waiting.wait(WAIT_S)
        jobs.close()
        closed.set()
        for job in (first, second):
            with pytest.raises(JobError, match="Cancelled"):
                job.result(WAIT_S)


def test_after_closing_nothing_runs() -> None:
    jobs = make_jobs()
    jobs.close()
    with pytest.raises(JobError, match=r"^The page is being closed\.$"):
        jobs.run(lambda _: 7, "ada", address="1", listener=quiet)


def test_what_is_closed_between_its_turn_and_its_start_does_not_run() -> None:
    class Closing(Jobs):
        @contextmanager
        def turn(self, visitor: str, *, address: str, listener: Listener) -> Iterator[Job]:
            with super().turn(visitor, address=address, listener=listener) as job:
                self.close()
                yield job

    jobs = Closing(Settings())
    with pytest.raises(JobError, match=r"^Cancelled\.$"):
        jobs.run(lambda _: 7, "ada", address="1", listener=quiet)

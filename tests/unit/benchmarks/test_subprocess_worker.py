"""Objects in processes of their own; this module imports nothing heavy, since those processes import it too."""

import os

import pytest

from benchmarks.subprocess_worker import SubprocessWorker
from lavis.common.errors import FaultError


class Echo:
    def __init__(self, word: str) -> None:
        self.word = word

    def twice(self) -> tuple[str, int]:
        return self.word * 2, os.getpid()

    def end(self) -> None:
        os._exit(7)


def test_an_object_in_a_worker_answers_from_another_process() -> None:
    worker = SubprocessWorker(Echo, "ab")
    said, process = worker.call("twice")
    worker.close()
    assert said == "abab"
    assert process != os.getpid()


def test_a_process_that_ends_is_told_in_one_line() -> None:
    worker = SubprocessWorker(Echo, "ab")
    with pytest.raises(FaultError, match=r"^a process of the benchmark ended with exit code 7; [^\n]*$"):
        worker.call("end")

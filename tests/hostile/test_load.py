"""The web page under many visitors at once: nobody is turned away or gets another's answer, and memory has a bound."""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lavis
from lavis.demo.videos import read_examples
from tests.hostile.visitors import Asking, crowd

ROOT = Path(__file__).resolve().parents[2]
_MEGABYTE = 2**20
_MOST_FOR_VISITORS = 450 * _MEGABYTE


@contextmanager
def demo(tmp_path: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Serve the page with the real command; yields its address and its process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "lavis", "demo", "--port", "0", "--device", "cpu", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        (url,) = re.findall(r"http://\S+", process.stdout.readline())
        try:
            yield url, process.pid
        finally:
            process.terminate()


class MemoryWatch(threading.Thread):
    """Notes the resident memory of a process, in bytes, once a second.

    Attributes:
        at_first: what it was when the watch was made.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._statm = Path(f"/proc/{pid}/statm")
        self.done = threading.Event()
        self.at_first = self._now()
        self.resident: list[int] = []

    def run(self) -> None:
        while not self.done.wait(1):
            self.resident.append(self._now())

    def _now(self) -> int:
        return int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def askings() -> list[Asking]:
    """Every question about every shipped clip, each with three options, the right one in another place each time."""
    model, found = lavis.load_model("sevila", "tiny", device="cpu"), []
    for example in read_examples():
        video = model.watch(example.clip)
        for number, asked in enumerate(example.questions):
            others = [text for text in asked.options if text != asked.options[asked.answer]][:2]
            options = (*others[: number % 3], asked.options[asked.answer], *others[number % 3 :])
            answer = video.ask(asked.text, options)
            assert answer.index is not None
            read = tuple(int(index) for index in answer.keyframes.frame_idx)
            found.append(Asking(example.clip, asked.text, options, answer.index, read))
    return found


@pytest.mark.parametrize(
    ("programs", "pages", "lasting_s"),
    [
        pytest.param(6, 4, 8, id="sample"),
        pytest.param(35, 15, 120, id="whole", marks=pytest.mark.slow),
    ],
)
def test_every_visitor_gets_its_own_right_answer(
    programs: int, pages: int, lasting_s: int, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    everything = askings()
    assert len({(one.question, one.clip) for one in everything}) == len(everything)
    with demo(tmp_path, "--max-jobs-per-address", "64") as (url, pid):
        # What the libraries take is not the visitors', and differs between builds of torch.
        asyncio.run(crowd(url, everything, programs=1, pages=0, lasting_s=0.1))
        memory = MemoryWatch(pid)
        memory.start()
        began = time.monotonic()
        seen = asyncio.run(crowd(url, everything, programs=programs, pages=pages, lasting_s=lasting_s))
        taken_s = time.monotonic() - began
        memory.done.set()
    told = [int(found[1]) for text in seen.waiting if (found := re.search(r"about (\d+) s$", text))]
    half = len(memory.resident) // 2
    growth = max(memory.resident[half:]) / max(memory.resident[:half]) - 1
    measured(
        f"{len(seen.seconds)} questions of {programs + pages} visitors in {taken_s:.0f} s: "
        f"median {statistics.median(seen.seconds):.1f} s, longest {max(seen.seconds):.1f} s; "
        f"waiting said: at most {max(told, default=0)} s; resident at most {max(memory.resident) / _MEGABYTE:.0f} MB, "
        f"{(max(memory.resident) - memory.at_first) / _MEGABYTE:.0f} MB above the page after its first answer, "
        f"in the second half {growth:+.1%} of the first"
    )
    assert seen.wrong == []
    assert sum(seen.answered.values()) == len(seen.seconds)
    assert min(seen.answered.values()) >= 1
    assert all(re.fullmatch(r"Waiting for \d+ before you(, about \d+ s)?", text) for text in seen.waiting)
    assert max(memory.resident) - memory.at_first < _MOST_FOR_VISITORS
    assert growth < 0.15

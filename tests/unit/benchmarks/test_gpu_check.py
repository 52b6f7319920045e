"""The table of the GPU check: whatever a step does, the others are run, and it ends by itself."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import Row, Scale, main


def right(scale: Scale) -> Iterator[Row]:
    del scale
    yield Row("right", "1", "1", passed=True)


def broken(scale: Scale) -> Iterator[Row]:
    yield Row("before it broke", "2")
    raise RuntimeError(f"no {scale.device}\nand more")


def endless(scale: Scale) -> Iterator[Row]:
    del scale
    yield Row("slow", "3")
    time.sleep(100)


def run(steps: dict[str, tuple[gpu_check.Step, int]], *options: str, monkeypatch: pytest.MonkeyPatch, tmp: Path) -> int:
    monkeypatch.setattr(gpu_check, "STEPS", steps)
    return main(["--tiny", "--json", str(tmp / "rows.json"), *options])


def rows(tmp: Path) -> list[tuple[str, str]]:
    return [(row["name"], row["figure"]) for row in json.loads((tmp / "rows.json").read_text())["rows"]]


def test_a_step_that_fails_is_a_row_and_the_others_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"broken": (broken, 1), "right": (right, 1)}
    assert run(steps, monkeypatch=monkeypatch, tmp=tmp_path) == 1
    assert rows(tmp_path) == [("before it broke", "2"), ("broken", "RuntimeError: no cpu"), ("right", "1")]


def test_it_stops_when_the_budget_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"right": (right, 1), "endless": (endless, 1), "late": (right, 1)}
    started = time.monotonic()
    assert run(steps, "--budget", "6", monkeypatch=monkeypatch, tmp=tmp_path) == 0
    assert time.monotonic() - started < 60
    assert [name for name, _ in rows(tmp_path)] == ["right", "slow", "endless", "late"]
    assert dict(rows(tmp_path))["endless"] == "out of time"
    assert dict(rows(tmp_path))["late"] == "left out"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "error: no GPU; --tiny runs everything on the CPU\n"

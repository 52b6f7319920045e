import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import scaling, scaling_worker
from benchmarks.__main__ import main
from benchmarks.scaling import Scaled, show
from benchmarks.scaling_worker import Work, allowed_cores

WORK = Work(
    task="self_refinement",
    size="tiny",
    dtype="fp32",
    device="cpu",
    threads=1,
    batch_size=3,
    num_frames=2,
    num_keyframes=1,
    steps=2,
)


def test_two_processes_are_compared_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = {1: Scaled(step_s=[2.0, 2.0, 9.0]), 2: Scaled(step_s=[2.5, 2.5, 2.5], alone_s=[2.0, 2.0, 2.4])}
    figures = show(found, WORK)
    wanted = {"samples_per_s": 2.4, "ratio": 1.6, "efficiency": 0.8, "exchanging": 0.2}
    assert {name: figures["2"][name] for name in wanted} == pytest.approx(wanted)
    assert (figures["1"]["ratio"], figures["1"]["exchanging"]) == (1.0, 0.0)
    shown = capsys.readouterr().out
    assert "each process on 1 pinned core, 3 videos of 2 frames a step" in shown
    assert "two processes: 1.60× the samples of one; the target of 1.7× is missed" in shown


@pytest.mark.parametrize(
    "processes",
    [pytest.param([1]), pytest.param([1, 2], marks=pytest.mark.slow)],
    ids=["one", "two"],
)
def test_every_step_of_every_round_is_written_down(processes: list[int], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    few = ["--batch-size", "1", "--num-frames", "1", "--steps", "2", "--repeats", "1"]
    code = main(["scaling", "--processes", *map(str, processes), *few, "--json", str(figures)])
    found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    assert code == 0
    assert found["machine"]["versions"].keys() >= {"sevila", "torch"}
    assert [int(count) for count in found["processes"]] == processes
    for one in found["processes"].values():
        assert (len(one["step_s"]), len(one["alone_s"]), len(one["load"])) == (2, 2, 1)
        assert min(one["step_s"] + one["alone_s"]) > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--processes", str(len(os.sched_getaffinity(0)) + 1)], "threads need as many cores; there are"),
        (["--processes", "0"], "--processes, --steps and --batch-size must be 1 or more"),
        (["--steps", "0"], "--processes, --steps and --batch-size must be 1 or more"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_run_is_refused_in_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaling", *options, "--json", str(tmp_path / "figures.json")]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_failing_process_ends_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "scaling_worker", SimpleNamespace(__name__="no_such_module"))
    assert main(["scaling", "--processes", "1", "--json", str(tmp_path / "figures.json")]) == 1
    assert capsys.readouterr().err.endswith("error: a round on 1 processes ended with exit code 1\n")


def test_each_process_gets_a_core_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[list[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: pinned.append(list(cores)))
    assert allowed_cores() == [2, 3, 5, 7]
    for place in (0, 1):
        scaling_worker.pin(WORK, place=place)
    assert pinned == [[2], [3]]

"""Where torchrun is killed, and can end nobody, the processes that it started end by themselves, and save."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lavis.common.files import read_object as read_json
from tests.architecture.source import ROOT
from tests.integration.evaluation.benchmarks import recipe as evaluation_recipe
from tests.integration.evaluation.questions import settings, write_questions
from tests.integration.training.tiny_run import options, recipe, torchrun

_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def children(parent: int) -> list[int]:
    """The processes that a process has started, without those that have ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, its_parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(its_parent) == parent and state != "Z":
                found.append(int(process.name))
    return found


def lives(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(what: Callable[[], object], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_launcher(command: list[str], *, when: Callable[[], object], out: Path) -> None:
    """Kill torchrun as soon as something is so, and wait until its processes have ended."""
    with out.open("w") as file:
        launcher = subprocess.Popen(command, cwd=ROOT, env=_ENVIRONMENT, stdout=file, stderr=file)
    wait_for(lambda: when() and len(children(launcher.pid)) == 2)
    workers = children(launcher.pid)
    try:
        launcher.kill()
        launcher.wait()
        wait_for(lambda: not any(map(lives, workers)), seconds=60)
    finally:
        for worker in filter(lives, workers):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_training_ends_and_is_saved_when_torchrun_is_killed(data: Path, model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    small = options("finetune", data=data, model=model_folder, output=output, max_epoch=1000, batch_size_train=1)
    command = [*torchrun(2), str(ROOT / "train.py"), "--cfg-path", str(recipe("finetune")), "--options", *small]
    kill_launcher(
        [*command, "run.valid_splits=[]", "run.test_splits=[]"],
        when=lambda: (output / "log.jsonl").is_file() and (output / "log.jsonl").read_bytes().count(b"\n") > 2,
        out=tmp_path / "out",
    )
    assert "terminated: asked to end (SIGTERM) after iteration" in (tmp_path / "out").read_text()
    last = max((output / "checkpoints").glob("step_*"))
    assert (read_json(last / "manifest.json") or {})["step"] == int(last.name.removeprefix("step_"))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_processes_whose_torchrun_is_killed_before_they_have_met_end_too(tmp_path: Path) -> None:
    data = write_questions(tmp_path / "data")
    small = settings(data, model=tmp_path, output=tmp_path / "run")
    command = [*torchrun(2), str(ROOT / "evaluate.py"), "--cfg-path", str(evaluation_recipe("nextqa"))]
    kill_launcher([*command, "--options", *small], when=lambda: True, out=tmp_path / "out")
    assert not (tmp_path / "run" / "evaluation.json").exists()

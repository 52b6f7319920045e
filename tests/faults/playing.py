"""Starting runs that come to harm, and telling what became of them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from lavis.common.distributed import World
from lavis.common.logging import read_json_lines
from lavis.runners.checkpoint import read_tensors
from tests.architecture.source import ROOT
from tests.faults import victim
from tests.integration.training.tiny_run import PLACES, options, recipe

_SPEEDS = {"samples_per_s", "data_wait", "memory_mib", "left_s"}


def harm(seam: str, at: int, *, when: str = "before", kind: str = "kill", rank: int = 0) -> dict[str, Any]:
    """Harm that comes with the `at`-th call of a seam; see `tests.faults.victim`."""
    return {"seam": seam, "at": at, "when": when, "kind": kind, "rank": rank}


def start(
    stage: str,
    output: Path,
    *,
    data: Path,
    model: Path,
    processes: int = 1,
    harm: dict[str, Any] | None = None,
    patience_s: float = 300,
    **run: object,
) -> dict[str, Any]:
    """A start of a stage; `run` are settings of its run section."""
    settings = {"save_freq": 2, "batch_size_train": 2 // processes or 1, "test_splits": "[]", "resume": "auto", **run}
    name = Path(PLACES[stage]).name
    few = [f"datasets.{name}.vis_processor.{split}.n_frms=2" for split in ("train", "eval")]
    return {
        "recipe": str(recipe(stage)),
        "options": [*options(stage, data=data, model=model, output=output, **settings), *few, "model.frame_num=1"],
        "processes": processes,
        "harm": harm,
        "patience_s": patience_s,
        "out": f"{output}.out",
    }


def play(starts: list[dict[str, Any]], folder: Path, *, timeout_s: float = 3000) -> list[list[int]]:
    """Run starts one after another, and return the exit codes of their processes; none may leave a process behind."""
    script = folder / "starts.json"
    script.write_text(json.dumps(starts))
    searched = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": searched}
    done = subprocess.run(
        [sys.executable, "-m", victim.__name__, str(script)],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(output: Path) -> list[str]:
    """The error lines of all starts that wrote to a folder."""
    lines = Path(f"{output}.out").read_text(errors="replace").splitlines()
    return [line for line in lines if line.startswith(("error:", "terminated:", "Traceback"))]


def outcome(output: Path) -> dict[str, Any]:
    """Everything of a run that must not depend on whether it was interrupted."""
    newest = max((output / "checkpoints").glob("step_*"))
    rows = read_json_lines(output / "log.jsonl")
    return {
        "state": {name: value.tolist() for name, value in tensors_of(newest).items()},
        "best": _digest(output / "best" / "model.safetensors"),
        "checkpoints": sorted(path.name for path in (output / "checkpoints").iterdir()),
        "metrics": {path.name: json.loads(path.read_text()) for path in sorted((output / "metrics").iterdir())},
        "log": [{name: value for name, value in row.items() if name not in _SPEEDS} for row in rows],
    }


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint: weights, moments of the optimizer and such."""
    return read_tensors(checkpoint, layout={}, world=World())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

"""A run goes on with another number of processes, and by itself where torchrun may start it again."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.architecture.source import ROOT
from tests.faults import victim
from tests.faults.playing import harm, outcome, play, said, start
from tests.integration.training.tiny_run import torchrun

# Ends with whole weights in `best`, whoever writes the checkpoints.
_SETTINGS = {"valid_splits": "[]", "test_splits": "[]", "clip_grad_norm": 1.0}


def best(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "best" / "model.safetensors")


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight, as a share of how far training moves one (its rate, 1e-3)."""
    assert first.keys() == second.keys()
    return max(float((value - second[name]).abs().max()) for name, value in first.items()) / 1e-3


def continue_with(
    before: int, after: list[int], *, mode: str, data: Path, model: Path, folder: Path
) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Kill runs of `before` processes after five steps, and let each go on with another number; 4 samples a step."""
    settings = {"data": data, "model": model, "distributed": mode, **_SETTINGS, "max_epoch": 3}
    sizes = {"processes": before, "batch_size_train": 4 // before}
    outputs = [folder / f"{before}_{count}" for count in after]
    starts = [start("finetune", folder / "whole", **settings, **sizes)]
    for output, count in zip(outputs, after, strict=True):
        starts.append(start("finetune", output, harm=harm("step", 6), **settings, **sizes))
        # The size of a process's batch bounds its memory; the steps stay as they were begun.
        starts.append(start("finetune", output, processes=count, **{**settings, "batch_size_train": 2}))
    codes = play(starts, folder)
    assert codes[0] == [0] * before
    assert [set(code) for code in codes[2::2]] == [{0}] * len(after)
    return best(folder / "whole"), [best(output) for output in outputs]


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("fsdp", 2, [1]),
        pytest.param("fsdp", 2, [1, 2, 3], marks=pytest.mark.slow),
        pytest.param("ddp", 2, [1, 3], marks=pytest.mark.slow),
        pytest.param("ddp", 1, [2], marks=pytest.mark.slow),
    ],
)
def test_another_number_of_processes_goes_on_with_the_same_steps(
    mode: str, before: int, after: list[int], data: Path, steady_model_folder: Path, tmp_path: Path
) -> None:
    whole, found = continue_with(before, after, mode=mode, data=data, model=steady_model_folder, folder=tmp_path)
    for count, weights in zip(after, found, strict=True):
        # Sums are taken in another order; another step would make a difference of the size of 1.
        limit = 0.0 if count == before else 0.02
        assert difference(whole, weights) <= limit, count


def test_a_split_model_leaves_checkpoints_of_shares_and_validates_together(
    data: Path, steady_model_folder: Path, tmp_path: Path
) -> None:
    settings = {"data": data, "model": steady_model_folder, "max_iters": 1, "valid_freq": 9, "validate_first": "true"}
    starts = [
        start("finetune", tmp_path / "alone", **settings),
        start("finetune", tmp_path / "split", processes=2, distributed="fsdp", **settings),
    ]
    assert play(starts, tmp_path) == [[0], [0, 0]]
    (folder,) = (tmp_path / "split" / "checkpoints").glob("step_*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["layout"] == "sharded"
    assert sorted(manifest["files"]) == [".metadata", "__0_0.distcp", "__1_0.distcp", "state.pt"]
    measured = [(tmp_path / name / "metrics" / "val_epoch-1.json").read_text() for name in ("alone", "split")]
    assert measured[0] == measured[1]
    assert json.loads(measured[0])["questions"] == 5


@pytest.mark.slow
def test_a_damaged_share_is_passed_over(data: Path, steady_model_folder: Path, tmp_path: Path) -> None:
    # One sample a process: each epoch ends with a step in which a process has none left.
    sizes = {"processes": 2, "max_epoch": 3}
    settings = {"distributed": "fsdp", **_SETTINGS, **sizes, "data": data, "model": steady_model_folder}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    codes = play(
        [start("finetune", whole, **settings), start("finetune", cut, harm=harm("step", 6), **settings)], tmp_path
    )
    assert codes[0] == [0, 0]
    newest = max((cut / "checkpoints").glob("step_*"))
    share = newest / "__1_0.distcp"
    content = bytearray(share.read_bytes())
    content[len(content) // 2] ^= 1
    share.write_bytes(content)
    assert play([start("finetune", cut, **settings)], tmp_path) == [[0, 0]]
    assert f"a checkpoint is passed over and kept as damaged_{newest.name}" in Path(f"{cut}.out").read_text()
    assert difference(best(whole), best(cut)) == 0.0


@pytest.mark.slow
def test_torchrun_starts_again_after_a_killed_process(data: Path, model_folder: Path, tmp_path: Path) -> None:
    settings = {"processes": 2, "data": data, "model": model_folder}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert play([start("finetune", whole, **settings)], tmp_path) == [[0, 0]]
    script = tmp_path / "killed.json"
    script.write_text(json.dumps(start("finetune", killed, harm=harm("step", 6, rank=1), **settings)))
    command = [*torchrun(2), "--max-restarts=1", "-m", victim.__name__, "--under-torchrun", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=1200, capture_output=True)
    assert outcome(killed) == outcome(whole)
    assert [line for line in said(killed) if line.startswith("Traceback")] == []
    assert len(json.loads((killed / "run.json").read_text())["earlier_starts"]) == 1

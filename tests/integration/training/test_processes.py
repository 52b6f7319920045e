"""Several processes over gloo compute what one computes."""

import os
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lavis.common.distributed import World
from tests.architecture.source import ROOT
from tests.integration.training import gradients
from tests.integration.training.tiny_run import TRAINED, options, recipe, torchrun


@pytest.mark.parametrize(
    ("stage", "mode", "processes", "batch_size", "checkpointing"),
    [
        ("finetune", "ddp", 2, 2, "none"),
        ("refine", "fsdp", 2, 2, "torch"),
        pytest.param("refine", "ddp", 3, 1, "torch", marks=pytest.mark.slow),
        pytest.param("pretrain", "ddp", 2, 2, "none", marks=pytest.mark.slow),
        pytest.param("finetune", "fsdp", 2, 2, "none", marks=pytest.mark.slow),
    ],
)
def test_gradients_of_several_processes_are_those_of_one(
    stage: str,
    mode: str,
    processes: int,
    batch_size: int,
    checkpointing: str,
    data: Path,
    steady_model_folder: Path,
    tmp_path: Path,
) -> None:
    settings = {"data": data, "model": steady_model_folder, "output": tmp_path / "run"}
    alone = options(stage, **settings, batch_size_train=processes * batch_size)
    gradients.write_gradients(tmp_path / "one.safetensors", recipe(stage), alone, World())

    shared = options(stage, **settings, batch_size_train=batch_size, distributed=mode)
    command = [*torchrun(processes), "-m", gradients.__name__, str(tmp_path / "all.safetensors"), str(recipe(stage))]
    shared.append(f"model.checkpointing={checkpointing}")
    subprocess.run([*command, *shared], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=1200)

    one, together = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "all.safetensors")
    assert one.keys() == together.keys()
    assert {name.partition(".")[0] for name in one} == {TRAINED[stage]}
    for name, value in one.items():
        difference, size = float((value - together[name]).norm()), float(value.norm())
        assert difference <= 1e-4 * size + 1e-6, name

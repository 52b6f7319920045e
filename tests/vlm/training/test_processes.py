"""Several processes over gloo compute what one computes, and a run that is killed ends as one that was not."""

import os
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lavis.common.distributed import World
from tests.architecture.source import ROOT
from tests.faults.playing import harm, outcome, play, start
from tests.integration.training import gradients
from tests.integration.training.tiny_run import TRAINED, options, recipe, torchrun
from tests.vlm.training.conftest import LORA

pytestmark = pytest.mark.vlm


@pytest.mark.parametrize(
    ("stage", "mode", "dtype", "checkpointing"),
    [
        ("finetune", "ddp", "fp32", "none"),
        ("refine", "fsdp", "fp32", "torch"),
        ("finetune", "fsdp", "bf16", "none"),
        pytest.param("pretrain", "ddp", "bf16", "torch", marks=pytest.mark.slow),
        pytest.param("pretrain", "fsdp", "fp32", "none", marks=pytest.mark.slow),
    ],
)
def test_gradients_of_two_processes_are_those_of_one(
    stage: str, mode: str, dtype: str, checkpointing: str, data: Path, base: Path, adapters: Path, tmp_path: Path
) -> None:
    more = [*LORA, "model.lora.dropout=0", f"model.dtype={dtype}", f"model.finetuned={adapters}"]
    places = {"data": data, "model": base, "output": tmp_path / "run"}
    alone = [*options(stage, **places, batch_size_train=4), *more]
    gradients.write_gradients(tmp_path / "one.safetensors", recipe(stage), alone, World())

    shared = [*options(stage, **places, batch_size_train=2, distributed=mode), *more]
    command = [*torchrun(2), "-m", gradients.__name__, str(tmp_path / "all.safetensors"), str(recipe(stage))]
    shared.append(f"model.checkpointing={checkpointing}")
    subprocess.run([*command, *shared], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=1200)

    one, together = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "all.safetensors")
    assert one.keys() == together.keys()
    assert one
    assert all(f".{TRAINED[stage]}." in name for name in one)
    # In bf16 a row of a batch is rounded by what it lies beside.
    tolerance = 1e-4 if dtype == "fp32" else 5e-2
    for name, value in one.items():
        difference, size = float((value - together[name]).norm()), float(value.norm())
        assert difference <= tolerance * size + 1e-6, name


DEATHS = [
    ("finetune", 2, harm("step", 4, when="after", rank=1), []),
    ("refine", 1, harm("finish_save", 3), ["run.frozen_verdicts=remembered", "run.ema_decay=0.5"]),
    ("pretrain", 1, harm("step", 3), ["model.checkpointing=torch", "run.accum_grad_iters=2"]),
    ("refine", 2, harm("validate", 2), ["run.distributed=fsdp", "model.dtype=bf16"]),
]


def test_a_killed_run_goes_on_to_the_same_end(data: Path, base: Path, adapters: Path, tmp_path: Path) -> None:
    """With dropout in the adapter that trains: random numbers have to go on where they were."""
    starts = []
    for number, (stage, processes, death, more) in enumerate(DEATHS):
        for name, suffered in (("whole", None), ("killed", death), ("killed", None)):
            output = tmp_path / f"{name}_{number}"
            one = start(stage, output, data=data, model=base, processes=processes, harm=suffered)
            one["options"] += [*LORA, f"model.finetuned={adapters}", *more]
            starts.append(one)
    codes = play(starts, tmp_path)
    for number, (_, processes, death, _) in enumerate(DEATHS):
        whole, killed, resumed = codes[3 * number : 3 * number + 3]
        assert whole == resumed == [0] * processes, number
        assert killed[death["rank"]] == -9, number
        assert outcome(tmp_path / f"killed_{number}") == outcome(tmp_path / f"whole_{number}"), number

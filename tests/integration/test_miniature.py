"""The miniature's stages run through the real runner, in one process and in two."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lavis.common.distributed import World
from lavis.models.checkpoints.weights_io import read_weights
from lavis.runners.build import build_runner
from lavis.runners.config import load_train_config
from sevila_data.miniature.base import make_base, make_language, make_vision
from sevila_data.miniature.dataset import SPLITS, write_dataset
from sevila_data.miniature.embedded import release
from sevila_data.miniature.measure import measure_run
from sevila_data.miniature.stages import STAGES, Run, base_folder

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["run.max_iters=2", "run.batch_size_train=2", "run.max_epoch=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An experiment's folder with two videos a split and a base that has learned for one step."""
    folder = tmp_path_factory.mktemp("miniature")
    write_dataset(folder / "data", seed=0, sizes=dict.fromkeys(SPLITS, 2))
    data, language, vision = folder / "data", folder / "language", folder / "vision"
    base = base_folder(folder, 0) / "base"
    make_language(language, seed=0, num_steps=1, num_practice=1)
    make_vision(vision, data, seed=0, num_videos=2, num_steps=1)
    make_base(base, data, language, vision, seed=0, num_videos=2, num_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVILA_MINIATURE", str(folder))
        yield folder


def options_of(stage: str, output: Path) -> list[str]:
    """Settings for two quick steps of a stage; every stage starts from the base."""
    dataset = "qvh" if stage == "pretrain" else "custom"
    frames = f"datasets.{dataset}.vis_processor.train.n_frms=4"
    return [*QUICK, *STAGES[stage][2], "model.finetuned=null", frames, f"run.output_dir={output}"]


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        ("pretrain", "localizer"),
        ("refine", "localizer"),
        ("finetune", "answerer"),
        ("finetune_random", "answerer"),
    ],
)
def test_two_steps_of_a_stage_change_its_part_alone(folder: Path, tmp_path: Path, stage: str, part: str) -> None:
    recipe = ROOT / "configs" / "sevila" / "miniature" / f"{STAGES[stage][0]}.yaml"
    build_runner(load_train_config(recipe, options=options_of(stage, tmp_path)), World()).run()
    before = read_weights(base_folder(folder, 0) / "base" / "model.safetensors")
    after = read_weights(tmp_path / "best" / "model.safetensors")
    assert {name.partition(".")[0] for name in after} == {part}
    assert any((after[name] != before[name]).any() for name in after)


def test_the_embedded_model_is_made_from_a_base_and_says_what_it_knows(folder: Path, tmp_path: Path) -> None:
    release(folder, tmp_path, base=0, num_videos=2, num_steps=1)
    before = read_weights(base_folder(folder, 0) / "base" / "model.safetensors")
    after = read_weights(tmp_path / "model.safetensors")
    changed = {name.partition(".")[0] for name in after if (after[name] != before[name]).any()}
    assert changed == {"answerer", "localizer", "language"}
    assert "(base 0)" in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_stage_trains_on_two_processes(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    recipe = ["--cfg-path", "configs/sevila/miniature/pretrain.yaml", "--options", *options_of("pretrain", tmp_path)]
    environment = {**os.environ, "SEVILA_MINIATURE": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *recipe], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "best" / "model.safetensors").is_file()


def test_a_seeds_models_are_measured_on_every_question(folder: Path) -> None:
    run = Run(folder, seed=0)
    for name in STAGES:
        part = "answerer" if name.startswith("finetune") else "localizer"
        run.model().save_pretrained(run.folder / name / "best", parts=[part])
    found = measure_run(run, max_videos=1)
    assert len(found.videos) == 8
    assert all(marks.keys() == found.videos.keys() for marks in found.runs.values())
    # Every stage holds the base's weights here, so every Localizer chooses the same frames.
    assert found.runs["localizer, untrained"] == found.runs["localizer, pre-trained and refined"]
    assert found.inside["oracle"] == 100.0

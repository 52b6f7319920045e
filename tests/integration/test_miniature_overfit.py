"""What the miniature trains can learn: a prompter that was set far back gets to know ten videos by heart."""

from pathlib import Path

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.files import configs_dir
from lavis.datasets.annotations import write_annotations
from lavis.models.loading import load_model
from lavis.models.sevila.model import SeViLA
from lavis.runners.build import build_runner
from lavis.runners.config import load_train_config
from lavis.selection.policies.plain import Windows
from sevila_data.miniature.base_frames import read_pictures
from sevila_data.miniature.base_prompter import train_prompter
from sevila_data.miniature.dataset import SPLITS, question_rows, write_dataset
from sevila_data.miniature.measure import HeldOut
from sevila_data.miniature.stages import base_folder

NUM_VIDEOS = 10


def percent_right(model: SeViLA, split: HeldOut) -> float:
    """Ask about the videos, with four frames of the scene that is asked about."""
    watched = split.watch(model)
    right = split.read(watched, split.select(watched, Windows(), 4)).right
    return 100 * sum(right.values()) / len(right)


@torch.no_grad()
def set_back(model: SeViLA) -> None:
    """Disturb all matrices of the Answerer's prompter by twice as much as they vary."""
    generator = torch.Generator().manual_seed(0)
    for matrix in model.answerer.parameters():
        if matrix.ndim > 1:
            matrix.add_(2 * matrix.std() * torch.randn(matrix.shape, generator=generator))


def test_a_prompter_that_was_set_back_learns_ten_videos_by_heart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_folder(tmp_path, 0) / "base"
    write_dataset(tmp_path / "data", seed=0, sizes={**dict.fromkeys(SPLITS, 1), "base": NUM_VIDEOS})
    write_annotations(tmp_path / "data/questions/train.json", question_rows("base", NUM_VIDEOS, seed=0))
    split = HeldOut(tmp_path / "data", split="train")
    model = load_model("sevila", "tiny", device="cpu")
    assert isinstance(model, SeViLA)
    set_back(model)
    assert percent_right(model, split) < 75
    pictures, _ = read_pictures(tmp_path / "data", count=NUM_VIDEOS, seed=0, every=3)
    train_prompter(model, pictures, seed=0, num_steps=200)
    model.save_pretrained(base)
    monkeypatch.setenv("SEVILA_MINIATURE", str(tmp_path))
    recipe = configs_dir() / "sevila" / "miniature" / "finetune.yaml"
    options = ["model.finetuned=null", "run.max_iters=10", f"run.output_dir={tmp_path / 'run'}"]
    build_runner(load_train_config(recipe, options=options), World()).run()
    trained = SeViLA.from_pretrained(base)
    trained.load_partial(tmp_path / "run" / "best")
    assert percent_right(trained.eval(), split) >= 95

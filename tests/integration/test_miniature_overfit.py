"""What the miniature trains can learn: prompters that were set far back get to know twenty videos by heart."""

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
from sevila_data.miniature.base_frames import read_pictures
from sevila_data.miniature.base_prompter import train_prompter
from sevila_data.miniature.dataset import SPLITS, question_rows, write_dataset
from sevila_data.miniature.measure import HeldOut, best_positions

NUM_VIDEOS = 20


def percent_right(model: SeViLA, split: HeldOut) -> float:
    """Ask about the videos, with the four frames that the Localizer picks."""
    watched = split.watch(model)
    right = split.read(watched, best_positions(split.score(watched), 4)).right
    return 100 * sum(right.values()) / len(right)


@torch.no_grad()
def set_back(model: SeViLA) -> None:
    """Disturb all matrices of both prompters by as much as they vary."""
    generator = torch.Generator().manual_seed(0)
    for matrix in model.answerer.parameters():
        if matrix.ndim > 1:
            matrix.add_(matrix.std() * torch.randn(matrix.shape, generator=generator))
    model.localizer.load_state_dict(model.answerer.state_dict())


def test_prompters_that_were_set_back_learn_twenty_videos_by_heart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data", seed=0, sizes={**dict.fromkeys(SPLITS, 1), "base": NUM_VIDEOS})
    write_annotations(tmp_path / "data/questions/train.json", question_rows("base", NUM_VIDEOS, seed=0))
    split = HeldOut(tmp_path / "data", split="train")
    model = load_model("sevila", "tiny", device="cpu")
    assert isinstance(model, SeViLA)
    set_back(model)
    assert percent_right(model, split) < 75
    pictures, _ = read_pictures(tmp_path / "data", count=NUM_VIDEOS, seed=0, every=3)
    train_prompter(model, pictures, seed=0, num_steps=200)
    model.save_pretrained(tmp_path / "base")
    monkeypatch.setenv("SEVILA_MINIATURE", str(tmp_path))
    recipe = configs_dir() / "sevila" / "miniature" / "finetune.yaml"
    options = ["model.finetuned=null", "run.max_iters=10", f"run.output_dir={tmp_path / 'run'}"]
    build_runner(load_train_config(recipe, options=options), World()).run()
    trained = SeViLA.from_pretrained(tmp_path / "base")
    trained.load_partial(tmp_path / "run" / "best")
    assert percent_right(trained.eval(), split) >= 95

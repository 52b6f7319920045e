"""The embedded model knows the synthetic world as well as its table says."""

import json
import re
from pathlib import Path

import pytest

from lavis.common.files import checkpoints_dir
from lavis.models.loading import load_model
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.dataset import SPLITS, write_dataset
from sevila_data.miniature.measure import HeldOut, best_positions

ROOT = Path(__file__).resolve().parents[2]
NUM_VIDEOS = 8


@pytest.fixture(scope="module")
def model() -> SeViLA:
    loaded = load_model("sevila", "tiny", device="cpu")
    assert isinstance(loaded, SeViLA)
    return loaded


def test_it_says_which_world_it_knows(model: SeViLA) -> None:
    assert model.config.weights.status == "trained"
    assert "synthetic world" in model.caveats[0]


def test_on_held_out_videos_it_reaches_the_tables_lower_bound(model: SeViLA, tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=0, sizes={**dict.fromkeys(SPLITS, 1), "test": NUM_VIDEOS})
    split = HeldOut(tmp_path)
    watched = split.watch(model)
    right = split.read(watched, best_positions(split.score(watched), 4)).right
    table = (ROOT / "benchmarks" / "MINIATURE.md").read_text(encoding="utf-8")
    bound = re.search(r"\| localizer, pre-trained and refined \| [\d.]+ \[([\d.]+),", table)
    assert bound is not None
    assert len(right) == 8 * NUM_VIDEOS
    assert 100 * sum(right.values()) / len(right) >= float(bound[1])


def test_it_answers_the_questions_that_come_with_the_clips(model: SeViLA) -> None:
    folder = checkpoints_dir() / "clips"
    clips = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    assert len(clips) == 3
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    for clip in clips:
        watched = model.watch(folder / clip["video"])
        for row in clip["questions"]:
            assert watched.ask(row["question"], row["options"]).index == row["answer"]

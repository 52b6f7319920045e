"""The embedded model knows the synthetic world, asked in every way that the page offers."""

import json

import pytest

from lavis.common.files import checkpoints_dir
from lavis.models.loading import load_model
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.embedded import OPEN, Asked, Setting, above_chance, accuracy_of, measure
from sevila_data.miniature.questions import MAX_OPTIONS

NUM_VIDEOS = 6
# Lower bounds of what is above chance, for options and frames that the page offers.
LEAST = {
    **{Setting(options=count): 0.8 for count in range(2, MAX_OPTIONS + 1)},
    Setting(options=OPEN): 0.85,
    Setting(keyframes=1): 0.8,
    Setting(keyframes=2): 0.85,
    Setting(keyframes=8): 0.8,
    Setting(frames=8, keyframes=8): 0.75,
    Setting(frames=16): 0.8,
    Setting(frames=64, keyframes=8): 0.85,
}
SETTINGS = tuple(LEAST)


@pytest.fixture(scope="module")
def model() -> SeViLA:
    loaded = load_model("sevila", "tiny", device="cpu")
    assert isinstance(loaded, SeViLA)
    return loaded


def test_it_says_which_world_it_knows(model: SeViLA) -> None:
    assert model.config.weights.status == "trained"
    assert "synthetic world" in model.caveats[0]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[Setting, list[Asked]]:
    """How the model answers about a few held-out videos in several settings."""
    folder = tmp_path_factory.mktemp("held_out")
    found = measure(folder, model="tiny", seed=0, num_videos=NUM_VIDEOS, settings=SETTINGS, workers=1)
    return dict(zip(SETTINGS, found, strict=True))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_on_held_out_videos_it_holds_what_the_page_offers(asked: dict[Setting, list[Asked]], setting: Setting) -> None:
    rows = asked[setting]
    assert len({row.id for row in rows}) == len(rows) > 4 * NUM_VIDEOS
    assert above_chance(accuracy_of(rows), setting.options) >= LEAST[setting]


def test_an_open_answer_is_a_word_of_its_world(model: SeViLA) -> None:
    watched = model.watch(checkpoints_dir() / "clips" / "test_0000.mp4")
    assert watched.ask("Where is the heart?").text == "beach"
    assert watched.ask("Is there a heart?").text in {"yes", "no"}


def test_it_answers_the_questions_that_come_with_the_clips(model: SeViLA) -> None:
    folder = checkpoints_dir() / "clips"
    clips = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    assert len(clips) == 3
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    for clip in clips:
        watched = model.watch(folder / clip["video"])
        for row in clip["questions"]:
            assert watched.ask(row["question"], row["options"]).index == row["answer"]

"""One model chooses frames, another one answers."""

from pathlib import Path

import numpy as np
import pytest

import lavis
from lavis.common.errors import ConfigError
from lavis.models.frame_cache import FrameCache
from lavis.models.mixed import MixedModel, load_chain
from lavis.models.sevila.model import SeViLA
from tests.unit.models.api.chat_server import chat_server, completion
from tests.unit.models.tiny import CONFIG
from tests.videos import write_video

OPTIONS = ["field", "beach", "city"]


@pytest.fixture(scope="module")
def models() -> tuple[SeViLA, SeViLA]:
    return lavis.load_model("sevila", "tiny"), SeViLA.untrained(CONFIG)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=12)


def test_the_one_chooses_and_the_other_answers(models: tuple[SeViLA, SeViLA], clip: Path) -> None:
    localizer, answerer = models
    mixed = MixedModel(localizer, answerer).watch(clip, num_frames=8).ask("Where is it?", OPTIONS, num_keyframes=2)
    alone = localizer.watch(clip, num_frames=8).ask("Where is it?", OPTIONS, num_keyframes=2)
    np.testing.assert_array_equal(mixed.keyframes.all_scores, alone.keyframes.all_scores)
    np.testing.assert_array_equal(mixed.keyframes.positions, alone.keyframes.positions)
    read = answerer.watch(clip, num_frames=8)
    reading = answerer.as_answerer(prompt="multiple_choice", packing="joint").answer(
        read.source, mixed.keyframes.positions[None], [mixed.question]
    )[0]
    np.testing.assert_allclose(mixed.option_scores, reading.option_scores, rtol=1e-6)
    assert set(mixed.caveats) == {*localizer.caveats, *answerer.caveats}


def test_the_answerer_sees_keyframes_alone(
    models: tuple[SeViLA, SeViLA], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer, answerer = models
    seen: list[int] = []
    features = answerer.features
    monkeypatch.setattr(answerer, "features", lambda pixels: seen.append(len(pixels)) or features(pixels))  # type: ignore[func-returns-value]
    video = MixedModel(localizer, answerer).watch(clip, num_frames=8)
    assert seen == []
    video.ask("Where is it?", OPTIONS, num_keyframes=2)
    video.ask("Where is it now?", OPTIONS, num_keyframes=2)
    assert sum(seen) <= 4


def test_what_the_localizer_saw_is_found_again(models: tuple[SeViLA, SeViLA], clip: Path, tmp_path: Path) -> None:
    mixed, cache = MixedModel(*models), FrameCache(tmp_path)
    answers = [mixed.watch(clip, num_frames=8, cache=cache).ask("Where is it?", OPTIONS) for _ in range(2)]
    np.testing.assert_array_equal(answers[0].option_scores, answers[1].option_scores)
    assert mixed.watching_key() == models[0].watching_key()


def test_a_chain_of_the_same_model_is_that_model() -> None:
    assert isinstance(load_chain("tiny"), SeViLA)
    assert isinstance(load_chain(localizer="tiny", answerer="tiny"), SeViLA)


def test_mistakes_are_told_in_one_line(models: tuple[SeViLA, SeViLA]) -> None:
    with pytest.raises(ConfigError, match=r"^neither tiny nor base takes frame_tokens; leave it out$"):
        load_chain("tiny", answerer="base", frame_tokens=8)
    mixed = MixedModel(*models)
    with pytest.raises(ConfigError, match="is not trained as a chain"):
        mixed.set_trainable(["localizer"])
    with pytest.raises(ConfigError, match=r"cannot tell which model of .* the weights at best are for"):
        mixed.load_partial("best")


def test_a_server_answers_from_frames_that_were_chosen_here(models: tuple[SeViLA, SeViLA], clip: Path) -> None:
    said = completion("B", [("B", -0.1), ("A", -3.0), ("C", -4.0)])
    with chat_server([said]) as server:
        answerer = {"name": "openai", "url": server.url, "model": "served"}
        chain = load_chain("tiny", answerer=answerer)
        answer = chain.watch(clip, num_frames=8).ask("Where is it?", OPTIONS, num_keyframes=2)
    assert answer.text == "beach"
    (request,) = server.bodies
    pictures = [part for part in request["messages"][0]["content"] if part["type"] == "image_url"]
    assert len(pictures) == 2
    alone = models[0].watch(clip, num_frames=8).ask("Where is it?", OPTIONS, num_keyframes=2)
    np.testing.assert_array_equal(answer.keyframes.positions, alone.keyframes.positions)

"""The package as Python users see it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lavis
from lavis.models.pipeline import WatchedVideo
from lavis.video.base import VideoReader
from tests.videos import shown_numbers

OPTIONS = ["a cat", "a dog", "squares"]


@pytest.fixture(scope="module")
def model() -> Any:
    return lavis.load_model("sevila", "tiny")


@pytest.fixture
def calls(model: Any, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often videos are decoded and frames are encoded."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(VideoReader, "stream", counting("decode", VideoReader.stream))
    monkeypatch.setattr(VideoReader, "read", counting("decode", VideoReader.read))
    monkeypatch.setattr(type(model), "features", counting("encode", type(model).features))
    return counted


def test_second_question_neither_decodes_nor_encodes(model: Any, clip: Path, calls: Counter[str]) -> None:
    video = model.watch(clip, num_frames=32)
    assert calls == {"decode": 1, "encode": 2}  # chunks of 16 frames
    first = video.ask("What is shown?", OPTIONS, num_keyframes=4)
    again = video.ask("What is shown?", OPTIONS, num_keyframes=4)
    other = video.ask("Is it night?", ["yes", "no"])
    moments = video.find("Squares appear", threshold=None)
    assert calls == {"decode": 1, "encode": 2}
    assert first.index == again.index
    np.testing.assert_array_equal(first.option_scores, again.option_scores)
    assert len(other.option_scores) == 2
    assert len(moments.moments) >= 1


def test_answer_holds_text_index_scores_and_keyframes_with_their_times(model: Any, clip: Path) -> None:
    answer = model.watch(clip, num_frames=8).ask("What is shown?", OPTIONS, num_keyframes=3)
    assert answer.index == answer.option_scores.argmax()
    assert answer.text == OPTIONS[answer.index]
    assert len(answer.keyframes) == 3
    np.testing.assert_allclose(answer.keyframes.times_s, answer.keyframes.frame_idx / 25)
    best = np.sort(answer.keyframes.all_scores)[-3:]
    np.testing.assert_array_equal(np.sort(answer.keyframes.scores), best)


def test_keyframes_can_be_read_again_as_they_are_in_the_video(model: Any, clip: Path) -> None:
    video: WatchedVideo = model.watch(clip, num_frames=8)
    keyframes = video.ask("What is shown?", OPTIONS).keyframes
    frames = video.frames(keyframes.frame_idx).frames
    assert frames.shape == (4, 96, 160, 3)
    assert shown_numbers(frames) == keyframes.frame_idx.tolist()


def test_moments_lie_in_the_video_best_first(model: Any, clip: Path) -> None:
    moments = model.watch(clip, num_frames=16).find("Squares appear", threshold=None, max_gap_frames=0)
    assert len(moments.scores) == len(moments.times_s) == 16
    assert all(0 <= moment.start_s < moment.end_s <= 4 for moment in moments.moments)
    scores = [moment.score for moment in moments.moments]
    assert scores == sorted(scores, reverse=True)


def test_lavis_entry_points_give_model_and_processors(clip: Path) -> None:
    model, visual, text = lavis.load_model_and_preprocess("sevila", "tiny", device="cpu", dtype="fp32")
    assert text["eval"]("What is shown?") == "What is shown?"
    video = model.watch(clip, num_frames=2)
    pixels = visual["eval"](video.frames(video.frame_idx, size=model.image_size))
    assert tuple(pixels.shape) == (2, 3, model.image_size, model.image_size)
    assert "tiny" in dict(lavis.model_zoo)["sevila"]
    assert "sevila" in lavis.registry.list_models()

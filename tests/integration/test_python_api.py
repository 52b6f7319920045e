"""Videos, questions and the whole model together, through the names a Python user knows."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import lavis
from lavis.common.types import Answer, Question, Span
from lavis.models.pipeline import WatchedVideo
from lavis.models.sevila.model import SeViLA
from tests.videos import write_video

QUESTIONS = [
    Question("What is shown?", ("a red box", "a blue ball", "a green ring", "a cat", "nothing at all")),
    Question("Does it move?", ("yes", "no")),
    Question("What happens when the red box has been taken out of the room by the people?", ("it falls", "it stops")),
    Question("Why?"),
    Question("😀 מה קורה כאן؟ ماذا", ("👍", "مرحبا", "שלום")),
    Question("Where does it go next?", tuple(f"way {number}" for number in range(26))),
    Question("What is the colour?"),
    Question("Is it dark or bright?", ("dark", "bright", "neither")),
]


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return lavis.load_model("sevila", "tiny", device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("api") / "clip.mp4", num_frames=75)


@pytest.fixture(scope="module")
def video(model: SeViLA, clip: Path) -> WatchedVideo:
    return model.watch(clip, num_frames=12)


@pytest.fixture(scope="module")
def exact_model() -> SeViLA:
    """The model in float64: the same sums in another order differ in the 14th digit, whatever the question.

    In float32 the model makes 1e-4 of one rounding error where a question's words are strange to it.
    """
    return lavis.load_model("sevila", "tiny", device="cpu").double()


@pytest.fixture(scope="module")
def exact_video(exact_model: SeViLA, clip: Path) -> WatchedVideo:
    return exact_model.watch(clip, num_frames=12)


@pytest.fixture
def runs(model: SeViLA) -> Iterator[Counter[str]]:
    """Counts the frames that go through each part, and the calls of the language model."""
    counted: Counter[str] = Counter()
    hooks = [
        part.register_forward_pre_hook(lambda _, args, name=name: counted.update({name: len(args[0])}))
        for name, part in (("vision", model.vision), ("localizer", model.localizer), ("answerer", model.answerer))
    ]
    hooks += [
        part.register_forward_pre_hook(lambda _, args, name=name: counted.update({name: 1}))
        for name, part in (("encoder", model.language.model.encoder), ("decoder", model.language.model.decoder))
    ]
    yield counted
    for hook in hooks:
        hook.remove()


def assert_same(ours: Answer, theirs: Answer) -> None:
    assert (ours.index, ours.text) == (theirs.index, theirs.text)
    np.testing.assert_allclose(ours.option_scores, theirs.option_scores, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.keyframes.all_scores, theirs.keyframes.all_scores, rtol=0, atol=1e-11)
    assert ours.keyframes.frame_idx.tolist() == theirs.keyframes.frame_idx.tolist()
    assert ours.frame_choices.tolist() == theirs.frame_choices.tolist()
    assert ours.caveats == theirs.caveats


def test_eight_questions_at_once_are_answered_as_if_asked_one_by_one(exact_video: WatchedVideo) -> None:
    together = exact_video.ask_all(QUESTIONS, num_keyframes=3)
    assert [answer.question for answer in together] == QUESTIONS
    for question, answer in zip(QUESTIONS, together, strict=True):
        assert_same(answer, exact_video.ask(question.text, question.options, num_keyframes=3))


@pytest.mark.parametrize("reader", ["joint", "per_frame"])
@pytest.mark.parametrize("selector", ["localizer", "uniform", "random"])
def test_every_way_of_choosing_and_reading_frames_answers(video: WatchedVideo, selector: str, reader: str) -> None:
    for answer in video.ask_all(QUESTIONS[:3], num_keyframes=4, selector=selector, reader=reader):
        assert answer.index is not None
        assert answer.text == answer.question.options[answer.index]
        assert answer.option_scores.shape == (len(answer.question.options),)
        assert np.isfinite(answer.option_scores).all()
        assert len(answer.frame_choices) == (4 if reader == "per_frame" else 0)


def test_each_frame_is_seen_once_however_much_is_asked(model: SeViLA, clip: Path, runs: Counter[str]) -> None:
    video = model.watch(clip, num_frames=12)
    watched = {"vision": 12, "localizer": 12}
    assert runs == watched
    read = set(video.ask(QUESTIONS[0].text, QUESTIONS[0].options).keyframes.frame_idx)
    # One pass of encoder and decoder scores all frames; a second reads the keyframes, in two decoder steps.
    assert runs == {**watched, "answerer": 4, "encoder": 2, "decoder": 3}
    video.find("A red box moves")
    assert runs == {**watched, "answerer": 4, "encoder": 3, "decoder": 4}
    for selector in ("uniform", "localizer"):
        read |= {
            index for answer in video.ask_all(QUESTIONS, selector=selector) for index in answer.keyframes.frame_idx
        }
    assert len(read) > 4
    assert {part: runs[part] for part in (*watched, "answerer")} == {**watched, "answerer": len(read)}
    video.ask(QUESTIONS[0].text, QUESTIONS[0].options, num_keyframes=12)
    assert {part: runs[part] for part in (*watched, "answerer")} == {**watched, "answerer": 12}


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_frames_watched_in_other_chunks_give_the_same_answers(
    exact_model: SeViLA, clip: Path, exact_video: WatchedVideo, batch_size: int
) -> None:
    other = exact_model.watch(clip, num_frames=12, batch_size=batch_size)
    for ours, theirs in zip(other.ask_all(QUESTIONS[:3]), exact_video.ask_all(QUESTIONS[:3]), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("num_keyframes", range(1, 13))
def test_any_number_of_keyframes_is_read(video: WatchedVideo, num_keyframes: int) -> None:
    answer = video.ask("What is shown?", ["a box", "a ball"], num_keyframes=num_keyframes)
    assert len(set(answer.keyframes.frame_idx.tolist())) == num_keyframes
    assert (np.diff(answer.keyframes.times_s) > 0).all()
    best = np.sort(answer.keyframes.all_scores)[-num_keyframes:]
    np.testing.assert_array_equal(np.sort(answer.keyframes.scores), best)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_very_few_frames_are_enough(model: SeViLA, clip: Path, num_frames: int) -> None:
    video = model.watch(clip, num_frames=num_frames)
    answer = video.ask("What is shown?", ["a box", "a ball"])
    assert len(answer.keyframes) == num_frames
    moments = video.find("A box", threshold=None)
    assert len(moments.scores) == num_frames
    assert len(moments.moments) == 1


def test_a_video_of_one_frame_is_answered(model: SeViLA, tmp_path: Path) -> None:
    video = model.watch(write_video(tmp_path / "one.mp4", num_frames=1), num_frames=32)
    answer = video.ask("What is shown?", ["a box", "a ball"], num_keyframes=1)
    assert answer.keyframes.frame_idx.tolist() == [0]


def test_a_clip_of_the_video_is_asked_alone(model: SeViLA, clip: Path) -> None:
    video = model.watch(clip, num_frames=4, clip=Span(1.0, 2.0))
    answer = video.ask("What is shown?", ["a box", "a ball"], num_keyframes=2)
    assert all(1.0 <= time_s <= 2.0 for time_s in answer.keyframes.times_s)


def test_a_question_that_is_too_long_is_answered_and_says_so(video: WatchedVideo) -> None:
    too_long = "the question is too long for the model and lost its end"
    counted = video.model.language.num_cut_prompts  # type: ignore[attr-defined]
    answer = video.ask("What " + "happens then and " * 500 + "at last?", ["rain", "sun"])
    assert answer.caveats[-1] == too_long
    assert np.isfinite(answer.option_scores).all()
    assert too_long not in video.ask("What happens?", ["rain", "sun"]).caveats
    assert video.find("A box " + "moves and " * 500).caveats[-1] == too_long
    # Once as it is worded for the Localizer, once for the Answerer, and once for the search.
    assert video.model.language.num_cut_prompts == counted + 3  # type: ignore[attr-defined]


def test_what_is_known_of_the_weights_is_stated_with_every_answer(clip: Path) -> None:
    model = lavis.load_model("sevila", "tiny", device="cpu")
    note = model.config.weights.note
    video = model.watch(clip, num_frames=2)
    assert "synthetic world" in note
    assert video.ask("Why?").caveats == video.ask("Why?", ["a", "b"]).caveats == video.find("A box").caveats == (note,)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_lower_precisions_answer(clip: Path, dtype: str) -> None:
    model = lavis.load_model("sevila", "tiny", device="cpu", dtype=dtype)
    assert {value.dtype for value in model.language.parameters()} == {torch.bfloat16}
    video = model.watch(clip, num_frames=4)
    answer = video.ask("What is shown?", ["a box", "a ball", "a ring"])
    assert np.isfinite(answer.option_scores).all()
    assert np.isfinite(answer.keyframes.all_scores).all()
    assert np.isfinite(video.find("A box").scores).all()

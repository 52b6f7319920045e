"""Whatever is shared, kept and batched, each family answers as transformers does when it is asked in the plain way."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import lavis
from lavis.common.types import Question
from lavis.models import hf
from lavis.models.frame_cache import FrameCache
from lavis.models.hf.backbone import IMAGE
from lavis.models.hf.model import HFModel
from lavis.models.pipeline import WatchedVideo
from tests.vlm import plain
from tests.vlm.families import FAMILIES
from tests.vlm.plain import PROMPT

pytestmark = pytest.mark.vlm

# Of the spread of the logits; seen are 1e-6.
MOST = 1e-5
QUESTIONS = [
    Question("Is it red?", ("a circle", "a square")),
    Question("What is the person at the beach doing, and why?", ("swimming", "running away from a dog", "nothing")),
    Question("Where?"),
    Question("Who is in the blue frame?", ("a", "b", "c", "d", "e")),
]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> HFModel:
    made: HFModel = lavis.load_model("hf", folder_of(request.param), device="cpu")
    return made


@pytest.fixture
def video(model: HFModel, clip: Path) -> WatchedVideo:
    return model.watch(clip, num_frames=5)


@pytest.fixture(scope="module")
def plain_scores(model: HFModel, clip: Path) -> npt.NDArray[np.float64]:
    """The logits of yes and no [2, B, T] of the questions, in the plain way."""
    return plain.scores(model, model.watch(clip, num_frames=5).source.pictures(range(5)), QUESTIONS)


@pytest.fixture
def seen(model: HFModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of pictures that the vision tower was given."""
    counts: list[int] = []
    see = model.backbone._see
    monkeypatch.setattr(model.backbone, "_see", lambda pictures: counts.append(len(pictures)) or see(pictures))
    return counts


def spread(model: HFModel, video: WatchedVideo) -> float:
    return plain.spread_of(model, video.source.pictures([0])[0])


def test_a_prompt_with_several_frames_is_the_plain_one(model: HFModel, video: WatchedVideo) -> None:
    pictures, times = video.source.pictures([1, 3]), video.times_s[[1, 3]]
    wanted = plain.next_logits(model, plain.labelled(pictures, times, "Which frame is red?"))
    size = pictures.shape[1:3]
    ids = model.backbone.ids(["Frame at 0.2 s:", IMAGE, "Frame at 0.6 s:", IMAGE, "Which frame is red?"], size)
    assert ids == plain.inputs(model, plain.labelled(pictures, times, "Which frame is red?"))["input_ids"][0].tolist()
    found = model.backbone.logits([ids], model.backbone.features(pictures))[0]
    assert float((found - wanted).abs().max() / wanted.std()) < MOST


def test_in_double_precision_nothing_is_left_of_the_difference(folder_of: Callable[[str], Path], clip: Path) -> None:
    """So it is rounding."""
    for family in FAMILIES:
        model = lavis.load_model("hf", folder_of(family), device="cpu").double()
        pictures = model.watch(clip, num_frames=3).source.pictures(range(3))
        content = plain.labelled(pictures[:2], [0.0, 1.0], "Is it red?")
        size = pictures.shape[1:3]
        ids = model.backbone.ids(["Frame at 0.0 s:", IMAGE, "Frame at 1.0 s:", IMAGE, "Is it red?"], size)
        wanted = plain.next_logits(model, content)
        found = model.backbone.logits([ids], model.backbone.features(pictures[:2]))[0]
        assert float((found - wanted).abs().max() / wanted.std()) < 1e-9, family


@pytest.mark.parametrize("kept", [True, False])
def test_scores_over_shared_prefixes_are_those_of_whole_prompts(
    model: HFModel,
    video: WatchedVideo,
    plain_scores: npt.NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kept: bool,
) -> None:
    monkeypatch.setattr(hf.model, "_CPU_BATCH", 2)
    if not kept:
        monkeypatch.setattr(hf.model, "MAX_PREFIX_BYTES", 0)
    found = model.as_scorer(prompt=PROMPT).score(video.source, QUESTIONS)
    yes, no = plain_scores
    assert np.abs(found.scores - yes).max() < MOST * spread(model, video)
    assert np.abs(found.margins - (yes - no)).max() < 2 * MOST * spread(model, video)
    assert "not shared" not in caplog.text
    assert list(model.backbone._shares.values()) == [True]
    prefix = model.prefix_encoder("")
    assert len(video.source.missing(prefix, range(5))) == (0 if kept else 5)


def test_only_frames_that_are_asked_about_are_scored(model: HFModel, video: WatchedVideo) -> None:
    where = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 0]], dtype=bool)
    scorer = model.as_scorer(prompt=PROMPT)
    found = scorer.score(video.source, QUESTIONS, where=where)
    assert np.array_equal(np.isnan(found.scores), ~where)
    assert video.source.missing(model.prefix_encoder(""), range(5)).tolist() == [1, 4]
    everything = scorer.score(video.source, QUESTIONS)
    assert np.abs(found.scores - everything.scores)[where].max() < MOST * spread(model, video)


def test_frames_are_seen_once_and_prefixes_made_once(
    model: HFModel, video: WatchedVideo, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen.clear()
    made: list[int] = []
    prefix = model.backbone.prefix
    monkeypatch.setattr(
        model.backbone, "prefix", lambda features, *a, **b: made.append(len(features)) or prefix(features, *a, **b)
    )
    model.as_scorer(prompt=PROMPT).score(video.source, QUESTIONS)
    video.ask_all(QUESTIONS[:2])
    video.find("a red circle")
    assert seen == []  # all were seen as it was watched
    made = [count for count in made if count != 1]  # one frame tells whether prefixes can be shared
    assert made == [5]


def test_what_is_kept_of_a_frame_takes_what_was_said(model: HFModel, video: WatchedVideo) -> None:
    features = video.source.encoded(model.feature_encoder)
    ids, _ = model.backbone.split(model.backbone.ids([IMAGE, "?"], model.backbone.size_of(features)))
    (row,) = model.backbone.prefix(features[:1], ids)
    assert row.numel() * row.element_size() == model.backbone.prefix_bytes(len(ids))


def test_the_disk_cache_gives_the_same_answers_to_another_process(
    model: HFModel, folder_of: Callable[[str], Path], clip: Path, tmp_path: Path
) -> None:
    cache = FrameCache(tmp_path)
    before = model.watch(clip, num_frames=5, cache=cache).ask_all(QUESTIONS[:2])
    other: HFModel = lavis.load_model("hf", model.config.base, device="cpu")
    counts: list[int] = []
    see = other.backbone._see
    other.backbone._see = lambda pictures: counts.append(len(pictures)) or see(pictures)
    after = other.watch(clip, num_frames=5, cache=cache).ask_all(QUESTIONS[:2])
    assert counts in ([], [1])  # a black picture, to learn the form of features
    for one, two in zip(before, after, strict=True):
        assert one.index == two.index
        np.testing.assert_array_equal(one.option_scores, two.option_scores)
        np.testing.assert_array_equal(one.keyframes.all_scores, two.keyframes.all_scores)


def test_option_scores_of_frames_read_together_are_the_plain_ones(model: HFModel, video: WatchedVideo) -> None:
    chosen = np.array([[0, 2], [1, 4], [2, 3]])
    asked = [QUESTIONS[0], QUESTIONS[1], QUESTIONS[3]]
    readings = model.as_answerer(prompt=PROMPT, packing="joint").answer(video.source, chosen, asked)
    for question, positions, reading in zip(asked, chosen, readings, strict=True):
        content = plain.labelled(video.source.pictures(positions), video.times_s[positions], PROMPT.answerer(question))
        wanted = plain.letters(model, plain.next_logits(model, content), len(question.options))
        assert np.abs(reading.option_scores - wanted).max() < MOST * spread(model, video)
        assert reading.index == int(np.argmax(wanted))


def test_option_scores_of_single_frames_are_the_plain_ones(model: HFModel, video: WatchedVideo) -> None:
    chosen, asked = np.array([[0, 2, 4], [1, 2, 3]]), QUESTIONS[:2]
    readings = model.as_answerer(prompt=PROMPT, packing="per_frame").answer(video.source, chosen, asked)
    for question, positions, reading in zip(asked, chosen, readings, strict=True):
        wanted = np.array(
            [
                plain.letters(
                    model, plain.about_frame(model, picture, PROMPT.answerer(question)), len(question.options)
                )
                for picture in video.source.pictures(positions)
            ]
        )
        assert reading.frame_choices.tolist() == wanted.argmax(1).tolist()
        assert np.abs(reading.option_scores - wanted.mean(0)).max() < MOST * spread(model, video)


def test_open_answers_are_what_the_model_writes_in_the_plain_way(model: HFModel, video: WatchedVideo) -> None:
    asked, chosen = [Question("Where?"), Question("What is the person at the beach doing?")], np.array([[0, 3], [1, 2]])
    readings = model.as_answerer(prompt=PROMPT, packing="joint").answer(video.source, chosen, asked)
    for question, positions, reading in zip(asked, chosen, readings, strict=True):
        content = plain.labelled(video.source.pictures(positions), video.times_s[positions], PROMPT.answerer(question))
        whole = plain.inputs(model, content)
        written = model.network.generate(**whole, max_new_tokens=30, do_sample=False)[0, whole["input_ids"].shape[1] :]
        assert reading.text == model.backbone.tokenizer.decode(written, skip_special_tokens=True).strip()
        assert reading.index is None


def test_the_vocabulary_is_multiplied_once_with_all_prompts(model: HFModel, video: WatchedVideo) -> None:
    """Torch would multiply, and in bf16 copy, it once for each prompt whose last state is a slice of all states."""
    in_one_piece: list[bool] = []
    asked = [question for question in QUESTIONS if question.options]
    head = model.network.get_output_embeddings()
    with head.register_forward_pre_hook(lambda _, inputs: in_one_piece.append(inputs[0].is_contiguous())):
        model.as_scorer(prompt=PROMPT).score(video.source, asked)
        for packing in ("joint", "per_frame"):
            answerer = model.as_answerer(prompt=PROMPT, packing=packing)
            answerer.answer(video.source, np.array([[0, 2]] * len(asked)), asked)
        video.ask("What is it?", num_keyframes=2)
    assert in_one_piece
    assert all(in_one_piece)


def test_pictures_and_questions_have_a_say(model: HFModel, video: WatchedVideo) -> None:
    scores = model.as_scorer(prompt=PROMPT).score(video.source, QUESTIONS).scores
    least = 1e-3 * spread(model, video)
    assert np.ptp(scores, axis=0).min() > least
    assert np.ptp(scores, axis=1).min() > least

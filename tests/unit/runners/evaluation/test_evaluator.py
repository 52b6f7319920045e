"""What evaluation makes of the roles' answers; the roles here are stand-ins that say what they are told."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question, Subtitle, Unread
from lavis.models.base import FrameScores, Mask, Reading
from lavis.models.chain import Selector
from lavis.models.frames import FrameSource
from lavis.processors import prompts
from lavis.selection.policies.plain import TopK, Uniform
from lavis.tasks.build import resolve_task
from lavis.tasks.predictions import ChoiceAsker, Prediction, SearchAsker

CLIP = FrameSource(np.array([10, 20, 30, 40]), np.array([1.0, 2.0, 3.0, 4.0]))
SCORES = np.array([[0.5, 3.0, 1.0, 2.0], [9.0, 0.0, 0.0, 8.0]])
QUESTIONS = [
    Question("q", ("a", "b"), id="TN_1", answer=1, video="v"),
    Question("r", ("a", "b", "c"), id="TN_2", video="v"),
]


class StandInLocalizer:
    def __init__(self, scores: Floats = SCORES) -> None:
        self._scores = scores

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        return FrameScores(
            scores=self._scores, margins=self._scores - 4, unread=(Unread(unspelt=("é",)), Unread(truncated=True))
        )


class StandInAnswerer:
    def __init__(self, *, last_score: float = 7.0) -> None:
        self._last_score = last_score

    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        self.positions = positions
        choices = np.array([1, 0])
        readings = []
        for question in questions:
            scores = np.arange(len(question.options), dtype=float)
            scores[-1] = self._last_score
            readings.append(Reading(len(question.options) - 1, "", scores, choices, Unread(unspelt=("{",))))
        return readings


def answers(task: str = "chained_inference", *, scores: Floats = SCORES, last_score: float = 7.0) -> list[Prediction]:
    selector = Selector(Uniform()) if task == "uniform_inference" else Selector(TopK(), StandInLocalizer(scores))
    answerer = StandInAnswerer(last_score=last_score)
    asker = ChoiceAsker(selector=selector, answerer=answerer, task=resolve_task(task), frame_num=2)
    return asker.ask(CLIP, QUESTIONS)


def test_an_answer_is_kept_with_the_frames_that_it_was_read_from() -> None:
    assert answers() == [
        Prediction(
            id="TN_1",
            video="v",
            answer=1,
            choice=1,
            option_scores=(0.0, 7.0),
            frame_choices=(1, 0),
            keyframe_idx=(20, 40),
            keyframe_times_s=(2.0, 4.0),
            frame_times_s=(1.0, 2.0, 3.0, 4.0),
            frame_scores=(0.5, 3.0, 1.0, 2.0),
            unspelt=("é", "{"),
        ),
        Prediction(
            id="TN_2",
            video="v",
            choice=2,
            option_scores=(0.0, 1.0, 7.0),
            frame_choices=(1, 0),
            keyframe_idx=(10, 40),
            keyframe_times_s=(1.0, 4.0),
            frame_times_s=(1.0, 2.0, 3.0, 4.0),
            frame_scores=(9.0, 0.0, 0.0, 8.0),
            cut=True,
            unspelt=("{",),
        ),
    ]


@pytest.mark.parametrize(
    ("task", "keyframes"),
    [
        ("chained_inference", (20, 40)),
        ("qvh_freeze_loc_freeze_qa_vid", (20, 40)),
        ("qvh_freeze_loc_freeze_qa", (20,)),
        ("uniform_inference", (10, 20, 30, 40)),
    ],
)
def test_as_many_frames_are_read_as_the_task_says(task: str, keyframes: tuple[int, ...]) -> None:
    assert answers(task)[0].keyframe_idx == keyframes


def test_a_search_keeps_the_margin_of_every_frame() -> None:
    found = SearchAsker(scorer=StandInLocalizer()).ask(CLIP, QUESTIONS)
    assert [one.frame_scores for one in found] == [(-3.5, -1.0, -3.0, -2.0), (5.0, -4.0, -4.0, 4.0)]
    assert [(one.choice, one.keyframe_idx, one.cut) for one in found] == [(None, (), False), (None, (), True)]
    assert [one.unspelt for one in found] == [("é",), ()]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_stop_the_evaluation(bad: float) -> None:
    message = "question 'TN_1' has scores that are not finite; try another model.dtype"
    with pytest.raises(ConfigError, match=message):
        answers(last_score=bad)
    with pytest.raises(ConfigError, match=message):
        SearchAsker(scorer=StandInLocalizer(np.full((2, 4), bad))).ask(CLIP, QUESTIONS)


def test_the_answerer_hears_the_subtitles_of_its_frames_and_what_is_too_long_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Listener(StandInAnswerer):
        def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
            self.heard = [question.heard for question in questions]
            return super().answer(frames, positions, questions)

    subtitles = tuple(Subtitle(float(at), at + 0.4, f"word {at}") for at in range(6))
    # The frames that are read are those at 2 and 4 s for the first question, at 1 and 4 s for the second.
    questions = [QUESTIONS[0], replace(QUESTIONS[1], subtitles=subtitles, options=("a", "b"))]
    listener = Listener()
    asker = ChoiceAsker(
        selector=Selector(TopK(), StandInLocalizer()),
        answerer=listener,
        task=resolve_task("chained_inference"),
        frame_num=2,
    )
    assert [one.subtitles_cut for one in asker.ask(CLIP, questions)] == [0, 0]
    assert listener.heard == ["", "1.0 s: word 1\n4.0 s: word 4"]
    monkeypatch.setattr(prompts, "MAX_SUBTITLE_CHARS", 20)
    assert [one.subtitles_cut for one in asker.ask(CLIP, questions)] == [0, 1]
    assert listener.heard == ["", "1.0 s: word 1\n(1 more lines are left out)"]

"""What is asked of a video that has been watched, and what becomes of the answers.

T frames of one video, K keyframes, O options.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question
from lavis.models.roles import Answerer, Localizer, VideoModel
from lavis.models.selectors import FrameSelector, build_selector
from lavis.tasks.build import count_keyframes
from lavis.tasks.evaluation.predictions import Prediction
from lavis.tasks.published import PublishedTask


@dataclass(frozen=True)
class WatchedClip:
    """The tokens of T frames, and which frames they are: [T] indices into the source video and times."""

    tokens: Any
    frame_idx: Integers
    times_s: Floats


class Scorer(Protocol):
    """Asks questions of one clip."""

    def score(self, clip: WatchedClip, questions: Sequence[Question]) -> list[Prediction]:
        """Return what the model says about each question.

        Raises:
            ConfigError: it says something that is no number.
        """
        ...


class AnswerScorer:
    """Chooses keyframes for each question, and an option from them.

    Args:
        task: how many frames are read.
        frame_num: keyframes to read, where the task does not say otherwise.
    """

    def __init__(self, *, selector: FrameSelector, answerer: Answerer, task: PublishedTask, frame_num: int) -> None:
        self._selector, self._answerer = selector, answerer
        self._task, self._frame_num = task, frame_num

    def score(self, clip: WatchedClip, questions: Sequence[Question]) -> list[Prediction]:
        """Answer questions with options."""
        count = count_keyframes(self._task, frame_num=self._frame_num, num_frames=len(clip.times_s))
        chosen = self._selector.select(clip.tokens, clip.times_s, questions, num_keyframes=count)
        if chosen.scored is not None:
            for question, scores, scored in zip(questions, chosen.scores, chosen.scored, strict=True):
                _finite(scores[scored], question)
        readings = self._answerer.answer(clip.tokens, chosen.positions, questions)
        return [
            Prediction(
                id=question.id,
                video=question.video or "",
                answer=question.answer,
                choice=reading.index,
                option_scores=_finite(reading.option_scores, question),
                frame_choices=tuple(reading.frame_choices.tolist()),
                keyframe_idx=tuple(clip.frame_idx[positions].tolist()),
                keyframe_times_s=tuple(clip.times_s[positions].tolist()),
                frame_times_s=tuple(clip.times_s.tolist()),
                frame_scores=_finite(scores, question) if chosen.scored is None else (),
                cut=lost.cut or reading.unread.cut,
                unspelt=(lost | reading.unread).unspelt,
            )
            for question, reading, positions, scores, lost in zip(
                questions, readings, chosen.positions, chosen.scores, chosen.unread, strict=True
            )
        ]


class SearchScorer:
    """Says of every frame how well it matches a search; moments are made of that later."""

    def __init__(self, *, localizer: Localizer) -> None:
        self._localizer = localizer

    def score(self, clip: WatchedClip, questions: Sequence[Question]) -> list[Prediction]:
        """Score all frames for each search."""
        found = self._localizer.score(clip.tokens, questions)
        return [
            Prediction(
                id=question.id,
                video=question.video or "",
                frame_times_s=tuple(clip.times_s.tolist()),
                frame_scores=_finite(margins, question),
                cut=lost.cut,
                unspelt=lost.unspelt,
            )
            for question, margins, lost in zip(questions, found.margins, found.unread, strict=True)
        ]


def _finite(scores: Floats, question: Question) -> tuple[float, ...]:
    """Return scores as plain numbers; those that are none would make a choice that looks like any other."""
    if not np.isfinite(scores).all():
        raise ConfigError(
            f"question {question.id!r} has scores that are not finite; try another model.dtype, or check the weights"
        )
    return tuple(scores.tolist())


def build_scorer(
    model: VideoModel, *, searches: bool, task: PublishedTask, prompt: str, frame_num: int
) -> AnswerScorer | SearchScorer:
    """Build what asks the questions of a split.

    Args:
        searches: the split holds searches, which have no options.
        task: which frames are read, and how.
        prompt: how questions are worded, a name in `registry.prompts`.
    """
    if searches:
        return SearchScorer(localizer=model.as_localizer(prompt=prompt))
    selector = build_selector(task.selector, lambda: model.as_localizer(prompt=prompt))
    answerer = model.as_answerer(prompt=prompt, reader=task.reader)
    return AnswerScorer(selector=selector, answerer=answerer, task=task, frame_num=frame_num)

"""Asking a model about one clip, and writing down what it says: evaluation and validation do it alike.

T frames of one video, K keyframes, O options.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Question, Unread
from lavis.models.base import Answerer, FrameScorer, VideoModel
from lavis.models.chain import Selector, build_selector, select_and_answer
from lavis.models.frames import FrameSource
from lavis.tasks.build import count_keyframes
from lavis.tasks.evaluation.predictions import Prediction
from lavis.tasks.published import PublishedTask


class Asker(Protocol):
    """Asks questions about one clip."""

    def ask(self, frames: FrameSource, questions: Sequence[Question]) -> list[Prediction]:
        """Return what the model says about each question.

        Raises:
            ConfigError: it says something that is no number.
        """
        ...


class ChoiceAsker:
    """Chooses keyframes for each question, and an option from them.

    Args:
        task: how many frames are read.
        frame_num: keyframes to read, where the task does not say otherwise.
    """

    def __init__(self, *, selector: Selector, answerer: Answerer, task: PublishedTask, frame_num: int) -> None:
        self._selector, self._answerer = selector, answerer
        self._task, self._frame_num = task, frame_num

    def ask(self, frames: FrameSource, questions: Sequence[Question]) -> list[Prediction]:
        """Answer questions with options."""
        count = count_keyframes(self._task, frame_num=self._frame_num, num_frames=len(frames))
        found = select_and_answer(
            frames, questions, selector=self._selector, answerer=self._answerer, k=self._selector.k or count
        )
        return [
            Prediction(
                id=question.id,
                video=question.video or "",
                answer=question.answer,
                choice=reading.index,
                option_scores=_finite(reading.option_scores, question),
                frame_choices=tuple(reading.frame_choices.tolist()),
                keyframe_idx=tuple(frames.frame_idx[selection.positions].tolist()),
                keyframe_times_s=tuple(frames.times_s[selection.positions].tolist()),
                frame_times_s=tuple(frames.times_s.tolist()),
                frame_scores=() if np.isnan(selection.scores).any() else _finite(selection.scores, question),
                cut=selection.unread.truncated or reading.unread.truncated,
                unspelt=(selection.unread | reading.unread).unspelt,
            )
            for question, (selection, reading) in zip(questions, found, strict=True)
        ]


class SearchAsker:
    """Says of every frame how well it matches a search; moments are made of that later."""

    def __init__(self, *, scorer: FrameScorer) -> None:
        self._scorer = scorer

    def ask(self, frames: FrameSource, questions: Sequence[Question]) -> list[Prediction]:
        """Score all frames for each search."""
        found = self._scorer.score(frames, questions)
        return [
            search_prediction(question, frames.times_s, margins, lost)
            for question, margins, lost in zip(questions, found.margins, found.unread, strict=True)
        ]


def search_prediction(question: Question, times_s: Floats, margins: Floats, unread: Unread) -> Prediction:
    """Return what was said of a search: the margins [T] of its frames."""
    return Prediction(
        id=question.id,
        video=question.video or "",
        frame_times_s=tuple(times_s.tolist()),
        frame_scores=_finite(margins, question),
        cut=unread.truncated,
        unspelt=unread.unspelt,
    )


def _finite(scores: Floats, question: Question) -> tuple[float, ...]:
    """Return scores as plain numbers; those that are none would make a choice that looks like any other."""
    if not np.isfinite(scores).all():
        raise ConfigError(
            f"question {question.id!r} has scores that are not finite; try another model.dtype, or check the weights"
        )
    return tuple(scores.tolist())


def build_asker(
    model: VideoModel, *, searches: bool, task: PublishedTask, prompt: str, frame_num: int
) -> ChoiceAsker | SearchAsker:
    """Build what asks the questions of a split.

    Args:
        searches: the split holds searches, which have no options.
        task: which frames are read, and how.
        prompt: how questions are worded, a name in `registry.prompts`.
    """
    if searches:
        return SearchAsker(scorer=model.as_scorer(prompt=prompt))
    selector = build_selector(task.selector, model, prompt=prompt)
    answerer = model.as_answerer(prompt=prompt, packing=task.reader)
    return ChoiceAsker(selector=selector, answerer=answerer, task=task, frame_num=frame_num)

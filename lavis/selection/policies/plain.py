"""Policies that look at the scores of all frames, or at none.

T frames of one video, B questions about it, K keyframes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from lavis.common.errors import QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Integers, Question
from lavis.models.base import FrameScorer, Selection
from lavis.models.frames import FrameSource
from lavis.selection.policies.common import best, random_for, uniform_positions


class TopK:
    """The forward chain's choice: the K frames that score highest (paper, section 3.2)."""

    needs_scorer = True

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score every frame for every question and keep the top K."""
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        return best(found.scores, found.unread, k)

    def decide(
        self, frames: FrameSource, questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Keep the frames above the largest gap in the order of scores (our own); all `most` where there is none."""
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        return [
            best(scores[None], [unread], above_gap(scores, most))[0]
            for scores, unread in zip(found.scores, found.unread, strict=True)
        ]


def above_gap(scores: Floats, most: int) -> int:
    """Return how many scores [T] lie above the largest gap within the best `most` + 1, the first of equal gaps.

    Scores that are no finite numbers do not count; at least 1, and `most` where all scores are equal.
    """
    ranked = np.sort(scores[np.isfinite(scores)])[::-1][: most + 1]
    gaps = -np.diff(ranked)
    if not len(gaps) or not gaps.any():
        return max(1, min(most, len(ranked)))
    return int(gaps.argmax()) + 1


class _Unscored(ABC):
    """A policy that looks at no scores, and at one question after the other."""

    needs_scorer = False

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose frames for each question."""
        del scorer
        return [Selection(self._positions(frames, question, k)) for question in questions]

    @abstractmethod
    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        """Return which frames are chosen, in time order."""


class Uniform(_Unscored):
    """The uniform baseline: K frames spread evenly, the middles of K equal segments, the same for every question."""

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        del question
        return uniform_positions(len(frames), k)


class All(_Unscored):
    """Every frame, however many are asked for."""

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        del question, k
        return np.arange(len(frames))


class Random(_Unscored):
    """K frames at random, without replacement, independently for each question.

    Args:
        seed: the same seed and question (its id, or its text if it has none) give the same frames. None draws others
            each time, from torch's global generator.
    """

    def __init__(self, *, seed: int | None = 0) -> None:
        self._seed = seed

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        if self._seed is None:
            return np.sort(torch.randperm(len(frames))[:k].numpy())
        return np.sort(random_for(question, self._seed).choice(len(frames), k, replace=False))


class Windows(_Unscored):
    """The oracle: frames spread evenly over the annotated windows, then over the rest if they do not suffice.

    A question without annotated windows is a QuestionError.
    """

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Make sure that all questions have windows.

        Raises:
            QuestionError: one has none.
        """
        for question in questions:
            if not question.windows:
                raise QuestionError(f"question {question.id or question.text!r} has no windows to choose frames from")

    def _positions(self, frames: FrameSource, question: Question, k: int) -> Integers:
        within, outside = self._parted(frames, question)
        from_within = min(k, len(within))
        chosen = [
            within[uniform_positions(len(within), from_within)],
            outside[uniform_positions(len(outside), k - from_within)],
        ]
        return np.sort(np.concatenate(chosen)).astype(np.int64)

    def decide(
        self, frames: FrameSource, questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose the frames in the windows alone, spread evenly where they are more than `most`; at least one frame."""
        del scorer
        counts = [len(self._parted(frames, question)[0]) for question in questions]
        return [
            Selection(self._positions(frames, question, max(1, min(count, most))))
            for question, count in zip(questions, counts, strict=True)
        ]

    def _parted(self, frames: FrameSource, question: Question) -> tuple[Integers, Integers]:
        """Return the positions inside of the windows, and those outside."""
        self.check_questions([question])
        inside = inside_windows(frames.times_s, question.windows or ())
        return np.flatnonzero(inside), np.flatnonzero(~inside)

"""Policies that look at the scores of all frames, or at none.

T frames of one video, B questions about it, K keyframes.
"""

from collections.abc import Sequence

import numpy as np
import torch

from lavis.common.errors import QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Integers, Question
from lavis.models.base import FrameScorer, Selection
from lavis.models.frames import FrameSource


def top_positions(scores: Floats, num_keyframes: int) -> Integers:
    """Return the positions [B, K] of the highest scores [B, T], in time order; ties go to the earlier frame.

    NaN counts as the lowest score.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :num_keyframes]
    return np.sort(best, axis=1).astype(np.int64)


def uniform_positions(num_frames: int, num_keyframes: int) -> Integers:
    """Return the middle [K] of each of K equal segments of T frames."""
    edges = np.linspace(0, num_frames, num_keyframes + 1).astype(np.int64)
    return (edges[:-1] + edges[1:]) // 2


class TopK:
    """The forward chain's choice: the K frames that score highest (paper, section 3.2)."""

    needs_scorer = True

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score every frame for every question and keep the top K."""
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        return [
            Selection(*chosen)
            for chosen in zip(top_positions(found.scores, k), found.scores, found.unread, strict=True)
        ]


class Uniform:
    """The uniform baseline: K frames spread evenly, the same for every question."""

    needs_scorer = False

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose the middles of K equal segments."""
        del scorer
        return [Selection(uniform_positions(len(frames), k)) for _ in questions]


class All:
    """Every frame, however many are asked for."""

    needs_scorer = False

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose all T frames."""
        del k, scorer
        return [Selection(np.arange(len(frames))) for _ in questions]


class Random:
    """K frames at random.

    Args:
        seed: the same seed and question (its id, or its text if it has none) give the same frames. None draws others
            each time, from torch's global generator.
    """

    needs_scorer = False

    def __init__(self, *, seed: int | None = 0) -> None:
        self._seed = seed

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Draw without replacement, independently for each question."""
        del scorer
        return [Selection(np.sort(self._draw(len(frames), k, question)).astype(np.int64)) for question in questions]

    def _draw(self, num_frames: int, k: int, question: Question) -> Integers:
        if self._seed is None:
            return torch.randperm(num_frames)[:k].numpy()
        rng = np.random.default_rng([self._seed, *(question.id or question.text).encode(errors="surrogatepass")])
        return rng.choice(num_frames, k, replace=False)


class Windows:
    """The oracle: frames spread evenly over the annotated windows, then over the rest if they do not suffice."""

    needs_scorer = False

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose inside the windows.

        Raises:
            QuestionError: a question has no annotated windows.
        """
        del scorer
        return [self._inside(frames.times_s, question, k) for question in questions]

    def _inside(self, times_s: Floats, question: Question, k: int) -> Selection:
        if not question.windows:
            raise QuestionError(f"question {question.id or question.text!r} has no windows to choose frames from")
        inside = inside_windows(times_s, question.windows)
        within, outside = np.flatnonzero(inside), np.flatnonzero(~inside)
        from_within = min(k, len(within))
        chosen = [
            within[uniform_positions(len(within), from_within)],
            outside[uniform_positions(len(outside), k - from_within)],
        ]
        return Selection(np.sort(np.concatenate(chosen)).astype(np.int64))

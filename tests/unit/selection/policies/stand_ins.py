"""Scorers whose scores and features are known, and questions for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lavis.common.registry import registry
from lavis.common.types import Floats, Question, Unread
from lavis.models.base import FrameScores, Mask, Selection
from lavis.models.frames import FrameSource


class KnownScores:
    """Scores [B, T] are known; it remembers which were asked for, and refuses to score a frame twice."""

    def __init__(self, scores: npt.ArrayLike, *, margins: npt.ArrayLike | None = None) -> None:
        self.scores: Floats = np.atleast_2d(np.asarray(scores, dtype=np.float64))
        self.margins = self.scores if margins is None else np.atleast_2d(np.asarray(margins, dtype=np.float64))
        self.asked = np.zeros(self.scores.shape, dtype=bool)
        self.calls = 0

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        wanted = np.ones_like(self.asked) if where is None else where
        assert not (self.asked & wanted).any(), "scored twice"
        self.asked |= wanted
        self.calls += 1
        scores, margins = (np.where(wanted, values, np.nan) for values in (self.scores, self.margins))
        return FrameScores(scores, margins, (Unread(),) * len(questions))


class KnownFeatures(KnownScores):
    """Features of frames [T, D] and of questions [B, D] are known too; scores are their products."""

    def __init__(self, frames: Floats, queries: Floats) -> None:
        super().__init__(queries @ frames.T)
        self.frames, self.queries = frames, queries

    def frame_features(self, frames: FrameSource, positions: npt.ArrayLike | None = None) -> Floats:
        return self.frames if positions is None else self.frames[np.asarray(positions)]

    def query_features(self, questions: Sequence[Question]) -> Floats:
        return self.queries


def frames_of(count: int, *, per_second: float = 1.0) -> FrameSource:
    """Frames of which only the times are known."""
    return FrameSource(np.arange(count), np.arange(count) / per_second)


def questions(count: int = 1) -> list[Question]:
    return [Question(f"question {number}", id=f"q{number}") for number in range(count)]


def choose(policy: str | Mapping[str, Any], scorer: KnownScores, k: int, **times: float) -> list[Selection]:
    """Choose by a policy that is built as a configuration names it."""
    rows, count = scorer.scores.shape
    built = registry.policies.build(policy)
    found: list[Selection] = built.choose(frames_of(count, **times), questions(rows), k=k, scorer=scorer)
    return found


def chosen(policy: str | Mapping[str, Any], scores: npt.ArrayLike, k: int, **times: float) -> list[int]:
    """Return the positions chosen for one question of known scores [T]."""
    (selection,) = choose(policy, KnownScores(scores), k, **times)
    positions: list[int] = selection.positions.tolist()
    return positions

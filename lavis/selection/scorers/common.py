"""What scorers share. T frames of one video, B questions about it, N frames that are asked about."""

import numpy as np

from lavis.common.errors import ConfigError, NotFiniteError, did_you_mean
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScores, Mask

QUERIES = ("question_and_options", "question")
"""Which text of a question a scorer reads."""


def check_query(name: str) -> None:
    """Make sure that a question can be read so.

    Raises:
        ConfigError: not one of `QUERIES`.
    """
    if name not in QUERIES:
        raise ConfigError(f"unknown query {name!r}; {did_you_mean(str(name), QUERIES)}")


def query_text(question: Question, query: str) -> str:
    """Return what is compared with frames; options follow the question, without letters."""
    return " ".join((question.text, *question.options)) if query == "question_and_options" else question.text


def question_name(question: Question) -> str:
    """Return a question's id, or its text, for messages."""
    return f"{question.id or question.text!r:.80}"


def asked_positions(num_frames: int, where: Mask | None) -> Integers:
    """Return the positions [N] that any question asks about; `where` [B, T] as for `FrameScorer.score`."""
    return np.arange(num_frames) if where is None else np.flatnonzero(where.any(axis=0))


def frame_scores(scores: Floats, where: Mask | None, *, margins: Floats | None = None, by: str = "") -> FrameScores:
    """Return scores [B, T] of frames that were asked about, NaN for the rest; nothing is left unread.

    Args:
        margins: [B, T]; None is how far a score lies above the mean of its question.
        by: what made the scores, where that may have failed.

    Raises:
        NotFiniteError: a score is no number.
    """
    where = np.ones(scores.shape, bool) if where is None else where
    if by and not np.isfinite(scores[where]).all():
        raise NotFiniteError(f"{by} makes scores that are not finite; give another dtype, or check its weights")
    if margins is None:
        known = where & np.isfinite(scores)
        sums = np.where(known, scores, 0).sum(axis=1, keepdims=True)
        margins = scores - sums / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return FrameScores(np.where(where, scores, np.nan), np.where(where, margins, np.nan), (Unread(),) * len(scores))

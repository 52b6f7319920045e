"""Choosing keyframes of a long video without scoring every frame.

T frames of one video, B questions about it, K keyframes.
"""

from collections.abc import Sequence

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Question, Unread
from lavis.models.base import FrameScorer, Mask, Selection
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import best, uniform_positions

_LEAST_FOLLOWED = 4


class CoarseToFine:
    """Scores a spread of frames, then looks closer around the best of them.

    Each look halves the gaps beside the K best frames so far, down to single frames. Such a frame is scored only where
    the mean of the two beside it, which are much like it, is among the K best. Without that rule,
    single frames would be half of all calls. A moment shorter than the gaps of the spread can be missed; a longer
    one is found. For fewer than 4 keyframes it looks as for 4: one or two frames are seldom where the moment is.

    Args:
        gap: one frame in so many is scored at first, and twice as many as the best that are followed at least (a short
            video leaves little to save).

    Raises:
        ConfigError: the gap is less than one frame.
    """

    needs_scorer = True

    def __init__(self, *, gap: int = 8) -> None:
        if gap < 1:
            raise ConfigError(f"cannot score one frame in {gap}; give a gap of at least 1")
        self._gap = gap

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score what is needed for each question and keep the top K; frames that were not scored have the score NaN."""
        assert scorer is not None, "it needs one"
        num_frames = len(frames)
        followed = max(k, _LEAST_FOLLOWED)
        first = min(num_frames, max(2 * followed, -(-num_frames // self._gap)))
        wanted = np.zeros((len(questions), num_frames), dtype=bool)
        wanted[:, uniform_positions(num_frames, first)] = True
        scored, scores, unread = np.zeros_like(wanted), np.full(wanted.shape, np.nan), (Unread(),) * len(questions)
        while wanted.any():
            found = scorer.score(frames, questions, where=wanted)
            scores, scored, unread = np.where(wanted, found.scores, scores), scored | wanted, found.unread
            wanted = np.stack([closer(known, row, followed) for known, row in zip(scored, scores, strict=True)])
        return best(scores, unread, k)


def closer(known: Mask, scores: Floats, num_best: int) -> Mask:
    """Return which frames [T] to score next: those that halve gaps beside the best ones, or promising single ones."""
    places = np.flatnonzero(known)
    values = scores[places]
    best = np.argsort(-values, kind="stable")[:num_best]
    edges = np.concatenate([[-1], places, [len(known)]])
    here, before, after = edges[best + 1], edges[best], edges[best + 2]
    halves = np.concatenate([((before + here) // 2)[here - before > 2], ((here + after + 1) // 2)[after - here > 2]])
    # Beside the first and the last frame there is one other only.
    beside = np.concatenate([values[:1], values, values[-1:]])
    with np.errstate(invalid="ignore"):  # infinite scores of either sign have no mean
        promising = (np.diff(edges) == 2) & ((beside[:-1] + beside[1:]) / 2 > values[best[-1]])
    wanted = np.zeros_like(known)
    wanted[halves if len(halves) else edges[:-1][promising] + 1] = True
    return wanted

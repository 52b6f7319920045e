"""Choosing keyframes of a long video without scoring every frame.

T frames of one video, B questions about it, K keyframes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Question, Unread
from lavis.models.roles import Localizer
from lavis.models.selectors import LocalizerSelector, Selection, top_positions, uniform_positions

Mask = npt.NDArray[np.bool_]


class CoarseToFineSelector(LocalizerSelector):
    """Scores a spread of frames, then looks closer around the best of them.

    Each look halves the gaps beside the K best frames so far, down to single frames. Such a frame is scored only where
    the mean of the two beside it, which are much like it, is among the K best: they would be the half of all calls. A
    moment shorter than the gaps of the spread can be missed; a longer one is found.

    Args:
        gap: one frame in so many is scored at first, and 2 K at least (a short video leaves little to save).

    Raises:
        ConfigError: the gap is less than one frame.
    """

    def __init__(self, *, localizer: Localizer, gap: int = 8) -> None:
        super().__init__(localizer=localizer)
        if gap < 1:
            raise ConfigError(f"cannot score one frame in {gap}; give a gap of at least 1")
        self._gap = gap

    def select(self, tokens: Any, times_s: Floats, questions: Sequence[Question], *, num_keyframes: int) -> Selection:
        """Score what is needed for each question and keep the top K; frames that were not scored have the score NaN."""
        num_frames = len(times_s)
        first = min(num_frames, max(2 * num_keyframes, -(-num_frames // self._gap)))
        wanted = np.zeros((len(questions), num_frames), dtype=bool)
        wanted[:, uniform_positions(num_frames, first)] = True
        scored, scores, unread = np.zeros_like(wanted), np.full(wanted.shape, np.nan), (Unread(),) * len(questions)
        while wanted.any():
            found = self._localizer.score(tokens, questions, where=wanted)
            scores, scored, unread = np.where(wanted, found.scores, scores), scored | wanted, found.unread
            rows = zip(scored, scores, strict=True)
            wanted = np.stack([closer(known, row, num_keyframes) for known, row in rows])
        return Selection(top_positions(scores, num_keyframes), scores, unread, scored)


def closer(known: Mask, scores: Floats, num_keyframes: int) -> Mask:
    """Return which frames [T] to score next: those that halve gaps beside the K best, or then promising single ones."""
    places = np.flatnonzero(known)
    values = scores[places]
    best = np.argsort(-values, kind="stable")[:num_keyframes]
    edges = np.concatenate([[-1], places, [len(known)]])
    here, before, after = edges[best + 1], edges[best], edges[best + 2]
    halves = np.concatenate([((before + here) // 2)[here - before > 2], ((here + after + 1) // 2)[after - here > 2]])
    # Beside the first and the last frame there is one other only.
    beside = np.concatenate([values[:1], values, values[-1:]])
    promising = (np.diff(edges) == 2) & ((beside[:-1] + beside[1:]) / 2 > values[best[-1]])
    wanted = np.zeros_like(known)
    wanted[halves if len(halves) else edges[:-1][promising] + 1] = True
    return wanted

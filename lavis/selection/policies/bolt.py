"""BOLT: inverse transform sampling (Liu et al., CVPR 2025, arXiv 2503.21483)."""

from collections.abc import Sequence

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Integers, Question
from lavis.models.base import FrameScorer, Selection
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import Candidates, Scored, completed, is_constant, uniform_positions


class BOLT(Scored):
    """Takes frames at even steps of the cumulative score, so that they are dense where scores are high.

    Scores are scaled to 0..1 and raised to `power`.

    By default frames that are met twice are replaced by the best of the rest; one frame is the middle of the
    distribution and two are its quarters. Where all scores are equal, which divides 0 by 0, frames are spread evenly.

    Args:
        power: 3 for VideoMME and MLVU, 2.5 for LongVideoBench.
        published: frames that are met twice stay twice; one frame is the last one that has a share of the
            distribution, and two are twice its middle.

    Raises:
        ConfigError: `power` is not above 0.
    """

    # As published for 32 frames.
    most = 32

    def __init__(self, *, power: float = 3.0, published: bool = False) -> None:
        super().__init__(published=published)
        if not power > 0:
            raise ConfigError(f"cannot raise scores to the power of {power}; give a number above 0")
        self._power = power

    def decide(
        self, frames: FrameSource, questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Take `most` steps, and leave it at the different frames that are met: few where few have high scores."""
        assert scorer is not None, "it needs one"
        found = scorer.score(frames, questions)
        chosen = []
        for question, scores, unread in zip(questions, found.scores, found.unread, strict=True):
            places, every = np.flatnonzero(np.isfinite(scores)), Candidates(question, scores, frames.times_s)
            met = np.unique(self._ruled(every, most, places)) if len(places) else places
            chosen.append(Selection(completed(met, scores, max(1, len(met))), scores, unread))
        return chosen

    def _choose(self, candidates: Candidates, k: int) -> Integers:
        scores = candidates.scores
        if is_constant(scores):
            return uniform_positions(len(scores), k)
        shares = ((scores - scores.min()) / np.ptp(scores)) ** self._power
        steps = np.linspace(1 / k, 1 - 1 / k, k) if self._published or k > 2 else (np.arange(k) + 0.5) / k
        return np.searchsorted(np.cumsum(shares) / shares.sum(), steps).clip(max=len(scores) - 1)

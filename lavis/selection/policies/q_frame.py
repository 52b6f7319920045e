"""Q-Frame (Zhang et al., ICCV 2025, arXiv 2506.22139)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScorer, FrameScores, Selection
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import Candidates, Scored, random_for, without_gaps

_SIZES = (1 / 2, 1 / 4, 1 / 8)


class QFrame(Scored):
    """Draws frames without replacement, by the softmax of scores over `temperature` (the Gumbel-max trick).

    The score is the product of the features of question and frame, as they come, where the scorer offers features;
    else the scorer's own.

    Args:
        seed: of the noise, which the published code does not seed.
        high: frames at half their size, of `mid` at a quarter and `low` at an eighth. Together they cost as much as
            high + mid / 4 + low / 16 = 8 frames of the first size.
        published: K is such a cost, for which K / 8 times as many frames of each size are chosen; `Selection.sizes`
            has their sizes, for Answerers that take them. By default K frames are chosen, of the size they have.

    Raises:
        ConfigError: the temperature is not above 0, or the counts are not.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.8,
        seed: int = 0,
        high: int = 4,
        mid: int = 8,
        low: int = 32,
        published: bool = False,
    ) -> None:
        super().__init__(published=published)
        if not temperature > 0:
            raise ConfigError(f"cannot divide scores by a temperature of {temperature}; give a number above 0")
        if high < 1 or mid < 0 or low < 0:
            raise ConfigError(f"there are no {high}, {mid} and {low} frames; give a `high` of at least 1, others of 0")
        self._temperature, self._seed, self._counts = temperature, seed, (high, mid, low)

    def _look(
        self, frames: FrameSource, questions: Sequence[Question], scorer: FrameScorer
    ) -> tuple[FrameScores, Floats | None]:
        if not (hasattr(scorer, "frame_features") and hasattr(scorer, "query_features")):
            return super()._look(frames, questions, scorer)
        scores = scorer.query_features(questions) @ scorer.frame_features(frames).T
        return FrameScores(scores, scores, (Unread(),) * len(questions)), None

    def _selection(self, every: Candidates, k: int, unread: Unread) -> Selection:
        if not self._published:
            return super()._selection(every, k, unread)
        sizes = self.sizes(k, num_frames=len(every.scores))
        ranked = self._choose(replace(every, scores=without_gaps(every.scores)), k)[: len(sizes)]
        in_time = np.argsort(ranked)
        return Selection(ranked[in_time], every.scores, unread, sizes=sizes[in_time])

    def sizes(self, k: int, *, num_frames: int) -> Floats:
        """Return the sizes of the frames that K comes to, the largest first; [0] by default, for their own."""
        if not self._published:
            return np.empty(0)
        cost = sum(count * (size / _SIZES[0]) ** 2 for count, size in zip(self._counts, _SIZES, strict=True))
        counts = [int(count * k / cost) for count in self._counts]
        counts[0] = max(1, counts[0])
        return np.repeat(_SIZES, counts)[:num_frames]

    def _choose(self, candidates: Candidates, k: int) -> Integers:
        del k
        # The softmax takes the same from all scores, which changes no order.
        noise = random_for(candidates.question, self._seed).gumbel(size=len(candidates.scores))
        return np.argsort(-(candidates.scores / self._temperature + noise), kind="stable")

"""Adaptive Keyframe Sampling (Tang et al., CVPR 2025, arXiv 2502.21271)."""

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Integers
from lavis.selection.policies.plain import Candidates, Scored, is_constant, uniform_positions


class AKS(Scored):
    """Halves the video until the best frames of a part stand out, and takes the best of each part.

    Scores are scaled to 0..1. A part stands out if the mean of its K best is more than `t1` above the mean of all, and
    their standard deviation is above `t2`; a part that does not is halved, `depth` times at most. A part that was
    halved d times gives its K / 2^d best frames, rounded down.

    By default no part is halved so often that it would give none, and frames that rounding leaves open are the best
    of the rest. Where all scores are equal, which divides 0 by 0, frames are spread evenly.

    Args:
        published: halve `depth` times whatever K is. With K below 32, parts of depth 5 give no frame.

    Raises:
        ConfigError: `depth` is negative.
    """

    def __init__(self, *, t1: float = 0.8, t2: float = -100.0, depth: int = 5, published: bool = False) -> None:
        super().__init__(published=published)
        if depth < 0:
            raise ConfigError(f"cannot halve a video {depth} times; give a depth of 0 or more")
        self._t1, self._t2, self._depth = t1, t2, depth

    def _choose(self, candidates: Candidates, k: int) -> Integers:
        scores = candidates.scores
        if is_constant(scores):
            return uniform_positions(len(scores), min(k, len(scores)))
        scaled = (scores - scores.min()) / np.ptp(scores)
        chosen = []
        deepest = self._depth if self._published else min(self._depth, k.bit_length() - 1)
        parts = [(np.arange(len(scores)), 0)]
        while parts:
            part, depth = parts.pop()
            if not len(part):
                continue
            best_first = part[np.argsort(-scaled[part], kind="stable")]
            lead = scaled[best_first[:k]].mean() - scaled[part].mean()
            if depth == deepest or (lead > self._t1 and scaled[part].std() > self._t2):
                chosen.append(best_first[: k // 2**depth])
            else:
                middle = len(part) // 2
                parts += [(part[:middle], depth + 1), (part[middle:], depth + 1)]
        return np.concatenate(chosen)

"""Policies that keep frames apart from each other, by determinants of their similarities: MDP3 and a plain DPP."""

from collections.abc import Callable, Sequence

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScorer, FrameScores
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import Candidates, Scored, is_constant, picture_features

# Frames that are the same leave no determinant.
_LEAST = 1e-10


def greedy(
    quality: Floats, kernel: Callable[[int], Floats], diagonal: Floats, k: int, *, weight: float = 1.0
) -> tuple[list[int], list[float]]:
    """Maximise the sum of the quality of K frames plus a weight times the log-determinant of their kernel, greedily.

    The factorisation grows by one row with each frame (Chen et al., NeurIPS 2018, arXiv 1709.05135).

    Args:
        quality: [n].
        kernel: the row [n] of a frame.
        diagonal: [n], of the kernel.

    Returns:
        The frames in the order they are taken, and the objective after each.
    """
    left, rows, chosen, reached = diagonal.copy(), np.empty((0, len(quality))), list[int](), list[float]()
    for _ in range(min(k, len(quality))):
        gains = quality + weight * np.log(left.clip(min=_LEAST))
        gains[chosen] = -np.inf
        best = int(gains.argmax())
        reached.append((reached[-1] if reached else 0.0) + float(gains[best]))
        row = (kernel(best) - rows[:, best] @ rows) / np.sqrt(max(left[best], _LEAST))
        rows, left = np.vstack([rows, row]), left - row**2
        chosen.append(best)
    return chosen, reached


class MDP3(Scored):
    """Relevant frames that differ from each other and from the one before (Sun et al., 2025, arXiv 2501.02885).

    The similarity of two features of length 1 is a sum of Gaussians, k(x, y) = Σ exp(-|x - y|² / 2α) over α = 1/8 to 2.
    Frames S are chosen for 2 / `lam` Σ log k(query, i) + log det k(S, S), greedily in each part of `segment` frames,
    given the last frame chosen before it. How many each part gives is found by dynamic programming.

    Args:
        segment: frames of a part; 0 is the whole video. The last part may be shorter, which one public copy
            does not expect.
        published: each part counts the frame before it again, as the published code does. By default it counts once.

    Raises:
        ConfigError: `lam` is not above 0, or `segment` is negative.
    """

    _ALPHAS = 2.0 ** np.arange(-3, 2)

    def __init__(self, *, lam: float = 0.2, segment: int = 32, published: bool = False) -> None:
        super().__init__(published=published)
        if not lam > 0:
            raise ConfigError(f"cannot weigh relevance by 2 / {lam}; give a number above 0")
        if segment < 0:
            raise ConfigError(f"there are no parts of {segment} frames; give 1 or more, or 0 for the whole video")
        self._lam, self._segment = lam, segment

    def _look(
        self, frames: FrameSource, questions: Sequence[Question], scorer: FrameScorer
    ) -> tuple[FrameScores, Floats | None]:
        if not (hasattr(scorer, "frame_features") and hasattr(scorer, "query_features")):
            raise ConfigError(
                "the policy mdp3 compares features of frames, and this scorer offers none; name the scorer dual_encoder"
            )
        features = _unit(scorer.frame_features(frames))
        scores = self._similarity(_unit(scorer.query_features(questions)), features)
        return FrameScores(scores, scores, (Unread(),) * len(questions)), features

    def _similarity(self, ones: Floats, others: Floats) -> Floats:
        """Return the kernel [N, M] of vectors [N, D] and [M, D]."""
        squares = (ones**2).sum(1)[:, None] + (others**2).sum(1) - 2 * ones @ others.T
        similarity: Floats = sum(np.exp(-squares.clip(min=0) / (2 * alpha)) for alpha in self._ALPHAS)
        return similarity

    def _choose(self, candidates: Candidates, k: int) -> Integers:
        features = candidates.features
        assert features is not None, "_look gives them"
        quality = 2 / self._lam * np.log(candidates.scores)
        count = len(quality)
        # Best value and frames so far, for each number of frames.
        so_far: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
        for start in range(0, count, self._segment or count):
            part = np.arange(start, min(count, start + (self._segment or count)))
            own = self._similarity(features[part], features[part])
            after = dict(so_far)
            for num_before, (value, before) in so_far.items():
                more, gains = self._in_part(own, part, quality, features, before, k - num_before)
                for number, gain in enumerate(gains, 1):
                    if num_before + number not in after or value + gain > after[num_before + number][0]:
                        after[num_before + number] = (value + gain, before + sorted(more[:number]))
            so_far = after
        return np.array(so_far[min(k, count)][1])

    def _in_part(
        self, own: Floats, part: Integers, quality: Floats, features: Floats, before: list[int], k: int
    ) -> tuple[list[int], list[float]]:
        """Return frames of a part in the order they are taken, and what they add to the value after each."""
        again, shared = 0.0, np.zeros(len(part))
        if before:
            last = before[-1]
            itself = float(len(self._ALPHAS))
            shared = self._similarity(features[[last]], features[part])[0] / np.sqrt(itself)
            again = float(quality[last] + np.log(itself)) if self._published else 0.0
        # Given the frame before, the kernel of the others is less what they share with it.
        given = own - np.outer(shared, shared)
        places, reached = greedy(quality[part], given.__getitem__, given.diagonal(), k)
        return [int(part[place]) for place in places], [value + again for value in reached]


class Diversity(Scored):
    """Good frames that differ from each other: a determinantal point process (Chen et al., NeurIPS 2018).

    Frames S are chosen for `theta` Σ scores + (1 - `theta`) log det of their similarities, greedily. Scores are
    scaled to 0..1; the similarity of frames is (1 + cosine) / 2 of their features, or of small pictures where the
    scorer offers no features.

    Raises:
        ConfigError: `theta` is not from 0 to 1.
    """

    def __init__(self, *, theta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= theta <= 1:
            raise ConfigError(f"cannot weigh scores by {theta}; give a number from 0 to 1")
        self._theta = theta

    def _look(
        self, frames: FrameSource, questions: Sequence[Question], scorer: FrameScorer
    ) -> tuple[FrameScores, Floats | None]:
        if hasattr(scorer, "frame_features"):
            return scorer.score(frames, questions), _unit(scorer.frame_features(frames))
        return scorer.score(frames, questions), _unit(picture_features(frames, size=16) - 127.5)

    def _choose(self, candidates: Candidates, k: int) -> list[int]:
        features, scores = candidates.features, candidates.scores
        assert features is not None, "_look gives them"
        scaled = np.zeros(len(scores)) if is_constant(scores) else (scores - scores.min()) / np.ptp(scores)
        chosen, _ = greedy(
            self._theta * scaled,
            lambda place: (1 + features @ features[place]) / 2,
            (1 + (features**2).sum(1)) / 2,
            k,
            weight=1 - self._theta,
        )
        return chosen


def _unit(features: Floats) -> Floats:
    """Scale vectors [N, D] to length 1; one of length 0 stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1.0, lengths)

"""T*: temporal search (Ye et al., CVPR 2025, arXiv 2504.02259)."""

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question
from lavis.models.base import Mask
from lavis.selection.policies.plain import Search, Searching, completed, random_for, scale_of


class TStar(Searching):
    """Scores grids of frames, and looks where the scores so far make others likely.

    The first `grid` frames lie evenly. A frame in the upper quarter of a grid hands its score on to `window` frames on
    either side, divided by their distance + 1. The scores of the frames seen are interpolated to a distribution, and
    the next grid is drawn from the upper quarter of it among frames not seen. It ends where a score is above
    `confidence` or the share `budget` of all frames, `max_budget` at most, was seen (one grid in any case). K frames
    are drawn in proportion to their scores.

    T* asks a language model for objects and a detector for these in small pictures of 64 frames at once; here the
    scorer says how well each frame suits the question, and there is one target, the question. Scores are taken for
    confidences if the first ones lie within 0..1. Otherwise they are scaled by the lowest and highest of these, and no
    score ends the search.

    Args:
        grid: frames that are scored at once, 8 x 8 as published.
        seed: of the draws, which the published code does not seed.
        published: interpolate by the published smoothing spline (which needs SciPy) instead of linearly, and draw
            frames again where fewer than `grid` are left in the upper quarter (by default the rest is seen).

    Raises:
        ConfigError: a number that cannot be, or `published` without SciPy.
    """

    def __init__(
        self,
        *,
        grid: int = 64,
        budget: float = 0.1,
        max_budget: int = 1000,
        confidence: float = 0.5,
        window: int = 5,
        seed: int = 0,
        published: bool = False,
    ) -> None:
        if grid < 1 or window < 0 or not budget >= 0 or max_budget < 0:
            raise ConfigError(
                f"a grid of {grid}, a window of {window} and a budget of {budget} or {max_budget} cannot be; "
                "give a grid of at least 1, others of at least 0"
            )
        if published:
            try:
                import scipy.interpolate  # noqa: F401
            except ImportError:
                raise ConfigError("the published spline of t_star needs SciPy: pip install scipy") from None
        self._grid, self._budget, self._confidence = grid, (budget, max_budget), confidence
        self._window, self._seed, self._published = window, seed, published

    def _search(self, times_s: Floats, question: Question, k: int) -> Search:
        count, rng = len(times_s), random_for(question, self._seed)
        seen, values = np.zeros(count, dtype=bool), np.full(count, 1e-6)
        number = min(self._grid, count)
        left = min(self._budget[1], self._budget[0] * count)
        positions = (np.arange(number) * (count // number)).astype(np.int64)
        scale, is_confidence = (lambda given: given), True
        while True:
            found = yield positions
            if not seen.any() and (found.min() < 0 or found.max() > 1):
                scale, is_confidence = scale_of(found), False
            scores = scale(found)
            values[positions], seen[positions] = scores, True
            self._hand_on(values, positions, scores)
            left -= number
            if left <= 0 or seen.all() or (is_confidence and scores.max() > self._confidence):
                break
            positions = self._next(self._likely(values, seen), seen, number, rng)
        # Beside those drawn, the likeliest.
        shares = values.clip(min=0)
        drawn = min(k, int((shares > 0).sum()))
        chosen = rng.choice(count, size=drawn, replace=False, p=shares / shares.sum()) if drawn else ()
        return completed(chosen, values, k)

    def _hand_on(self, values: Floats, positions: Integers, scores: Floats) -> None:
        """Raise the values around frames in the upper quarter of a grid."""
        for position in positions[scores >= np.percentile(scores, 75)]:
            near = np.arange(max(0, position - self._window), min(len(values), position + self._window + 1))
            values[near] = np.maximum(values[near], values[position] / (np.abs(near - position) + 1))

    def _likely(self, values: Floats, seen: Mask) -> Floats:
        """Return a distribution [T] over frames, by the values of those seen."""
        places, every = np.flatnonzero(seen), np.arange(len(values))
        if self._published and len(places) > 3:  # a cubic spline needs four points
            from scipy.interpolate import UnivariateSpline

            guessed = UnivariateSpline(places, values[places], s=0.5)(every)
        else:
            guessed = np.interp(every, places, values[places])
        likely = 1 / (1 + np.exp(-np.maximum(1 / len(values), guessed)))
        distribution: Floats = likely / likely.sum()
        return distribution

    def _next(
        self,
        likely: Floats,
        seen: Mask,
        number: int,
        rng: np.random.Generator,
    ) -> Integers:
        """Draw the frames of the next grid."""
        shares = (likely + number / len(likely)) * ~seen
        upper = shares * (shares >= np.percentile(shares, 75))
        if (upper > 0).sum() < number:
            upper = likely + number / len(likely) if self._published else shares
            number = min(number, int((upper > 0).sum()))
        return rng.choice(len(likely), size=number, replace=False, p=upper / upper.sum())

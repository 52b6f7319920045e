"""T*'s search against a slow implementation of its description; both draw in the same order."""

import math
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from tests.unit.selection.policies.stand_ins import KnownScores, choose, chosen


def quarter(values: list[float]) -> float:
    """Return the 75th percentile, between neighbours where it lies between."""
    ordered = sorted(values)
    place = 0.75 * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def slow(  # one long story, as it is described
    scores: list[float], k: int, *, published: bool, **changed: Any
) -> tuple[list[int], set[int]]:
    """Return the frames drawn, and those scored."""
    use = {"grid": 64, "budget": 0.1, "max_budget": 1000, "confidence": 0.5, "window": 5} | changed
    rng = np.random.default_rng([0, *b"q0"])
    count = len(scores)
    number = min(use["grid"], count)
    budget = min(use["max_budget"], use["budget"] * count)
    values, seen = [1e-6] * count, set()
    grid = list(range(0, count, count // number))[:number]
    first = [scores[frame] for frame in grid]
    is_confidence = min(first) >= 0 and max(first) <= 1
    if not is_confidence:
        low, width = min(first), max(first) - min(first)
        scores = [max(0.0, (score - low) / width) for score in scores]
    while True:
        seen |= set(grid)
        for frame in grid:
            values[frame] = scores[frame]
        least = quarter([scores[frame] for frame in grid])
        for frame in grid:
            if scores[frame] >= least:
                for near in range(max(0, frame - use["window"]), min(count, frame + use["window"] + 1)):
                    values[near] = max(values[near], values[frame] / (abs(near - frame) + 1))
        budget -= number
        found = is_confidence and max(scores[frame] for frame in grid) > use["confidence"]
        if budget <= 0 or found or len(seen) == count:
            break
        places = sorted(seen)
        known = [values[place] for place in places]
        if published:
            from scipy.interpolate import UnivariateSpline

            curve = UnivariateSpline(places, known, s=0.5)(range(count)).tolist()
        else:
            curve = []
            for frame in range(count):
                before = max((place for place in places if place <= frame), default=places[0])
                after = min((place for place in places if place >= frame), default=places[-1])
                share = (frame - before) / (after - before) if after > before else 0.0
                curve.append(values[before] + share * (values[after] - values[before]))
        likely = [1 / (1 + math.exp(-max(1 / count, one))) for one in curve]
        likely = [one / sum(likely) for one in likely]
        shares = [0.0 if frame in seen else likely[frame] + number / count for frame in range(count)]
        least = quarter(shares)
        upper = [share if share >= least else 0.0 for share in shares]
        if sum(share > 0 for share in upper) < number:
            upper = [one + number / count for one in likely] if published else shares
            number = min(number, sum(share > 0 for share in upper))
        weights = np.array(upper) / np.sum(upper)
        grid = rng.choice(count, size=number, replace=False, p=weights).tolist()
    weights = np.array(values) / np.sum(values)
    return sorted(rng.choice(count, size=k, replace=False, p=weights).tolist()), seen


CASES: list[Any] = [
    (700, 8, {}),
    (2000, 8, {}),
    (100, 8, {}),
    (64, 16, {}),
    (30, 8, {}),
    (300, 8, {"budget": 0.5}),
    (300, 16, {"budget": 0.9}),
    (300, 16, {"grid": 16, "budget": 0.4}),
    (500, 4, {"grid": 25, "window": 0, "budget": 0.3}),
    (400, 10, {"confidence": 0.9, "grid": 9}),
    (3000, 8, {"max_budget": 100, "budget": 0.2}),
]


@pytest.mark.parametrize("width", [0.45, 0.9, 20.0])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("count", "k", "settings"), CASES)
def test_t_star(count: int, k: int, settings: dict[str, Any], published: bool, width: float) -> None:
    if published:
        pytest.importorskip("scipy")
    rng = np.random.default_rng(count)
    hills = np.exp(-(((np.arange(count)[:, None] - rng.uniform(0, count, 2)) / 15) ** 2)).max(1)
    scores = ((0.9 * hills + rng.uniform(0.01, 0.1, count)) * width).tolist()
    wanted, scored = slow(scores, k, published=published, **settings)
    scorer = KnownScores(scores)
    (found,) = choose({"name": "t_star", "published": published, **settings}, scorer, k)
    assert set(np.flatnonzero(scorer.asked[0])) == scored
    assert found.positions.tolist() == wanted


@pytest.mark.parametrize(("high", "num_scored"), [(0.5, 256), (0.6, 64)])
def test_it_ends_where_a_frame_is_confident(high: float, num_scored: int) -> None:
    scores = np.full(2000, 0.1)
    scores[::31] = high
    scorer = KnownScores(scores)
    choose("t_star", scorer, 4)
    assert scorer.asked.sum() == num_scored


def test_it_looks_around_what_it_found() -> None:
    scores = 0.45 * np.exp(-(((np.arange(2000) - 1000) / 200) ** 2))
    scorer = KnownScores(scores)
    (found,) = choose("t_star", scorer, 8)
    assert scorer.asked[0, 750:1250].mean() > 2 * scorer.asked[0].mean()
    assert ((found.positions > 600) & (found.positions < 1400)).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="a grid of 0, a window of 5 and a budget of "):
        chosen({"name": "t_star", "grid": 0}, [1, 2], 1)

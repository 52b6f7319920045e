"""BOLT against a slow implementation of its description: walk along the cumulative score."""

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from tests.unit.selection.policies.stand_ins import chosen


def slow(scores: list[float], steps: list[float], power: float) -> list[int]:
    """Return for each step the first frame at which the cumulative share reaches it."""
    low, high = min(scores), max(scores)
    shares = [((score - low) / (high - low)) ** power for score in scores]
    found = []
    for step in steps:
        reached = 0.0
        for place, share in enumerate(shares):
            reached += share / sum(shares)
            if reached >= step:
                found.append(place)
                break
        else:
            found.append(len(scores) - 1)
    return found


def steps_of(k: int) -> list[float]:
    return [1 / k + number * (1 - 2 / k) / (k - 1) for number in range(k)] if k > 1 else [1.0]


def completed(found: list[int], scores: list[float], k: int) -> list[int]:
    kept = sorted(set(found))
    rest = sorted(set(range(len(scores))) - set(kept), key=lambda place: -scores[place])
    return sorted(kept + rest[: k - len(kept)])


CASES = [(seed, count, k) for seed, (count, k) in enumerate([(10, 3), (50, 8), (64, 16), (200, 8), (9, 9), (30, 29)])]


@pytest.mark.parametrize("power", [3.0, 2.5, 1.0, 0.5])
@pytest.mark.parametrize(("seed", "count", "k"), CASES)
def test_published_and_default(seed: int, count: int, k: int, power: float) -> None:
    scores = np.random.default_rng(seed).uniform(-1, 4, size=count).tolist()
    wanted = slow(scores, steps_of(k), power)
    assert chosen({"name": "bolt", "power": power, "published": True}, scores, k) == wanted
    assert chosen({"name": "bolt", "power": power}, scores, k) == completed(wanted, scores, k)


@pytest.mark.parametrize(
    ("scores", "k", "published", "positions"),
    [
        pytest.param([0, 1, 1, 1, 1, 0], 1, False, [2], id="one frame is the middle of the distribution"),
        pytest.param([0, 1, 1, 1, 1, 0], 2, False, [1, 3], id="two are its quarters"),
        pytest.param([0, 1, 1, 1, 1, 0], 2, True, [2, 2], id="as published, two are the same one"),
        pytest.param([0, 9, 0, 0, 0, 1], 3, True, [1, 1, 1], id="as published, one peak takes all"),
        pytest.param([0, 9, 0, 0, 0, 1], 3, False, [0, 1, 5], id="by default the best of the rest follow"),
        pytest.param([4.0] * 9, 3, False, [1, 4, 7], id="constant scores are spread evenly"),
        pytest.param([4.0] * 9, 3, True, [1, 4, 7], id="also as published, which is undefined"),
    ],
)
def test_small_tables(scores: list[float], k: int, published: bool, positions: list[int]) -> None:
    assert chosen({"name": "bolt", "published": published}, scores, k) == positions


def test_a_power_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot raise scores to the power of 0; give a number above 0"):
        chosen({"name": "bolt", "power": 0}, [1, 2], 1)

"""AKS against a slow implementation of its description, by lists and recursion."""

import statistics

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from tests.unit.selection.policies.stand_ins import chosen


def halved(
    part: list[int], scores: list[float], k: int, t1: float, t2: float, depth: int
) -> list[tuple[list[int], int]]:
    """Return parts with the number of times each was halved."""

    def visit(part: list[int], times: int) -> list[tuple[list[int], int]]:
        if not part:
            return []
        values = sorted((scores[place] for place in part), reverse=True)
        stands_out = statistics.fmean(values[:k]) - statistics.fmean(values) > t1 and statistics.pstdev(values) > t2
        if stands_out or times == depth:
            return [(part, times)]
        return visit(part[: len(part) // 2], times + 1) + visit(part[len(part) // 2 :], times + 1)

    return visit(part, 0)


def slow(scores: list[float], k: int, *, t1: float = 0.8, t2: float = -100.0, depth: int = 5) -> list[int]:
    """Return what the published description chooses."""
    low, high = min(scores), max(scores)
    scaled = [(score - low) / (high - low) for score in scores]
    found = []
    for part, times in halved(list(range(len(scores))), scaled, k, t1, t2, depth):
        found += sorted(part, key=lambda place: -scaled[place])[: int(k / 2**times)]
    return sorted(found)


def slow_completed(scores: list[float], k: int, **settings: float) -> list[int]:
    """The same, halved no more often than K can be, and completed by score."""
    deepest = 0
    while 2 ** (deepest + 1) <= k:
        deepest += 1
    settings["depth"] = min(int(settings.get("depth", 5)), deepest)
    found = slow(scores, k, **settings)
    rest = sorted(set(range(len(scores))) - set(found), key=lambda place: -scores[place])
    return sorted(found + rest[: k - len(found)])


def table(seed: int, count: int, *, peak: bool = False) -> list[float]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count)
    if peak:
        scores[rng.integers(count) :][:3] += 40
    return scores.tolist()


CASES = [
    (seed, count, k, peak, settings)
    for seed, (count, k, peak, settings) in enumerate(
        [
            (64, 32, False, {}),
            (100, 32, False, {}),
            (333, 64, False, {}),
            (128, 32, True, {}),
            (200, 40, True, {"t1": 0.5}),
            (90, 48, False, {"depth": 3}),
            (77, 33, False, {"t1": 0.2}),
            (500, 32, True, {"t1": 0.3, "t2": 0.1}),
            (64, 64, False, {}),
            (40, 8, False, {"depth": 3}),
            (40, 8, True, {"depth": 2, "t1": 0.9}),
            (31, 5, False, {"depth": 2}),
            (16, 4, True, {"depth": 0}),
            (32, 32, False, {"t2": 0.4, "t1": 0.1}),
        ]
    )
]


@pytest.mark.parametrize(("seed", "count", "k", "peak", "settings"), CASES)
def test_published(seed: int, count: int, k: int, peak: bool, settings: dict[str, float]) -> None:
    scores = table(seed, count, peak=peak)
    assert chosen({"name": "aks", "published": True, **settings}, scores, k) == slow(scores, k, **settings)


@pytest.mark.parametrize(
    ("seed", "count", "k", "peak", "settings"), [*CASES, (50, 40, 3, False, {}), (51, 9, 6, True, {})]
)
def test_default(seed: int, count: int, k: int, peak: bool, settings: dict[str, float]) -> None:
    scores = table(seed, count, peak=peak)
    found = chosen({"name": "aks", **settings}, scores, k)
    assert found == slow_completed(scores, k, **settings)
    assert len(found) == k


@pytest.mark.parametrize(
    ("scores", "k", "positions"),
    [
        pytest.param([0, 0, 0, 9, 0, 0, 0, 0], 1, [3], id="one frame is the best"),
        pytest.param([5, 4, 3, 0, 0, 0, 1, 0], 2, [0, 6], id="no frame stands out by 0.8: one of each half"),
        pytest.param([5, 4, 3, 0, 0, 0, 1, 0], 3, [0, 1, 6], id="what rounding leaves open is the best of the rest"),
        pytest.param([0, 9, 9, 0, *[0] * 28], 2, [1, 2], id="two frames stand out: no half is needed"),
        pytest.param([2.5] * 8, 4, [1, 3, 5, 7], id="constant scores are spread evenly"),
        pytest.param([1, 2], 2, [0, 1], id="all frames"),
    ],
)
def test_small_tables(scores: list[float], k: int, positions: list[int]) -> None:
    assert chosen("aks", scores, k) == positions


def test_published_may_choose_too_few_and_says_so_where_it_chooses_none() -> None:
    scores = table(1, 60)
    assert len(chosen({"name": "aks", "published": True}, scores, 40)) < 40
    message = r"AKS as it was published chooses none of 60 frames for k = 8; ask for more frames"
    with pytest.raises(ConfigError, match=message):
        chosen({"name": "aks", "published": True}, scores, 8)


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot halve a video -1 times"):
        chosen({"name": "aks", "depth": -1}, [1, 2], 1)

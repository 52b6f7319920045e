"""Scenes, thresholds and mixes: small tables, and slow ways to find the same."""

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.selection.policies.spread import Scenes, mixture_threshold
from tests.unit.selection.policies.stand_ins import KnownScores, choose, chosen, questions
from tests.unit.selection.policies.test_dpp import Painted


@pytest.mark.parametrize(
    ("colours", "scores", "k", "positions"),
    [
        pytest.param([0, 0, 0, 90, 90, 90], [1, 3, 2, 1, 1, 5], 2, [1, 5], id="two scenes"),
        pytest.param([0, 0, 90, 90, 0, 0], [1, 9, 8, 1, 2, 3], 3, [1, 2, 5], id="three scenes"),
        pytest.param([0, 5, 90, 95, 200, 200], [6, 5, 4, 3, 2, 1], 3, [0, 2, 4], id="small changes are no cuts"),
        pytest.param([0, 0, 90, 90, 0, 0], [1, 9, 8, 1, 2, 3], 2, [1, 2], id="equal changes: the earlier is the cut"),
        pytest.param([7] * 8, [1, 2, 3, 4, 5, 6, 7, 8], 4, [1, 3, 5, 7], id="no change: equal parts"),
        pytest.param([0, 50, 150], [1, 1, 1], 3, [0, 1, 2], id="all frames"),
        pytest.param([0, 50, 150, 0], [1, 3, 2, 1], 1, [1], id="one frame: the best"),
        pytest.param([0, 0, 200, 0, 0, 0], [1, 2, 9, 1, 1, 1], 3, [1, 2, 3], id="a flash is a scene"),
        pytest.param([0, 0, 90, 90], [2, 2, 2, 2], 2, [0, 2], id="equal scores: the first frame of each scene"),
        pytest.param([0, 90, 90, 90], [1, np.nan, 2, 3], 2, [0, 3], id="frames without a score are left out"),
    ],
)
def test_scenes(colours: list[int], scores: list[float], k: int, positions: list[int]) -> None:
    (selection,) = Scenes().choose(Painted(colours).frames, questions(), k=k, scorer=KnownScores(scores))
    assert selection.positions.tolist() == positions


@pytest.mark.parametrize("seed", range(12))
def test_scenes_of_any_video(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, k = int(rng.integers(5, 40)), int(rng.integers(1, 5))
    colours, scores = rng.permutation(256)[:count], rng.normal(size=count)
    changes = {place + 1: abs(int(colours[place + 1]) - int(colours[place])) for place in range(count - 1)}
    cuts = sorted(sorted(changes, key=lambda place: (-changes[place], place))[: k - 1])
    wanted = [
        max(range(start, end), key=lambda place: scores[place])
        for start, end in zip([0, *cuts], [*cuts, count], strict=True)
    ]
    (selection,) = Scenes().choose(Painted(colours).frames, questions(), k=k, scorer=KnownScores(scores))
    assert selection.positions.tolist() == wanted


THRESHOLDS = [
    pytest.param([1, -1, 2, -2], 2, {}, [0, 2], id="those above 0"),
    pytest.param([1, -1, 2, -2], 3, {}, [0, 1, 2], id="the best of the rest follow"),
    pytest.param([1, -1, 2, -2], 3, {"fewer": True}, [0, 2], id="or not"),
    pytest.param([-3, -1, -2], 2, {"fewer": True}, [1], id="none matches: the best"),
    pytest.param([-3, -1, -2], 2, {}, [1, 2], id="none matches: the best two"),
    pytest.param([1, 1, 1, 1, 1, 1], 2, {}, [1, 4], id="all match: evenly"),
    pytest.param([1, 1, 1, 1, 1, 1], 2, {"fewer": True}, [1, 4], id="no more than asked"),
    pytest.param([5, 1, 1, 5, 1, 5], 3, {"above": 2}, [0, 3, 5], id="another threshold"),
    pytest.param([5, 1, 1, 5, 1, 5], 2, {"above": 5}, [0, 3], id="above, not at"),
    pytest.param([0, 0, 0], 1, {}, [0], id="0 does not match"),
]


@pytest.mark.parametrize(("margins", "k", "settings", "positions"), THRESHOLDS)
def test_thresholds_of_margins(margins: list[float], k: int, settings: dict[str, float], positions: list[int]) -> None:
    assert chosen({"name": "threshold", **settings}, margins, k) == positions


def test_the_threshold_is_of_margins_and_the_rest_follows_by_score() -> None:
    scorer = KnownScores([[1, 9, 2, 3]], margins=[[1, -1, -1, -1]])
    (selection,) = choose("threshold", scorer, 2)
    assert selection.positions.tolist() == [0, 1]
    assert selection.scores.tolist() == [1, 9, 2, 3]


@pytest.mark.parametrize("seed", range(10))
def test_thresholds_of_any_video(seed: int) -> None:
    rng = np.random.default_rng(seed)
    margins, k = rng.normal(size=30), int(rng.integers(1, 29))
    matching = [place for place in range(30) if margins[place] > 0]
    if len(matching) >= k:
        edges = [number * len(matching) // k for number in range(k + 1)]
        wanted = [matching[(low + high) // 2] for low, high in pairwise(edges)]
    else:
        wanted = sorted(sorted(range(30), key=lambda place: -margins[place])[:k])
    assert chosen("threshold", margins, k) == wanted


def slow_mixture_threshold(scores: list[float]) -> float:
    """Expectation and maximisation by the densities themselves, from the lower and the upper half."""
    count, ordered = len(scores), sorted(scores)
    spread = statistics.pvariance(scores)
    lower, upper = ordered[: (count + 1) // 2], ordered[(count + 1) // 2 :]
    parts = [[0.5, statistics.fmean(half), spread] for half in (lower, upper)]
    for _ in range(400):
        shares = []
        for score in scores:
            densities = [
                weight * math.exp(-((score - mean) ** 2) / (2 * variance)) / math.sqrt(variance)
                for weight, mean, variance in parts
            ]
            shares.append([density / sum(densities) for density in densities])
        for index, part in enumerate(parts):
            total = sum(share[index] for share in shares)
            part[0] = total / count
            part[1] = sum(share[index] * score for share, score in zip(shares, scores, strict=True)) / total
            part[2] = (
                sum(share[index] * (score - part[1]) ** 2 for share, score in zip(shares, scores, strict=True)) / total
            )
    return max(part[1] for part in parts) - 0.7 * math.sqrt(max(part[2] for part in parts))


@pytest.mark.parametrize(("seed", "count", "high"), [(seed, 20 + 7 * seed, 3 + 2 * (seed % 4)) for seed in range(10)])
def test_the_threshold_of_a_mixture(seed: int, count: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count)
    scores[rng.choice(count, size=high + 2, replace=False)] += 10 * high
    assert mixture_threshold(scores) == pytest.approx(slow_mixture_threshold(scores.tolist()), rel=1e-4)
    above = {"name": "threshold", "above": "mixture", "fewer": True}
    assert chosen(above, scores, count - 1) == np.flatnonzero(scores > mixture_threshold(scores)).tolist()


def test_without_two_heaps_of_scores_the_best_frames_are_taken() -> None:
    assert chosen({"name": "threshold", "above": "mixture"}, [2, 2, 2, 2], 2) == [0, 1]
    assert chosen({"name": "threshold", "above": "mixture", "fewer": True}, [1, np.nan, 7, np.inf], 3) == [2]


@pytest.mark.parametrize(
    ("scores", "k", "settings", "positions"),
    [
        pytest.param([9, 8, 0, 0, 0, 0, 0, 0], 4, {}, [0, 1, 2, 6], id="two evenly, two best"),
        pytest.param([0, 0, 9, 8, 7, 0, 0, 0], 4, {}, [2, 3, 4, 6], id="one in both: the next best"),
        pytest.param([1, 2, 3, 4], 1, {}, [3], id="one frame is the best one"),
        pytest.param([1, 2, 3, 4], 2, {"share": 0.0}, [2, 3], id="none evenly"),
        pytest.param([9, 0, 0, 0, 0, 0, 0, 8], 4, {"share": 0.75}, [0, 1, 3, 6], id="three evenly"),
        pytest.param(
            [0, 9, 0, 0, 0, 1], 4, {"policy": {"name": "bolt", "power": 1}}, [0, 1, 4, 5], id="another policy"
        ),
        pytest.param([3, 2, 1], 3, {}, [0, 1, 2], id="all frames"),
        pytest.param([3, 2, 1], 2, {"policy": "uniform"}, [1, 2], id="both evenly: the rest has no scores"),
    ],
)
def test_half_uniform(scores: list[float], k: int, settings: dict[str, object], positions: list[int]) -> None:
    assert chosen({"name": "half_uniform", **settings}, scores, k) == positions


@pytest.mark.parametrize("seed", range(14))
def test_half_uniform_of_any_video(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, k = 40, int(rng.integers(1, 20))
    scores = rng.normal(size=count)
    half = k // 2
    edges = [number * count // half for number in range(half + 1)] if half else [0]
    even = {(low + high) // 2 for low, high in pairwise(edges)}
    rest = sorted(set(range(count)) - even, key=lambda place: -scores[place])
    assert chosen("half_uniform", scores, k) == sorted([*even, *rest[: k - half]])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot spread a share of 1; give 0 or more, and less than 1"):
        chosen({"name": "half_uniform", "share": 1}, [1, 2], 1)
    with pytest.raises(ConfigError, match="cannot choose frames above 'best'; give a number, or mixture"):
        chosen({"name": "threshold", "above": "best"}, [1, 2], 1)
    with pytest.raises(ConfigError, match="unknown frame policy 'best'"):
        chosen({"name": "half_uniform", "policy": "best"}, [1, 2], 1)

"""MDP3 and diversity against slow implementations: every objective is worked out by a determinant of its own."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from lavis.common.errors import ConfigError
from lavis.selection.policies.dpp import Diversity
from tests.unit.selection.policies.stand_ins import KnownFeatures, KnownScores, choose, frames_of, questions

Vector = npt.NDArray[np.float64]


def similarity(one: Vector, other: Vector) -> float:
    square = float(((one - other) ** 2).sum())
    return sum(math.exp(-square / (2 * alpha)) for alpha in (1 / 8, 1 / 4, 1 / 2, 1, 2))


def log_det(frames: Sequence[Vector], kernel: Callable[[Vector, Vector], float]) -> float:
    if not frames:
        return 0.0
    return float(np.linalg.slogdet([[kernel(one, other) for other in frames] for one in frames])[1])


def slow_mdp3(features: Vector, query: Vector, k: int, *, lam: float, segment: int, published: bool) -> list[int]:
    """Segments and numbers of frames by dynamic programming; in each, greedy steps by the whole objective."""
    unit = [row / np.linalg.norm(row) for row in features]
    query = query / np.linalg.norm(query)

    def objective(places: list[int]) -> float:
        relevance = sum(math.log(similarity(query, unit[place])) for place in places)
        return 2 / lam * relevance + log_det([unit[place] for place in places], similarity)

    count = len(unit)
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for start in range(0, count, segment or count):
        part = list(range(start, min(count, start + (segment or count))))
        new = dict(best)
        for value, before in best.values():
            condition = before[-1:]
            taken: list[int] = []
            while len(before) + len(taken) < k and len(taken) < len(part):
                free = [place for place in part if place not in taken]
                taken.append(max(free, key=lambda place: objective(condition + taken + [place])))
                gained = value + objective(condition + taken) - (0.0 if published else objective(condition))
                number = len(before) + len(taken)
                if number not in new or gained > new[number][0]:
                    new[number] = (gained, before + sorted(taken))
        best = new
    return best[k][1]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    ("seed", "count", "k", "segment", "lam"),
    [
        (0, 12, 4, 4, 0.2),
        (1, 13, 4, 4, 0.2),
        (2, 20, 6, 8, 0.2),
        (3, 20, 6, 0, 0.2),
        (4, 16, 5, 5, 1.0),
        (5, 16, 5, 5, 10.0),
        (6, 9, 8, 3, 2.0),
        (7, 40, 3, 16, 0.2),
        (8, 18, 7, 1, 5.0),
        (9, 18, 1, 6, 0.2),
        (10, 24, 8, 7, 50.0),
    ],
)
def test_mdp3(seed: int, count: int, k: int, segment: int, lam: float, published: bool) -> None:
    rng = np.random.default_rng(seed)
    # Neighbours are alike, as frames are.
    features = np.cumsum(rng.normal(size=(count, 5)), axis=0) + rng.normal(size=(count, 5))
    query = rng.normal(size=(1, 5))
    settings = {"lam": lam, "segment": segment, "published": published}
    (selection,) = choose({"name": "mdp3", **settings}, KnownFeatures(features, query), k)
    assert selection.positions.tolist() == slow_mdp3(features, query[0], k, **settings)
    relevance = [similarity(query[0] / np.linalg.norm(query), row / np.linalg.norm(row)) for row in features]
    np.testing.assert_allclose(selection.scores, relevance, rtol=1e-9)


def test_published_and_default_differ_where_a_part_depends_on_the_one_before() -> None:
    differing = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scorer = KnownFeatures(rng.normal(size=(24, 4)), rng.normal(size=(1, 4)))
        found = [choose({"name": "mdp3", "segment": 6, "published": old}, scorer, 6)[0].positions for old in (0, 1)]
        differing += found[0].tolist() != found[1].tolist()
    assert differing > 0


def test_mdp3_takes_each_of_several_moments_once_and_needs_features() -> None:
    moments = np.eye(4)[np.repeat([0, 1, 2, 3], 8)] + 1e-3 * np.random.default_rng(0).normal(size=(32, 4))
    (selection,) = choose({"name": "mdp3", "lam": 2.0}, KnownFeatures(moments, np.ones((1, 4))), 4)
    assert (selection.positions // 8).tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="mdp3 compares features of frames, and this scorer offers none"):
        choose("mdp3", KnownScores([1, 2, 3]), 2)


def slow_diversity(scores: list[float], features: Vector, k: int, theta: float) -> list[int]:
    low, high = min(scores), max(scores)
    unit = [row / np.linalg.norm(row) for row in features]

    def objective(places: list[int]) -> float:
        quality = sum((scores[place] - low) / (high - low) for place in places)
        apart = log_det([unit[place] for place in places], lambda one, other: (1 + float(one @ other)) / 2)
        return theta * quality + (1 - theta) * apart

    taken: list[int] = []
    for _ in range(k):
        taken.append(max(set(range(len(scores))) - set(taken), key=lambda place: objective([*taken, place])))
    return sorted(taken)


@pytest.mark.parametrize("theta", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("seed", "count", "k"), [(0, 10, 3), (1, 30, 5), (2, 25, 6), (3, 12, 1)])
def test_diversity(seed: int, count: int, k: int, theta: float) -> None:
    rng = np.random.default_rng(seed)
    scorer = KnownFeatures(rng.normal(size=(count, 8)), rng.normal(size=(1, 8)))
    (selection,) = choose({"name": "diversity", "theta": theta}, scorer, k)
    wanted = slow_diversity(scorer.scores[0].tolist(), scorer.frames, k, theta)
    # At 0 the first frame is any.
    assert selection.positions.tolist() == wanted or theta == 0


class Painted:
    """Frames of one colour each, for policies that compare pictures."""

    def __init__(self, colours: Sequence[int]) -> None:
        self.frames = frames_of(len(colours))
        pixels = np.array(colours, dtype=np.uint8)

        def pictures(positions: Sequence[int], *, size: int | None = None) -> npt.NDArray[np.uint8]:
            assert size is not None
            return np.tile(pixels[np.asarray(positions)][:, None, None, None], (1, size, size, 3))

        self.frames.pictures = pictures  # type: ignore[method-assign, assignment]


def test_without_features_diversity_compares_pictures() -> None:
    painted = Painted([0, 0, 0, 255, 255, 255])
    (selection,) = Diversity().choose(painted.frames, questions(), k=2, scorer=KnownScores([3, 2, 1, 1, 2.5, 1]))
    assert selection.positions.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mdp3", "lam": 0}, "cannot weigh relevance by 2 / 0"),
        ({"name": "mdp3", "segment": -1}, "there are no parts of -1 frames"),
        ({"name": "diversity", "theta": 1.5}, "cannot weigh scores by 1.5"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(settings, KnownScores([1, 2]), 1)

"""Q-Frame against its description: the softmax of scores, and Gumbel noise on its logarithm."""

import math

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from tests.unit.selection.policies.stand_ins import KnownFeatures, KnownScores, choose, chosen


def slow(scores: list[float], *, temperature: float, seed: int) -> list[int]:
    """Return all frames, the first one first."""
    total = sum(math.exp(score / temperature) for score in scores)
    noise = np.random.default_rng([seed, *b"q0"]).gumbel(size=len(scores))
    keys = [math.log(math.exp(score / temperature) / total) + one for score, one in zip(scores, noise, strict=True)]
    return sorted(range(len(scores)), key=lambda place: -keys[place])


@pytest.mark.parametrize("count", [5, 44, 128, 300])
@pytest.mark.parametrize(("temperature", "seed"), [(0.8, 0), (0.8, 7), (0.1, 1), (5.0, 2), (1.0, 3)])
def test_order_and_sizes(temperature: float, seed: int, count: int) -> None:
    scores = np.random.default_rng(seed + count).normal(size=count).tolist()
    ranked = slow(scores, temperature=temperature, seed=seed)
    settings = {"name": "q_frame", "temperature": temperature, "seed": seed}
    assert chosen(settings, scores, 5) == sorted(ranked[:5])
    (selection,) = choose({**settings, "published": True}, KnownScores(scores), 8 if count > 8 else 5)
    high, mid, low = (4, 8, 32) if count > 8 else (2, 5, 20)
    sizes = ([1 / 2] * high + [1 / 4] * mid + [1 / 8] * low)[:count]
    wanted = sorted(zip(ranked, sizes, strict=False))
    assert list(zip(selection.positions.tolist(), selection.sizes.tolist(), strict=True)) == wanted


def test_features_that_the_scorer_offers_are_multiplied_as_they_come() -> None:
    rng = np.random.default_rng(4)
    frames, queries = rng.normal(size=(40, 6)), rng.normal(size=(2, 6))
    first, _ = choose("q_frame", KnownFeatures(frames, queries), 6)
    scores = (frames @ queries[0]).tolist()
    assert first.positions.tolist() == sorted(slow(scores, temperature=0.8, seed=0)[:6])
    np.testing.assert_allclose(first.scores, scores, rtol=1e-12)


def test_the_best_frame_comes_first_more_often_the_colder_it_is() -> None:
    scores = [0.0, 1.0, 0.0, 0.0]
    counts = {
        temperature: sum(
            chosen({"name": "q_frame", "temperature": temperature, "seed": seed}, scores, 1) == [1]
            for seed in range(300)
        )
        for temperature in (0.1, 0.8, 50.0)
    }
    share = math.exp(1 / 0.8) / (math.exp(1 / 0.8) + 3)
    assert counts[0.1] == 300
    assert abs(counts[0.8] / 300 - share) < 0.1
    assert abs(counts[50.0] / 300 - 0.25) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"temperature": 0}, "a temperature of 0"), ({"high": 0}, "there are no 0, 8 and 32 frames")],
)
def test_what_cannot_be_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen({"name": "q_frame", **settings}, [1, 2], 1)

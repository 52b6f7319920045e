"""FOCUS against a slow implementation of its published code's description; both draw in the same order."""

import math
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from tests.unit.selection.policies.stand_ins import KnownScores, choose, chosen

PUBLISHED = {"arm_s": 16.0, "fine_s": 1.0, "min_arms": 8, "extra": 2, "zoom": 0.25, "min_zoom": 4, "top": 0.2}
PUBLISHED |= {"final_min": 4, "final_max": 32, "temperature": 0.06, "gap_ratio": 0.25, "max_gap_s": 1.0}


def slow(  # noqa: C901  # one long story, as it is described
    scores: list[float], fps: float, k: int, *, published: bool, **changed: float
) -> tuple[list[int], set[int]]:
    """Return what is chosen, not completed, and which frames were scored."""
    use = PUBLISHED | changed
    rng = np.random.default_rng([42, *b"q0"])
    count = len(scores)
    seconds = count / fps
    desired = max(use["min_arms"], math.ceil(seconds / use["arm_s"]))
    stride = max(1, count // desired)
    number = max(1, count // stride)
    length = count // number
    bounds = [[index * length, (index + 1) * length] for index in range(number)]
    if not published:
        bounds[-1][1] = count

    known: dict[int, float] = {}
    samples: list[list[int]] = []
    for low, high in bounds:
        centre = (low + high - 1) // 2
        others = [frame for frame in range(low, high) if frame != centre]
        extra = rng.choice(others, size=min(use["extra"], len(others)), replace=False) if others else []
        samples.append([centre, *map(int, extra)])
        known |= {frame: scores[frame] for frame in samples[-1]}
    first = list(known.values())
    if not published and (min(first) < 0 or max(first) > 1):
        low, width = min(first), max(first) - min(first)
        scores = [max(0.0, (score - low) / width) for score in scores]

    def ranked() -> list[int]:
        total = sum(map(len, samples))
        ceilings = []
        for arm in samples:
            values = [scores[frame] for frame in arm]
            mean = sum(values) / len(values)
            variance = max(1e-6, sum((value - mean) ** 2 for value in values) / len(values))
            ceiling = mean + math.sqrt(2 * math.log(total) * variance / len(values)) + 3 * math.log(total) / len(values)
            ceilings.append(ceiling)
        return sorted(range(len(samples)), key=lambda arm: -ceilings[arm])

    coarse = set(known)
    fine: set[int] = set()
    zoomed = max(use["min_zoom"], math.ceil(number * use["zoom"]))
    half = max(1, round(max(1, count / desired / 2)))
    step = min(max(1, round(use["fine_s"] * fps)), stride)
    for arm in ranked()[:zoomed]:
        centre = (bounds[arm][0] + bounds[arm][1] - 1) // 2
        start, end = max(0, centre - half), min(count - 1, centre + half)
        wanted = max(1, (end - start + 1) // step)
        even = round(wanted * 0.5)
        if even and end - start + 1 <= even:
            fine |= {(start + end) // 2} - coarse
        elif even:
            gap = (end - start + 1) / even
            fine |= {min(end, start + int(index * gap + gap / 2)) for index in range(even)} - coarse
        rest = [frame for frame in range(start, end + 1) if frame not in coarse | fine]
        if wanted > even and rest:
            fine |= set(map(int, rng.choice(rest, size=min(wanted - even, len(rest)), replace=False)))
    if not published:
        for arm, (low, high) in enumerate(bounds):
            samples[arm] += sorted(frame for frame in fine if low <= frame < high)

    scored = sorted(coarse | fine, key=lambda frame: -scores[frame])
    result = scored[: round(use["top"] * min(k, len(scored)))]
    spacing = seconds / k
    gap_s = 0.0 if spacing <= 0.2 else min(use["gap_ratio"] * spacing, use["max_gap_s"])
    gap_frames = round(gap_s * fps)
    arms = ranked()[: min(use["final_max"], max(use["final_min"], math.ceil(number * use["zoom"])))]
    left = k - len(result)
    for rank, arm in enumerate(arms):
        wanted = left // len(arms) + (1 if rank < left % len(arms) else 0)
        free = [frame for frame in range(*bounds[arm]) if frame not in result]
        if not wanted or not free:
            continue
        far = [frame for frame in free if all(abs(frame - other) >= gap_frames for other in result)]
        free = far or free
        guesses = []
        for frame in free:
            nearest = min(samples[arm], key=lambda sample: abs(sample - frame))
            guesses.append(min(1.0, max(0.0, scores[nearest])) if published else scores[nearest])
        low, high = min(guesses), max(guesses)
        guesses = [(guess - low) / (high - low) if high > low else 1.0 for guess in guesses]
        weights = np.exp(np.array(guesses) / use["temperature"] - max(guesses) / use["temperature"])
        drawn = rng.choice(len(free), size=min(wanted, len(free)), p=weights / weights.sum(), replace=False)
        result += [free[place] for place in drawn]
    return sorted(result), coarse | fine


CASES: list[Any] = [
    (600, 1.0, 16, {}),
    (600, 2.0, 32, {}),
    (333, 1.0, 8, {}),
    (1200, 1.0, 64, {}),
    (100, 0.5, 10, {}),
    (64, 1.0, 64, {}),
    (40, 4.0, 8, {}),
    (250, 1.0, 8, {"temperature": 1.0}),
    (250, 1.0, 12, {"arm_s": 8.0, "zoom": 0.5}),
    (500, 1.0, 20, {"top": 0.5, "final_max": 3}),
    (300, 2.0, 30, {"gap_ratio": 0.0, "extra": 4}),
    (90, 1.0, 45, {"min_arms": 20, "min_zoom": 1, "final_min": 1}),
]


@pytest.mark.parametrize("width", [1.0, 30.0])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("count", "fps", "k", "settings"), CASES)
def test_focus(count: int, fps: float, k: int, settings: dict[str, float], published: bool, width: float) -> None:
    rng = np.random.default_rng(count + k)
    hills = np.exp(-(((np.arange(count)[:, None] - rng.uniform(0, count, 3)) / 20) ** 2)).sum(1)
    scores = ((hills / 3.2 + rng.uniform(0, 0.05, count)) * width).tolist()
    wanted, scored = slow(scores, fps, k, published=published, **settings)
    scorer = KnownScores(scores)
    (found,) = choose({"name": "focus", "published": published, **settings}, scorer, k, per_second=fps)
    assert set(np.flatnonzero(scorer.asked[0])) == set(np.flatnonzero(np.isfinite(found.scores))) == scored
    assert scorer.calls <= 2
    if published:
        assert found.positions.tolist() == wanted
    else:
        assert set(wanted) <= set(found.positions.tolist())
        assert len(found.positions) == k


def test_a_moment_is_found_with_few_frames_scored() -> None:
    scores = np.full(3600, 0.1)
    scores[1200:1260] = 0.9
    scorer = KnownScores(scores)
    (found,) = choose({"name": "focus", "extra": 0}, scorer, 16)
    assert ((found.positions >= 1200) & (found.positions < 1260)).sum() >= 3
    assert scorer.asked.sum() < 0.45 * 3600


def test_published_ignores_what_the_closer_look_says_of_parts() -> None:
    rng = np.random.default_rng(3)
    tables = [rng.uniform(size=400) for _ in range(5)]
    assert any(chosen("focus", one, 16) != chosen({"name": "focus", "published": True}, one, 16) for one in tables)


def test_questions_are_searched_side_by_side() -> None:
    scores = np.random.default_rng(5).uniform(size=(3, 200))
    scorer = KnownScores(scores)
    together = [one.positions.tolist() for one in choose("focus", scorer, 8)]
    assert scorer.calls == 2
    assert together[0] == chosen("focus", scores[0], 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arm_s": 0}, "arm_s is 0; give a number above 0"),
        ({"zoom": 1.5}, "zoom is 1.5; give a share from 0 to 1"),
        ({"extra": -1}, "extra is -1; give 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen({"name": "focus", **settings}, [1, 2], 1)

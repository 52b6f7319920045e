"""Statistics of selectors against slow, independent ways to compute them."""

from collections.abc import Sequence
from itertools import product
from math import comb

import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.selectors import QuestionCost, SelectorRun, compared, holm, mean_cost, selector_figures
from lavis.tasks.predictions import Prediction

VIDEOS = {"a": "v", "b": "v", "c": "w", "d": "w", "e": "x", "f": "x"}


def tally(marks: str) -> dict[str, bool]:
    return {qid: mark == "+" for qid, mark in zip(VIDEOS, marks, strict=True)}


def sign_test(ahead: int, behind: int) -> float:
    """Every way that fair coins can fall, counted one by one."""
    falls = list(product((0, 1), repeat=ahead + behind))
    observed = abs(ahead - behind)
    return sum(abs(2 * sum(fall) - len(fall)) >= observed for fall in falls) / len(falls)


@pytest.mark.parametrize("first", ["++++++", "+-+-+-", "++--+-", "------"])
@pytest.mark.parametrize("second", ["------", "-+-+-+", "+++---", "++--++"])
def test_exact_p_values_are_those_of_all_ways_that_coins_can_fall(first: str, second: str) -> None:
    found = compared(tally(first), tally(second), VIDEOS)
    ahead = sum(x == "+" and y == "-" for x, y in zip(first, second, strict=True))
    behind = sum(x == "-" and y == "+" for x, y in zip(first, second, strict=True))
    assert found["p_value"] == pytest.approx(sign_test(ahead, behind))
    gains = [first[i : i + 2].count("+") - second[i : i + 2].count("+") for i in (0, 2, 4)]
    up, down = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    assert (found["videos_first"], found["videos_second"]) == (up, down)
    assert found["p_value_videos"] == pytest.approx(sign_test(up, down))
    assert found["difference"] == pytest.approx(100 * (ahead - behind) / 6)


def test_the_interval_of_a_difference_resamples_whole_videos() -> None:
    # Video v: +2 of 2 questions, w: 0 of 2, x: -1 of 2. Of the 27 draws of three videos:
    draws = sorted(100 * sum(draw) / 6 for draw in product((2, 0, -1), repeat=3))
    found = compared(tally("+++-+-"), tally("--+-++"), VIDEOS, resamples=200_000, seed=3)
    low, high = np.percentile(draws, [2.5, 97.5], method="inverted_cdf")
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert compared(tally("+++-+-"), tally("--+-++"), VIDEOS, resamples=50, seed=3) == compared(
        tally("+++-+-"), tally("--+-++"), VIDEOS, resamples=50, seed=3
    )


def test_runs_over_different_questions_are_not_compared() -> None:
    with pytest.raises(UserError, match="2 questions are in one run only, such as 'f'"):
        compared({"a": True, "f": False}, {"a": True, "g": False}, {**VIDEOS, "g": "x"})


def holm_by_hand(p_values: Sequence[float]) -> list[float]:
    """From the definition: the largest of what each test at most as large as this one is multiplied to."""
    order = sorted(p_values)
    steps = [(len(order) - place) * value for place, value in enumerate(order)]
    return [min(1.0, max(steps[: order.index(value) + 1])) for value in p_values]


@pytest.mark.parametrize(
    "p_values", [[], [0.04], [0.01, 0.04, 0.03], [0.5, 0.6, 0.7], [0.001, 0.9, 0.002, 0.02], [0.03, 0.03, 0.2]]
)
def test_p_values_are_corrected_for_how_many_there_are(p_values: list[float]) -> None:
    # Of equal values the first is multiplied by more, and no later one is smaller.
    assert holm(p_values) == pytest.approx(holm_by_hand(p_values))


def test_a_mean_cost_divides_what_was_done_for_several_questions() -> None:
    costs = [QuestionCost(32, 32, 1, 6.0, 2), QuestionCost(16, 8, 3, 1.0, 1)]
    assert mean_cost(costs) == {"frames_looked_at": 24.0, "frames_scored": 20.0, "scorer_calls": 1.75, "seconds": 2.0}
    assert mean_cost([]) is None


def run(label: str, k: int, marks: str, times: Sequence[float], *, unreadable: str = "") -> SelectorRun:
    """A run that chose these times for every question, apart from those that could not be read."""
    rows = [
        Prediction(id=qid, video=VIDEOS[qid], answer=0, unreadable="gone")
        if qid in unreadable
        else Prediction(
            id=qid,
            video=VIDEOS[qid],
            answer=0,
            choice=0 if mark == "+" else 1,
            keyframe_idx=tuple(range(len(times))),
            keyframe_times_s=tuple(times),
        )
        for qid, mark in zip(VIDEOS, marks, strict=True)
    ]
    costs = {one.id: QuestionCost(8, 4, 1, 0.5, 2) for one in rows if one.unreadable is None}
    return SelectorRun(label, k, rows, costs)


def annotations(*, windows: bool = True) -> list[Annotation]:
    spans = (Span(1.0, 2.0),) if windows else None
    return [
        Annotation(Question("q", ("x", "y"), id=qid, answer=0, video=video, windows=spans))
        for qid, video in VIDEOS.items()
    ]


def test_every_selector_gets_a_row_and_is_compared_at_the_same_k_only() -> None:
    runs = [
        run("mine", 1, "++++++", [1.5]),
        run("mine", 2, "++++--", [1.5, 9.0]),
        run("even", 1, "+-----", [9.0]),
        run("other", 4, "+++++-", [0.0, 1.0, 2.0, 3.0], unreadable="f"),
    ]
    rows = selector_figures(runs, annotations(), uniform="even", resamples=200)
    assert [(row["selector"], row["k"], row["questions"], row["unreadable"]) for row in rows] == [
        ("mine", 1, 6, 0),
        ("mine", 2, 6, 0),
        ("even", 1, 6, 0),
        ("other", 4, 6, 1),
    ]
    assert [row["accuracy"]["percent"] for row in rows] == pytest.approx([100, 400 / 6, 100 / 6, 500 / 6])
    assert [row["frames_read"] for row in rows] == [1, 2, 1, 4]
    any_inside = [row["windows"]["any"]["percent"] for row in rows]
    assert any_inside == pytest.approx([100, 100, 0, 500 / 6])
    assert [row["windows"]["share"]["percent"] for row in rows] == pytest.approx([100, 50, 0, 250 / 6])
    assert rows[3]["cost"] == {"frames_looked_at": 8, "frames_scored": 4, "scorer_calls": 0.5, "seconds": 0.25}
    against = [(row["against"]["uniform"], row["against"]["first"]) for row in rows]
    assert [(bool(uniform), bool(first)) for uniform, first in against] == [
        (True, False),
        (False, False),
        (False, True),
        (False, False),
    ]
    pair = against[0][0]
    assert (pair["only_first"], pair["only_second"], pair["difference"]) == (5, 0, pytest.approx(500 / 6))
    assert pair["p_value"] == pair["p_holm"] == pytest.approx(2 / 2**5)
    assert against[2][1]["difference"] == pytest.approx(-500 / 6)


def test_without_answers_or_windows_there_are_no_such_figures() -> None:
    unknown = [
        Prediction(id=qid, video=video, keyframe_idx=(0,), keyframe_times_s=(1.0,)) for qid, video in VIDEOS.items()
    ]
    (row,) = selector_figures([SelectorRun("even", 1, unknown, {})], annotations(windows=False), uniform="even")
    assert (row["accuracy"], row["windows"], row["cost"]) == (None, None, None)
    assert row["against"] == {"uniform": None, "first": None}


def test_the_slow_sign_test_is_the_binomial_one() -> None:
    assert sign_test(5, 1) == pytest.approx(2 * (comb(6, 0) + comb(6, 1)) / 2**6)

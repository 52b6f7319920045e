"""Policies that decide how many frames are read: small tables, any scores, and who cannot."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Question, Span
from lavis.models.chain import Selector, check_selector
from tests.unit.selection.policies.stand_ins import KnownScores, frames_of, questions

DECIDING = ("bolt", "threshold", "top_k", "windows")
NAN = np.nan


def decided(policy: Any, scores: list[float], most: int) -> list[int]:
    selector = Selector(registry.policies.build(policy), KnownScores(scores), decides=True)
    (selection,) = selector.select(frames_of(len(scores)), questions(), k=most)
    return selection.positions.tolist()


@pytest.mark.parametrize(
    ("policy", "scores", "most", "positions"),
    [
        pytest.param("top_k", [1, 9, 2, 8, 1], 4, [1, 3], id="above the gap"),
        pytest.param("top_k", [1, 9, 2, 8, 1], 1, [1], id="no more than the most"),
        pytest.param("top_k", [9, 8, 7, 0], 3, [0, 1, 2], id="the gap may be right after the most"),
        pytest.param("top_k", [9, 8, 7, 6, 0], 3, [0], id="what comes further down does not count; the first of equal"),
        pytest.param("top_k", [5, 5, 5, 5], 3, [0, 1, 2], id="no gap: all"),
        pytest.param("top_k", [5, 5, 1], 3, [0, 1], id="fewer frames than the most"),
        pytest.param("threshold", [1, -1, 2, -2], 3, [0, 2], id="those that match"),
        pytest.param("threshold", [-3, -1, -2], 2, [1], id="none matches: the best"),
        pytest.param("threshold", [1] * 6, 2, [1, 4], id="all match: evenly"),
        # The cumulative shares are 0, 1, 1, ...: all four steps meet the one frame that stands out.
        pytest.param("bolt", [0, 9, 0, 0, 0, 0], 4, [1], id="one frame stands out"),
        # Of two equal ones, steps at 1/4, 5/12, 7/12 and 3/4 meet the first twice and the second twice.
        pytest.param("bolt", [0, 9, 0, 0, 9, 0], 4, [1, 4], id="two stand out"),
        pytest.param("bolt", [NAN, 9, NAN, 0], 4, [1], id="frames without a score are not met"),
        pytest.param("bolt", [3, 3, 3, 3, 3, 3], 3, [1, 3, 5], id="equal scores: evenly"),
    ],
)
def test_a_policy_decides(policy: str, scores: list[float], most: int, positions: list[int]) -> None:
    assert decided(policy, scores, most) == positions


def test_frames_in_windows_are_as_many_as_there_are() -> None:
    question = Question("q", id="q", windows=(Span(2, 4),))
    selector = Selector(registry.policies.build("windows"), decides=True)
    chosen = {most: selector.select(frames_of(9), [question], k=most)[0].positions.tolist() for most in (8, 2)}
    assert chosen == {8: [2, 3, 4], 2: [2, 4]}
    nowhere = replace(question, windows=(Span(100, 101),))
    assert len(selector.select(frames_of(9), [nowhere], k=8)[0].positions) == 1


@pytest.mark.parametrize("policy", ["bolt", "threshold", "top_k"])
@given(scores=st.lists(st.floats(-5, 5) | st.just(NAN), min_size=1, max_size=40), most=st.integers(1, 40))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_scores_give_from_one_to_the_most_frames_in_time_order(policy: str, scores: list[float], most: int) -> None:
    most = min(most, len(scores))
    built = registry.policies.build(policy)
    (selection,) = built.decide(frames_of(len(scores)), questions(), most=most, scorer=KnownScores(scores))
    positions = selection.positions.tolist()
    assert positions == sorted(set(positions))
    assert 1 <= len(positions) <= most
    assert set(positions) <= set(range(len(scores)))


@pytest.mark.parametrize("policy", ["aks", "uniform", "mdp3", "q_frame", "half_uniform"])
def test_one_that_cannot_is_refused_with_those_that_can(policy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_selector({"policy": policy, "k": "auto"}, place="model.selector: ")
    assert str(refused.value) == (
        f"model.selector: the policy {policy} does not decide how many frames are read; say how many, "
        f"or choose one that does: {', '.join(DECIDING)}"
    )


def test_k_is_a_number_or_auto() -> None:
    check_selector({"policy": "top_k", "k": "auto"})
    with pytest.raises(ConfigError, match="k is 'some'; give a number of frames, 1 or more, or auto"):
        check_selector({"policy": "top_k", "k": "some"})


def test_the_most_is_what_was_published_unless_told() -> None:
    assert {name: Selector(registry.policies.build(name), decides=True).most for name in DECIDING} == {
        "bolt": 32,
        "threshold": 4,
        "top_k": 4,
        "windows": 4,
    }
    assert Selector(registry.policies.build("bolt"), k=6, decides=True).most == 6

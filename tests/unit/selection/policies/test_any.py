"""What holds for every policy that scores frames, whatever the scores: K different frames in time order, every time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavis.common.registry import registry
from lavis.models.chain import Selector, selector_names
from lavis.models.frames import FrameSource
from tests.unit.selection.policies.stand_ins import KnownFeatures, KnownScores, frames_of, questions
from tests.unit.selection.policies.test_dpp import Painted

POLICIES: list[Any] = [
    "top_k",
    "coarse_to_fine",
    "aks",
    {"name": "aks", "t1": 0.3, "depth": 3},
    "bolt",
    {"name": "bolt", "power": 0.5},
    "q_frame",
    "mdp3",
    {"name": "mdp3", "segment": 3, "lam": 5.0},
    "diversity",
    "scenes",
    "threshold",
    {"name": "threshold", "above": "mixture"},
    "half_uniform",
    {"name": "half_uniform", "policy": "focus"},
    {"name": "half_uniform", "policy": "coarse_to_fine"},
    "focus",
    {"name": "focus", "min_arms": 3, "min_zoom": 1},
    "t_star",
    {"name": "t_star", "grid": 4, "budget": 0.6},
]
PUBLISHED = ["aks", "bolt", "q_frame", "mdp3", "focus", "t_star"]
SCORES = st.one_of(
    st.floats(-20, 20),
    st.integers(0, 3).map(float),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e100, -1e100, 1e-300]),
)


@st.composite
def tables(draw: st.DrawFn, *, scores: Any = SCORES) -> tuple[list[list[float]], int]:
    """Scores [B, T] and K."""
    count = draw(st.integers(1, 40))
    row = st.one_of(st.lists(scores, min_size=count, max_size=count), scores.map(lambda one: [one] * count))
    return draw(st.lists(row, min_size=1, max_size=2)), draw(st.integers(1, count))


def scorer_of(scores: list[list[float]]) -> tuple[FrameSource, KnownScores]:
    """Frames whose features and colours come from the first row of scores."""
    rows = np.array(scores)
    colours = np.nan_to_num(rows[0], nan=0.0, posinf=9.0, neginf=-9.0).clip(0, 255).astype(int)
    with np.errstate(all="ignore"):
        features = np.stack([np.sin(rows[0]), np.cos(rows[0]), np.ones(rows.shape[1])], axis=1)
    scorer = KnownFeatures(features, np.ones((len(rows), 3)))
    scorer.scores = scorer.margins = rows
    return Painted(colours.tolist()).frames, scorer


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("policy", POLICIES, ids=str)
@given(table=tables())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_k_different_frames_in_time_order_the_same_every_time(
    policy: Any, table: tuple[list[list[float]], int]
) -> None:
    scores, k = table
    found = []
    for _ in range(2):
        frames, scorer = scorer_of(scores)
        built = registry.policies.build(policy)
        found.append(built.choose(frames, questions(len(scores)), k=k, scorer=scorer))
    for first, second in zip(*found, strict=True):
        assert first.positions.tolist() == second.positions.tolist() == sorted(set(first.positions.tolist()))
        assert len(first.positions) == k
        assert first.positions.dtype == np.int64
        assert first.positions[0] >= 0
        assert first.positions[-1] < len(scores[0]) == len(first.scores)


@pytest.mark.parametrize(
    "policy", [one for one in POLICIES if "focus" not in str(one) and "t_star" not in str(one)], ids=str
)
@given(table=tables(scores=st.sampled_from([float("nan"), 0.0, 1.0, 2.0, 7.0])))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_frames_without_a_score_come_last(policy: Any, table: tuple[list[list[float]], int]) -> None:
    scores, k = table
    if policy == "coarse_to_fine" or "half_uniform" in str(policy):
        return  # they do not look at all frames, or spread some whatever they score
    frames, scorer = scorer_of(scores)
    for selection in registry.policies.build(policy).choose(frames, questions(len(scores)), k=k, scorer=scorer):
        scored = np.isfinite(selection.scores)
        assert scored[selection.positions].sum() == min(k, scored.sum())


@pytest.mark.parametrize("policy", PUBLISHED)
@given(table=tables(scores=st.floats(0, 1)))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_published_rules_give_frames_of_the_video_in_time_order(
    policy: str, table: tuple[list[list[float]], int]
) -> None:
    if policy == "t_star":
        pytest.importorskip("scipy")
    scores, k = table
    frames, scorer = scorer_of(scores)
    settings = {"name": policy, "published": True, **({"depth": 0} if policy == "aks" else {})}
    for selection in registry.policies.build(settings).choose(frames, questions(len(scores)), k=k, scorer=scorer):
        positions = selection.positions.tolist()
        assert positions == sorted(positions)
        assert 0 <= positions[0] <= positions[-1] < len(scores[0])


def test_the_cost_of_choosing_goes_with_the_selection() -> None:
    scores = np.random.default_rng(0).uniform(size=(2, 300))
    found = {
        name: Selector(registry.policies.build(name), KnownScores(scores)).select(frames_of(300), questions(2), k=8)[0]
        for name in ("top_k", "focus", "uniform")
    }
    calls = {name: one.cost.scorer_calls for name, one in found.items() if one.cost}
    assert calls == {"top_k": 1, "focus": 2, "uniform": 0}
    assert found["top_k"].frames_scored == 300
    assert 0 < found["focus"].frames_scored < 200
    assert all(one.cost and one.cost.seconds > 0 and one.cost.frames_decoded == 0 for one in found.values())


def test_every_policy_is_tested_here_and_is_a_short_name() -> None:
    names = {policy if isinstance(policy, str) else policy["name"] for policy in POLICIES}
    own = {name for name in registry.policies.names() if registry.policies.get(name).__module__.startswith("lavis.")}
    # Those with weights of their own: test_trained.py.
    assert own - names == {"uniform", "random", "windows", "all", "frames_file", "atp", "differentiable_top_k"}
    assert own <= set(selector_names())

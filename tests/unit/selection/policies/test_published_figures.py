"""Positions that the published code itself chose, of AKS, FOCUS, MDP3 and T* (with its detector replaced by scores)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.selection.policies.stand_ins import KnownFeatures, KnownScores, choose

FIGURES = json.loads(Path(__file__).with_name("published_figures.json").read_text(encoding="utf-8"))


def scorer_of(seed: int, count: int) -> KnownFeatures:
    """Scores from 0 to 1 with a hill, and features of which neighbours are alike."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(size=(count, 12)), axis=0)
    scorer = KnownFeatures(steps + rng.normal(size=(count, 12)), rng.normal(size=(1, 12)))
    hill = np.exp(-(((np.arange(count) - rng.integers(count)) / 30) ** 2))
    scorer.scores = scorer.margins = (rng.uniform(0.01, 0.1, count) + 0.5 * hill)[None]
    return scorer


@pytest.mark.parametrize("case", FIGURES, ids=lambda case: f"{case['policy']['name']}-{case['seed']}")
def test_the_published_code_chooses_the_same(case: dict[str, Any]) -> None:
    if case["policy"]["name"] == "t_star":
        pytest.importorskip("scipy")
    scorer: KnownScores = scorer_of(case["seed"], case["count"])
    (selection,) = choose(case["policy"], scorer, case["k"])
    assert selection.positions.tolist() == case["positions"]

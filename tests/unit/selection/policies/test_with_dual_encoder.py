"""Policies that compare features, with a dual encoder of random weights on real frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.models.chain import Selector
from lavis.selection.scorers.dual_encoder import DualEncoder
from tests.unit.selection.scorers.networks import frames_of, save_network
from tests.videos import write_video


@pytest.mark.parametrize(
    "policy", ["mdp3", "q_frame", "diversity", {"name": "half_uniform", "policy": "mdp3"}], ids=str
)
def test_features_are_made_once_and_read_by_the_policy(policy: Any, tmp_path: Path) -> None:
    scorer = DualEncoder(model=str(save_network(tmp_path / "siglip", "siglip")), device="cpu")
    frames = frames_of(write_video(tmp_path / "clip.mp4", num_frames=24), 12)
    asked = [Question("a red box", id="one"), Question("a blue ball", id="two")]
    selector = Selector(registry.policies.build(policy), scorer)
    first, second = selector.select(frames, asked, k=4)
    for selection in (first, second):
        assert len(set(selection.positions.tolist())) == 4
        assert np.isfinite(selection.scores).all()
        assert selection.cost is not None
        assert selection.cost.frames_decoded == 12
    (alone,) = selector.select(frames, asked[1:], k=4)
    assert alone.positions.tolist() == second.positions.tolist()
    assert alone.cost is not None
    assert alone.cost.frames_decoded == 0

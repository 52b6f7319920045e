"""Policies with weights of their own: what is chosen by scores, and which weights they take."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lavis.common.errors import CheckpointError, ConfigError, NotFiniteError, UserError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.models.chain import Selector, build_selector, check_selector
from lavis.models.checkpoints.weights_io import write_weights
from lavis.models.frames import FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.selection.policies.trained import PART, WEIGHTS_FILE, FrameNetwork, Learning, Trained, as_metadata
from tests.unit.models.tiny import CONFIG, random_pixels
from tests.unit.selection.policies.stand_ins import KnownFeatures, frames_of, questions

POLICIES = ["atp", "differentiable_top_k"]
NAN, INF = float("nan"), float("inf")


class Known(FrameNetwork):
    """Scores are the first numbers of what is seen."""

    def __init__(self) -> None:
        super().__init__({})
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, frames: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        return frames[:, 0]


def choose(policy: str, scores: list[float], k: int) -> list[int]:
    built = registry.policies.build(policy)
    built._network = Known()
    features = np.array(scores, dtype=np.float64)[:, None]
    (found,) = built.choose(frames_of(len(scores)), questions(), k=k, scorer=KnownFeatures(features, np.ones((1, 1))))
    assert found.positions.dtype == np.int64
    assert len(found.scores) == len(scores)
    positions: list[int] = found.positions.tolist()
    return positions


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("scores", "k", "expected"),
    [
        ([5.0], 1, [0]),
        ([0.0, 1.0], 1, [1]),
        ([1.0, 0.0], 1, [0]),
        ([1.0, 0.0], 2, [0, 1]),
        ([0.0, 0.0, 0.0], 1, [0]),
        ([0.0, 0.0, 0.0], 2, [0, 1]),
        ([0.0, 0.0, 0.0], 3, [0, 1, 2]),
        ([1.0, 3.0, 2.0], 1, [1]),
        ([1.0, 3.0, 2.0], 2, [1, 2]),
        ([3.0, 1.0, 2.0], 2, [0, 2]),
        ([-1.0, -3.0, -2.0], 1, [0]),
        ([-1.0, -3.0, -2.0], 2, [0, 2]),
        ([2.0, 2.0, 1.0, 2.0], 2, [0, 1]),
        ([1.0, 2.0, 2.0, 2.0], 2, [1, 2]),
        ([1.0, 2.0, 1.0, 2.0], 3, [0, 1, 3]),
        ([9.0, 8.0, 7.0, 6.0, 5.0], 3, [0, 1, 2]),
        ([5.0, 6.0, 7.0, 8.0, 9.0], 3, [2, 3, 4]),
        ([0.1, 0.9, 0.2, 0.8, 0.3, 0.7], 3, [1, 3, 5]),
        ([0.1, 0.9, 0.2, 0.8, 0.3, 0.7], 4, [1, 3, 4, 5]),
        ([-1e30, 0.0, 1e30, 1.0], 2, [2, 3]),
        ([NAN, 0.0, 1.0, NAN], 2, [1, 2]),
        ([NAN, 0.0, NAN, -1.0], 1, [1]),
        ([-INF, 0.0, 1.0, -2.0], 3, [1, 2, 3]),
        ([4.0] * 8, 4, [0, 1, 2, 3]),
    ],
)
def test_the_k_highest_in_time_order(policy: str, scores: list[float], k: int, expected: list[int]) -> None:
    assert choose(policy, scores, k) == expected


@pytest.mark.parametrize("policy", POLICIES)
@given(
    scores=st.lists(
        st.one_of(st.floats(-20, 20, width=32), st.integers(0, 3).map(float), st.sampled_from([NAN, INF, -INF])),
        min_size=1,
    ),
    data=st.data(),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_scores_give_k_different_frames_in_time_order(policy: str, scores: list[float], data: Any) -> None:
    k = data.draw(st.integers(1, len(scores)))
    positions = choose(policy, scores, k)
    assert positions == sorted(set(positions)) == choose(policy, scores, k)
    assert len(positions) == k
    assert {*positions} <= {*range(len(scores))}
    finite = [score for score in scores if score == score]
    chosen = [scores[place] for place in positions]
    assert sorted(score for score in chosen if score == score) == sorted(finite, reverse=True)[:k][::-1]


# -- which weights ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return SeViLA.untrained(CONFIG)


def learning(spec: Any) -> tuple[SeViLA, Selector]:
    """A model with a selector that trains in it."""
    model = SeViLA.untrained(CONFIG)
    model.add_module(PART, Learning())
    return model, build_selector(spec, model, prompt="multiple_choice")


def saved(folder: Path, network: FrameNetwork, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    network.settings = {**network.settings, **changed}
    write_weights(folder / WEIGHTS_FILE, dict(network.named_parameters()), metadata=as_metadata(network))
    return folder


def clip(count: int = 5) -> FrameSource:
    return FrameSource(np.arange(count), np.arange(count) / 2, pixels=random_pixels(count))


ASKED = [Question("what is it", ("red", "green"), id="q0"), Question("why", ("no", "yes", "never"), id="q1")]


@pytest.mark.parametrize("policy", POLICIES)
def test_without_weights_nothing_is_chosen_and_the_way_out_is_named(policy: str, model: SeViLA) -> None:
    for spec in (policy, {"policy": policy}, {"policy": {"name": "half_uniform", "policy": policy}}):
        with pytest.raises(ConfigError, match=f"{policy} is not trained here.*learn_selector.*weights: FOLDER") as said:
            build_selector(spec, model, prompt="multiple_choice")
        assert "\n" not in str(said.value)
    with pytest.raises(ConfigError, match="build_selector"):
        registry.policies.build(policy).choose(clip(), ASKED, k=1, scorer=model.as_scorer(prompt="multiple_choice"))


@pytest.mark.parametrize("policy", POLICIES)
def test_saved_weights_choose_as_those_that_trained(policy: str, model: SeViLA, tmp_path: Path) -> None:
    _, selector = learning({"policy": {"name": policy, "seed": 5, "hidden": 16, "size": 8}})
    assert isinstance(selector.policy, Trained)
    folder = saved(tmp_path / "best", selector.policy.network)
    before = selector.select(clip(), ASKED, k=2)
    for place in (folder, folder / WEIGHTS_FILE):
        loaded = build_selector({"policy": {"name": policy, "weights": str(place)}}, model, prompt="multiple_choice")
        for ours, theirs in zip(loaded.select(clip(), ASKED, k=2), before, strict=True):
            np.testing.assert_array_equal(ours.scores, theirs.scores)
            np.testing.assert_array_equal(ours.positions, theirs.positions)
        assert loaded.policy.fingerprint() == selector.policy.fingerprint()
    _, other = learning({"policy": {"name": policy, "seed": 6, "hidden": 16, "size": 8}})
    assert other.policy.fingerprint() != selector.policy.fingerprint()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_question_scores_the_same_whatever_else_is_asked(policy: str) -> None:
    _, selector = learning(policy)
    together = selector.select(clip(), ASKED, k=2)
    for question, found in zip(ASKED, together, strict=True):
        np.testing.assert_array_equal(selector.select(clip(), [question], k=2)[0].scores, found.scores)
    assert not np.array_equal(together[0].scores, together[1].scores)
    assert together[0].cost is not None
    assert together[0].cost.scorer_calls == 3  # the frames once, and each question


def test_the_order_of_frames_means_nothing_to_the_probe() -> None:
    _, selector = learning("atp")
    network = selector.policy.network.eval()
    frames, question = torch.randn(6, network.settings["width"]), torch.randn(network.settings["width"])
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(network(frames[order], question), network(frames, question)[order])


def test_a_network_begins_alike_by_its_seed_and_draws_nothing_of_others() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = learning("atp")[1].policy.network
    second = learning("atp")[1].policy.network
    third = learning({"policy": {"name": "atp", "seed": 1}})[1].policy.network
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(first.kinds, third.kinds)
    torch.manual_seed(0)
    learning("atp")
    torch.manual_seed(0)
    model = SeViLA.untrained(CONFIG)
    model.add_module(PART, Learning())
    build_selector("atp", model, prompt="multiple_choice")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_features_of_a_dual_encoder_are_another_door(policy: str, model: SeViLA, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scorer = KnownFeatures(rng.normal(size=(5, 7)), rng.normal(size=(1, 7)))
    trained = SeViLA.untrained(CONFIG)
    trained.add_module(PART, Learning())
    built = registry.policies.build(policy)
    built.take_weights(trained, scorer)
    assert built.network.settings["width"] == 7
    (found,) = built.choose(frames_of(5), questions(), k=2, scorer=scorer)
    assert len(found.positions) == 2
    folder = saved(tmp_path / "best", built.network)
    with pytest.raises(ConfigError, match=f"has width 7, and here it is {CONFIG.language.sizes['d_model']}"):
        build_selector({"policy": {"name": policy, "weights": str(folder)}}, model, prompt="multiple_choice")


def test_a_scorer_that_shows_nothing_is_refused(model: SeViLA) -> None:
    with pytest.raises(ConfigError, match="shows none; name the scorer dual_encoder"):
        build_selector({"policy": "atp", "scorer": "motion"}, model, prompt="multiple_choice")


def test_scores_that_are_no_numbers_are_an_error() -> None:
    _, selector = learning("differentiable_top_k")
    with torch.no_grad():
        selector.policy.network.frame.weight.fill_(NAN)
    with pytest.raises(NotFiniteError, match="q0"):
        selector.select(clip(), ASKED[:1], k=2)


@pytest.mark.parametrize(
    ("policy", "arguments", "said"),
    [
        ("atp", {"heads": 3}, "cannot share a size of 128 among 3 heads"),
        ("atp", {"layers": 0}, "has layers 0"),
        ("atp", {"size": 2.5}, "has size 2.5"),
        ("atp", {"dropout": 1.0}, "cannot drop out 1.0"),
        ("atp", {"temperature": 0}, "a temperature is 0"),
        ("atp", {"sigma": 0.1}, "unknown argument 'sigma'"),
        ("differentiable_top_k", {"sigma": 0}, "a deviation of 0"),
        ("differentiable_top_k", {"num_samples": 0}, "the mean of 0 draws"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(policy: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        registry.policies.build({"name": policy, **arguments})
    assert "\n" not in str(refused.value)


def test_weights_that_are_not_there_are_missed_when_the_selector_is_built(model: SeViLA, tmp_path: Path) -> None:
    spec = {"policy": {"name": "atp", "weights": str(tmp_path)}}
    check_selector(spec)
    with pytest.raises(
        CheckpointError, match=r"no weights of a selector at .*selector.safetensors; name the folder best"
    ):
        build_selector(spec, model, prompt="multiple_choice")


def test_weights_of_other_settings_are_refused(model: SeViLA, tmp_path: Path) -> None:
    _, selector = learning({"policy": {"name": "atp", "size": 8, "hidden": 16}})
    folder = saved(tmp_path / "best", selector.policy.network)

    def build(**policy: Any) -> Selector:
        return build_selector({"policy": {"weights": str(folder), **policy}}, model, prompt="multiple_choice")

    assert build(name="atp", hidden=16).policy.network.settings["size"] == 8
    with pytest.raises(ConfigError, match="has hidden 16, and here it is 32; give the same to both"):
        build(name="atp", hidden=32)
    with pytest.raises(ConfigError, match="holds weights of 'atp', not of differentiable_top_k"):
        build(name="differentiable_top_k")


def test_a_selector_that_trains_is_the_one_that_validation_finds(tmp_path: Path) -> None:
    model, selector = learning({"policy": {"name": "atp", "size": 8}})
    again = build_selector({"policy": {"name": "atp", "size": 8}}, model, prompt="multiple_choice")
    assert again.policy.network is selector.policy.network
    assert f"{PART}.network.kinds" in dict(model.trainable_parameters())
    with pytest.raises(ConfigError, match="the selector that trains has policy atp"):
        build_selector("differentiable_top_k", model, prompt="multiple_choice")
    folder = saved(tmp_path / "best", selector.policy.network)
    further, from_file = learning({"policy": {"name": "atp", "weights": str(folder)}})
    assert torch.equal(from_file.policy.network.kinds, selector.policy.network.kinds)
    assert f"{PART}.network.kinds" in dict(further.trainable_parameters())


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "[]",
        "{}",
        '{"policy": "atp"}',
        '{"policy": "atp", "layers": 1000000000, "size": 8, "heads": 2, "hidden": 8, "dropout": 0, "width": 24}',
        '{"policy": "atp", "layers": 1, "size": 1000000000, "heads": 2, "hidden": 8, "dropout": 0, "width": 24}',
        '{"policy": "atp", "layers": 1, "size": 7, "heads": 2, "hidden": 8, "dropout": 0, "width": 24}',
        '{"policy": "atp", "layers": "one", "size": 8, "heads": 2, "hidden": 8, "dropout": 0, "width": 24}',
    ],
)
def test_damaged_settings_are_refused_before_anything_is_made(settings: str, model: SeViLA, tmp_path: Path) -> None:
    _, selector = learning({"policy": {"name": "atp", "size": 8}})
    weights = dict(selector.policy.network.named_parameters())
    write_weights(tmp_path / WEIGHTS_FILE, weights, metadata={"format": "pt", PART: settings} if settings else {})
    with pytest.raises(CheckpointError, match="selector"):
        build_selector({"policy": {"name": "atp", "weights": str(tmp_path)}}, model, prompt="multiple_choice")


def test_a_damaged_file_is_refused(model: SeViLA, tmp_path: Path) -> None:
    _, selector = learning("atp")
    file = saved(tmp_path / "best", selector.policy.network) / WEIGHTS_FILE
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="fails its checksum"):
        build_selector({"policy": {"name": "atp", "weights": str(file)}}, model, prompt="multiple_choice")


def test_settings_stand_beside_the_weights_as_json() -> None:
    _, selector = learning("atp")
    said = json.loads(as_metadata(selector.policy.network)[PART])
    assert {name: said[name] for name in ("policy", "layers", "heads", "size", "hidden", "dropout", "scorer")} == {
        **{"policy": "atp", "layers": 2, "heads": 2, "size": 128, "hidden": 128, "dropout": 0.1},
        "scorer": "SeViLALocalizer",
    }

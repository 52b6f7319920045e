"""Selectors that train on image-text models of transformers: the loss of a frozen model reaches them alone."""

import numpy as np
import pytest
import torch

from lavis.models.chain import build_selector, prepared_frames
from lavis.models.hf.model import HFModel
from lavis.models.loading import load_model
from lavis.tasks.objectives import AnswererFinetuning
from lavis.tasks.selector_learning import SelectorLearning
from tests.vlm.families import FAMILIES, save_tiny
from tests.vlm.training.test_objectives import NUM_FRAMES, QUESTIONS, batch_of

pytestmark = pytest.mark.vlm


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HFModel:
    loaded: HFModel = load_model(
        "hf", str(save_tiny(request.param, tmp_path_factory.mktemp("tiny") / "m")), device="cpu"
    )
    return loaded


@pytest.mark.parametrize("policy", ["atp", "differentiable_top_k"])
def test_the_loss_reaches_the_selector_alone_and_what_trains_chooses(policy: str, model: HFModel) -> None:
    objective = SelectorLearning(prompt="multiple_choice", k=2, selector=policy)
    model.set_trainable(objective.trainable)
    objective.attach(model)
    torch.manual_seed(0)
    batch = batch_of(model)
    objective(model, batch)["loss"].backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert set(found) == {f"selector.network.{name}" for name, _ in model.selector.network.named_parameters()}
    assert sum(float(value.abs().sum()) for value in found.values()) > 0
    clip = prepared_frames(model, batch.pixels[0], batch.frame_idx[0], batch.times_s[0])
    chosen = build_selector(policy, model, prompt="multiple_choice").select(clip, QUESTIONS, k=2)
    assert all(len(selection.positions) == 2 and np.isfinite(selection.scores).all() for selection in chosen)


def test_hard_frames_are_read_as_they_are(model: HFModel) -> None:
    objective = SelectorLearning(prompt="multiple_choice", k=NUM_FRAMES, selector="atp")
    objective.attach(model)
    torch.manual_seed(0)
    batch = batch_of(model)
    every = AnswererFinetuning(prompt="multiple_choice", k=NUM_FRAMES, selector="all")(model, batch)
    assert objective(model, batch)["loss"].item() == pytest.approx(every["loss"].item(), rel=1e-5)


def test_the_size_of_mixed_pictures_is_still_known(model: HFModel) -> None:
    features = model.features(batch_of(model).pixels[0])
    weights = torch.full((1, len(features)), 1 / 3) @ features.flatten(1)
    assert model.backbone.size_of(weights.view(1, *features.shape[1:])) == model.backbone.size_of(features)


def test_texts_are_read_as_plain_text_whatever_they_hold(model: HFModel) -> None:
    control = model.backbone.tokenizer.eos_token
    scorer = model.as_scorer(prompt="multiple_choice")
    plain, held = scorer.text_states(["red", f"red {control}"])
    assert plain.shape == held.shape
    assert held.isfinite().all()

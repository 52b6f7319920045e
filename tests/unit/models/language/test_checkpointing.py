"""With activation checkpointing a step computes what it computes without, and keeps less."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lavis.common.errors import ConfigError, MissingExtraError
from lavis.common.types import Question, Span
from lavis.datasets.dataset import ClipBatch
from lavis.models.language.checkpointing import check_checkpointing, checkpoint_activations
from lavis.models.sevila.model import JointPacking, PerFramePacking, SeViLA
from lavis.tasks.build import build_objective, resolve_task
from tests.unit.models.tiny import CONFIG, random_pixels, random_tokens

OBJECTIVES = ("localizer_pretraining", "self_refinement", "answerer_finetuning")
METHODS = (
    "torch",
    pytest.param(
        "fairscale",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("fairscale") is None, reason="the extra 'fairscale' is not installed"
        ),
    ),
)
FRAMES = 4


@pytest.fixture
def batch() -> ClipBatch:
    asked = Question("what colour is the box?", ("red", "green", "blue"), id="1", answer=1, windows=(Span(0.0, 1.0),))
    return ClipBatch(
        pixels=random_pixels(2 * FRAMES).unflatten(0, (2, FRAMES)),
        times_s=torch.arange(FRAMES).expand(2, -1),
        frame_idx=torch.arange(FRAMES).expand(2, -1),
        questions=(asked, replace(asked, text="where is the box?", id="2", answer=0)),
    )


def model_with(method: str, *, dropout: float = 0.0) -> SeViLA:
    model = SeViLA.untrained(replace(CONFIG, prompter={**CONFIG.prompter, "dropout": dropout}))
    for part in (model.language, model.localizer, model.answerer):
        checkpoint_activations(part, method=method)
    # fairscale adds up gradients in another order, which shows in the last bits only.
    return model.double()


def gradients(model: SeViLA, batch: ClipBatch, objective_name: str) -> dict[str, torch.Tensor]:
    objective = build_objective(resolve_task(objective_name), prompt="multiple_choice", num_keyframes=2)
    model.set_trainable(objective.trainable)
    model.train()
    model.zero_grad()
    torch.manual_seed(0)
    objective(model, batch)["loss"].backward()
    found = {name: parameter.grad for name, parameter in model.trainable_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())
    assert max(float(gradient.abs().max()) for gradient in found.values()) > 1e-4
    return found


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-15, msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_a_step_that_keeps_everything(method: str, name: str, batch: ClipBatch) -> None:
    assert_same(gradients(model_with(method), batch, name), gradients(model_with("none"), batch, name))


@pytest.mark.parametrize("method", METHODS)
def test_dropout_of_a_part_that_trains_is_not_disturbed(method: str, batch: ClipBatch) -> None:
    plain, ours = model_with("none", dropout=0.3), model_with(method, dropout=0.3)
    assert_same(gradients(ours, batch, "self_refinement"), gradients(plain, batch, "self_refinement"))


@pytest.mark.parametrize("method", METHODS)
def test_dropout_of_a_language_model_in_training_mode_is_drawn_again(method: str, batch: ClipBatch) -> None:
    def found(method: str) -> torch.Tensor:
        model = model_with(method)
        model.language.train()
        tokens = random_tokens(2, 2).requires_grad_()
        torch.manual_seed(0)
        model.text_loss(tokens, ["a", "b"], ["yes", "no"], packing=JointPacking()).loss.backward()
        assert tokens.grad is not None
        return tokens.grad

    torch.testing.assert_close(found(method), found("none"), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_torch_gives_the_very_same_gradients(name: str, batch: ClipBatch) -> None:
    ours, plain = gradients(model_with("torch"), batch, name), gradients(model_with("none"), batch, name)
    assert all(torch.equal(ours[part], gradient) for part, gradient in plain.items())


@pytest.mark.parametrize("method", METHODS)
def test_gradients_under_autocast_are_computed_in_the_same_precision(method: str, batch: ClipBatch) -> None:
    def found(method: str) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return gradients(model_with(method), batch, "answerer_finetuning")

    ours, plain = found(method), found("none")
    for name, gradient in plain.items():
        # Recomputed in another precision the worst differs by a sixth.
        assert float((ours[name] - gradient).norm()) <= 1e-2 * float(gradient.norm()) + 1e-5, name


@pytest.mark.parametrize("method", METHODS)
def test_blocks_keep_their_inputs_alone(method: str) -> None:
    kept = {name: kept_bytes(model_with(name)) for name in ("none", method)}
    assert kept[method] < kept["none"] / 2


def kept_bytes(model: SeViLA) -> int:
    """How much the graph of a loss keeps beside weights; what several operations keep counts once."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = random_tokens(4, 4).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.text_loss(tokens, ["what is it?"] * 4, ["yes"] * 16, packing=PerFramePacking()).loss
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("method", METHODS)
def test_names_modes_and_freezing_stay(method: str) -> None:
    plain, ours = model_with("none"), model_with(method)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in plain.named_modules()]
    ours.set_trainable(["localizer"])
    ours.train()
    assert not any(module.training for module in ours.language.modules())
    assert not any(parameter.requires_grad for parameter in ours.language.parameters())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_answers_are_what_they_were_with_and_without_gradients(method: str, mode: Callable[[], object]) -> None:
    """With gradients too, where two decoder steps share a cache that must not be written twice."""

    def logits(model: SeViLA) -> torch.Tensor:
        with mode():  # type: ignore[attr-defined]
            tokens = random_tokens(2, 2).requires_grad_(mode is torch.enable_grad)
            return model.answer(tokens, ["a", "b"], num_options=3, packing=JointPacking()).logits

    assert torch.equal(logits(model_with(method)), logits(model_with("none")))


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^unknown model\.checkpointing 'tourch'; did you mean 'torch'"):
        check_checkpointing("tourch")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"^fairscale is not installed; .*pip install 'sevila\[fairscale\]'$"):
        check_checkpointing("fairscale")

"""The published step computes the loss and the gradients of ours, only the long way round."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.fixtures import as_published, questions
from benchmarks.published_step import PublishedFinetuning, PublishedStep
from benchmarks.training import _losses
from benchmarks.training_side import FirstStep
from lavis.datasets.dataset import ClipBatch
from lavis.models.sevila.model import SeViLA
from lavis.tasks.build import build_objective, resolve_task
from tests.unit.models.tiny import CONFIG, IMAGE_SIZE

NUM_VIDEOS, NUM_FRAMES, NUM_KEYFRAMES = 3, 5, 2
ROLES = {"self_refinement": "localizer", "answerer_finetuning": "answerer"}


@pytest.fixture(scope="module")
def batch() -> ClipBatch:
    asked = [replace(question, answer=number) for number, question in enumerate(questions(NUM_VIDEOS))]
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randn(NUM_VIDEOS, NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE, generator=noise)
    return ClipBatch(
        pixels, torch.zeros(NUM_VIDEOS, NUM_FRAMES), torch.arange(NUM_FRAMES).expand(NUM_VIDEOS, -1), tuple(asked)
    )


@pytest.fixture
def model() -> SeViLA:
    """In float64, where the two ways of computing the same agree to the last bits on any processor."""
    return SeViLA.untrained(CONFIG).double()


def published(model: SeViLA, task: str) -> tuple[SeViLA, PublishedStep]:
    plain = as_published(model, attention="eager")
    return plain, PublishedStep(plain, task=task, num_keyframes=NUM_KEYFRAMES, lr=1e-3)


@pytest.mark.parametrize("task", ROLES)
def test_loss_and_gradients_are_those_of_our_step(task: str, model: SeViLA, batch: ClipBatch) -> None:
    plain, step = published(model, task)
    plain.eval()
    objective = build_objective(resolve_task(task), prompt="multiple_choice", num_keyframes=NUM_KEYFRAMES)
    model.set_trainable(objective.trainable)
    ours = objective(model, batch)["loss"]
    ours.backward()
    assert step.backward(batch) == pytest.approx(float(ours.detach()), rel=1e-12)
    theirs = dict(plain.get_submodule(ROLES[task]).named_parameters())
    ours = {name: parameter.grad for name, parameter in model.get_submodule(ROLES[task]).named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in ours.values() if gradient is not None)
    for name, gradient in ours.items():
        torch.testing.assert_close(theirs[name].grad, gradient, rtol=0, atol=1e-12 * largest, msg=name)


@pytest.mark.parametrize("task", ROLES)
def test_frozen_parts_are_as_the_published_code_leaves_them(task: str, model: SeViLA) -> None:
    plain, _ = published(model, task)
    assert all(module.training for module in plain.language.modules())
    other = {"localizer": "answerer", "answerer": "localizer"}[ROLES[task]]
    learning = {
        name.partition(".")[0] for name, part in plain.get_submodule(other).named_parameters() if part.requires_grad
    }
    assert learning == {"norm", "proj"}
    assert not any(parameter.requires_grad for parameter in plain.language.parameters())
    assert not any(parameter.requires_grad for parameter in plain.vision.parameters())


def test_frames_are_those_that_our_localizer_chooses(model: SeViLA, batch: ClipBatch) -> None:
    task = "answerer_finetuning"
    objective = build_objective(resolve_task(task), prompt="multiple_choice", num_keyframes=NUM_KEYFRAMES)
    found = torch.stack(objective(model, batch)["positions"])
    plain = as_published(model, attention="eager").eval()
    features = plain.features(batch.pixels.flatten(0, 1))
    assert PublishedFinetuning(NUM_KEYFRAMES)._positions(plain, batch, features).tolist() == found.tolist()


def test_a_step_changes_the_role_that_learns_and_forgets_its_gradients(model: SeViLA, batch: ClipBatch) -> None:
    plain, step = published(model, "self_refinement")
    before = copy.deepcopy(plain.state_dict())
    step.backward(batch)
    step.apply()
    changed = {name.partition(".")[0] for name, value in plain.state_dict().items() if not value.equal(before[name])}
    assert changed == {"localizer"}
    assert all(parameter.grad is None for parameter in plain.parameters())


def test_both_sides_are_measured_and_compute_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, trace = tmp_path / "figures.json", tmp_path / "trace.json"
    sizes = ["--tasks", "answerer_finetuning", "--batch-size", "2", "--num-frames", "3", "--num-keyframes", "2"]
    options = [*sizes, "--checkpointing", "torch", "--repeats", "1", "--threads", "1"]
    assert main(["training", *options, "--json", str(figures), "--profile", str(trace)]) == 0
    found = json.loads(figures.read_text(encoding="utf-8"))["tasks"]["answerer_finetuning"]
    assert found["losses"]["equal"] is True
    assert found["losses"]["loss_ours"] == pytest.approx(found["losses"]["loss_published"], abs=1e-4)
    assert set(found["sides"]) == {"published", "ours"}
    assert all(len(side["wall_s"]) == 1 and side["peak_mib"] > 0 for side in found["sides"].values())
    assert found["sides"]["ours"]["weight_bytes"] == found["sides"]["published"]["weight_bytes"]
    assert (tmp_path / "trace-answerer_finetuning-ours.json").stat().st_size > 0
    assert "of published" in capsys.readouterr().out


@pytest.mark.parametrize(("loss", "norm", "equal"), [(1.00005, 2.0, True), (1.0002, 2.0, False), (1.0, 2.001, False)])
def test_a_different_loss_or_gradient_is_noticed(loss: float, norm: float, equal: bool) -> None:
    firsts = {"published": FirstStep(1.0, 2.0, 0, 0), "ours": FirstStep(loss, norm, 0, 0)}
    assert _losses(firsts, exact=True)["equal"] is equal
    assert _losses(firsts, exact=False)["equal"] is None

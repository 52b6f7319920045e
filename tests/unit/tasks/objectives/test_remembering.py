"""Epochs that look predictions up learn what epochs learn that ask again."""

from collections.abc import Sequence

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.types import Question
from lavis.models.sevila.model import SeViLA
from lavis.tasks.objectives.answerer import AnswererFinetuning
from lavis.tasks.objectives.base import Objective, TrainingBatch
from lavis.tasks.objectives.localizer import SelfRefinement
from lavis.tasks.objectives.teacher import CachedTeacher, OnlineTeacher, Teacher
from tests.unit.models.tiny import CONFIG, random_pixels, recorded

PROMPT = "multiple_choice"
FRAMES = 6
QUESTIONS = [
    Question("what is it", ("red", "green", "blue"), id="q0", video="v0", answer=1),
    Question("and what is it that the others look at", ("a red one", "a blue one"), id="q1", video="v1", answer=0),
    Question("why", ("no", "yes", "never", "always"), id="q2", video="v2", answer=3),
    Question("where does it go then", ("left", "right", "up"), id="q3", video="v3", answer=2),
]


def batch(rows: Sequence[int], *, shift: int = 0) -> TrainingBatch:
    """The questions with these numbers, each on frames of its own video; `shift` frames are other ones."""
    frame_idx = torch.arange(FRAMES).repeat(len(rows), 1)
    frame_idx[:, :shift] += 100
    pixels = torch.stack([random_pixels(FRAMES, seed=row) for row in rows])
    return TrainingBatch(pixels, frame_idx.double(), [QUESTIONS[row] for row in rows], frame_idx)


def refinement(teacher: Teacher) -> Objective:
    return SelfRefinement(prompt=PROMPT, teacher=teacher)


def finetuning(teacher: Teacher) -> Objective:
    return AnswererFinetuning(prompt=PROMPT, k=2, selector="localizer", teacher=teacher)


OBJECTIVES = pytest.mark.parametrize(
    ("objective", "trained", "frozen"),
    [(refinement, "localizer", "answerer"), (finetuning, "answerer", "localizer")],
    ids=["refinement", "finetuning"],
)


@pytest.fixture
def model() -> SeViLA:
    return SeViLA.untrained(CONFIG).eval()


def learned(model: SeViLA, objective: Objective, asked: TrainingBatch) -> tuple[float, torch.Tensor]:
    """The loss, and all gradients."""
    model.zero_grad()
    loss = objective(model, asked)["loss"]
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.flatten() for _, parameter in model.trainable_parameters()])


@OBJECTIVES
def test_a_second_epoch_in_another_order_learns_the_same_without_asking(
    objective: type, trained: str, frozen: str, model: SeViLA
) -> None:
    model.set_trainable([trained])
    teacher = CachedTeacher(origin="x")
    remembering, asking = objective(teacher), objective(OnlineTeacher())
    for rows in ([0, 1, 2], [3]):
        assert learned(model, remembering, batch(rows))[0] == learned(model, asking, batch(rows))[0]
    teacher.share(World())
    again = batch([2, 3, 0])
    with recorded(model.get_submodule(frozen)) as asked:
        loss, gradients = learned(model, remembering, again)
    fresh_loss, fresh_gradients = learned(model, asking, again)
    assert asked == []
    assert loss == fresh_loss
    assert torch.equal(gradients, fresh_gradients)


@OBJECTIVES
def test_only_frames_that_were_not_there_before_are_asked_about(
    objective: type, trained: str, frozen: str, model: SeViLA
) -> None:
    model.set_trainable([trained])
    teacher = CachedTeacher(origin="x")
    remembering, asking = objective(teacher), objective(OnlineTeacher())
    learned(model, remembering, batch([0, 1, 2, 3]))
    teacher.share(World())
    again = batch([1, 2], shift=2)
    with recorded(model.get_submodule(frozen)) as asked:
        found = remembering(model, again)
    assert sum(len(features) for features in asked) == 4
    assert float(found["reused"]) == pytest.approx(8 / 12)
    assert found["loss"].item() == pytest.approx(asking(model, again)["loss"].item(), rel=1e-6)


def test_frames_that_are_neither_scored_nor_read_are_not_watched(model: SeViLA) -> None:
    model.set_trainable(["answerer"])
    teacher = CachedTeacher(origin="x")
    objective = finetuning(teacher)
    with recorded(model.vision) as watched:
        objective(model, batch([0, 1]))
        teacher.share(World())
        objective(model, batch([0, 1]))
    assert [len(pixels) for pixels in watched] == [FRAMES, FRAMES, 2 * 2]


def test_uniform_frames_alone_are_watched(model: SeViLA) -> None:
    model.set_trainable(["answerer"])
    objective = AnswererFinetuning(prompt=PROMPT, k=2, selector="uniform")
    with recorded(model.vision) as watched:
        objective(model, batch([0, 1]))
    assert [len(pixels) for pixels in watched] == [2 * 2]

"""Epochs that look verdicts up learn what epochs learn that ask again."""

from collections.abc import Sequence

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.types import Question
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.readers import JointReader
from lavis.processors.prompts import MultipleChoicePrompt
from lavis.tasks.objectives.answerer import AnswererFinetuning, LocalizedTrainingFrames, UniformTrainingFrames
from lavis.tasks.objectives.base import FrameFeatures, Objective, TrainingBatch
from lavis.tasks.objectives.localizer import SelfRefinement
from lavis.tasks.objectives.verdicts import FreshVerdicts, RememberedVerdicts, Verdicts
from tests.precision import assert_near_float64, in_float64
from tests.unit.models.tiny import CONFIG, random_pixels, recorded

PROMPT = MultipleChoicePrompt()
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


def refinement(verdicts: Verdicts) -> Objective:
    return SelfRefinement(localizer_prompt=PROMPT, answerer_prompt=PROMPT, verdicts=verdicts)


def finetuning(verdicts: Verdicts) -> Objective:
    frames = LocalizedTrainingFrames(num_keyframes=2, prompt=PROMPT, verdicts=verdicts)
    return AnswererFinetuning(frames=frames, reader=JointReader(), prompt=PROMPT)


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
    verdicts = RememberedVerdicts(origin="x")
    remembering, asking = objective(verdicts), objective(FreshVerdicts())
    for rows in ([0, 1, 2], [3]):
        assert learned(model, remembering, batch(rows))[0] == learned(model, asking, batch(rows))[0]
    verdicts.share(World())
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
    verdicts = RememberedVerdicts(origin="x")
    remembering, asking = objective(verdicts), objective(FreshVerdicts())
    learned(model, remembering, batch([0, 1, 2, 3]))
    verdicts.share(World())
    again = batch([1, 2], shift=2)
    with recorded(model.get_submodule(frozen)) as asked:
        found = remembering(model, again)
    assert [len(features) for features in asked] == [4]
    assert float(found["reused"]) == pytest.approx(8 / 12)
    assert found["loss"].item() == pytest.approx(asking(model, again)["loss"].item(), rel=1e-6)


def test_frames_that_are_neither_scored_nor_read_are_not_watched(model: SeViLA) -> None:
    model.set_trainable(["answerer"])
    verdicts = RememberedVerdicts(origin="x")
    objective = finetuning(verdicts)
    with recorded(model.vision) as watched:
        objective(model, batch([0, 1]))
        verdicts.share(World())
        objective(model, batch([0, 1]))
    assert [len(pixels) for pixels in watched] == [2 * FRAMES, 2 * 2]


def test_uniform_frames_alone_are_watched(model: SeViLA) -> None:
    model.set_trainable(["answerer"])
    objective = AnswererFinetuning(
        frames=UniformTrainingFrames(num_keyframes=2), reader=JointReader(), prompt=MultipleChoicePrompt()
    )
    with recorded(model.vision) as watched:
        objective(model, batch([0, 1]))
    assert [len(pixels) for pixels in watched] == [2 * 2]


def test_each_frame_is_watched_once_and_given_in_the_order_asked(model: SeViLA) -> None:
    pixels = random_pixels(6).unflatten(0, (2, 3))
    whole = in_float64(model).features(pixels.flatten(0, 1)).detach()
    features = FrameFeatures(model, pixels)
    with recorded(model.vision) as watched:
        assert_near_float64(features.at(torch.tensor([4, 1])), whole[[4, 1]])
        assert_near_float64(features.at(torch.tensor([1, 5, 5, 4])), whole[[1, 5, 5, 4]])
        assert_near_float64(features.at(torch.arange(6)), whole)
    assert [len(seen) for seen in watched] == [2, 1, 3]

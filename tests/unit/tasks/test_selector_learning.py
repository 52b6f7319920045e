"""Learning which frames to read, by what they are worth to a frozen Answerer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.types import Question
from lavis.datasets.dataset import ClipBatch
from lavis.models.base import AnswerLoss
from lavis.models.chain import build_selector
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.processors.prompts import Prompt, as_prompt
from lavis.selection.policies.plain import uniform_positions
from lavis.tasks.build import build_objective, resolve_task
from lavis.tasks.objectives import AnswererFinetuning
from lavis.tasks.selector_learning import SelectorAndAnswererLearning, SelectorLearning, mixed
from tests.unit.models.tiny import CONFIG
from tests.unit.tasks.test_objectives import FRAMES, PROMPT, batch

POLICIES: list[Any] = [
    {"name": "atp", "dropout": 0.0},
    {"name": "atp", "straight_through": False},
    {"name": "differentiable_top_k", "num_samples": 20},
]


def learner(model: SeViLA, policy: Any, *, k: int = 2, kind: type[SelectorLearning] = SelectorLearning) -> Any:
    """The objective, attached as a run does it."""
    objective = kind(prompt=PROMPT, k=k, selector={"policy": policy})
    model.set_trainable(objective.trainable)
    objective.attach(model)
    return objective


def gradients(model: SeViLA) -> dict[str, torch.Tensor]:
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_gradients_reach_the_selector_and_nothing_else(policy: Any) -> None:
    model = SeViLA.untrained(CONFIG)
    objective = learner(model, policy)
    torch.manual_seed(0)
    objective(model, batch([0, 1, 2]))["loss"].backward()
    found = gradients(model)
    assert set(found) == {f"selector.network.{name}" for name, _ in model.selector.network.named_parameters()}
    assert sum(float(value.abs().sum()) for value in found.values()) > 0
    assert {name for name, _ in model.trainable_parameters()} == set(found)


def test_the_answerer_learns_too_where_it_is_asked_for() -> None:
    model = SeViLA.untrained(CONFIG)
    objective = learner(model, "atp", kind=SelectorAndAnswererLearning)
    torch.manual_seed(0)
    objective(model, batch([0, 1]))["loss"].backward()
    assert {name.partition(".")[0] for name in gradients(model)} == {"selector", "answerer"}


def test_the_loss_of_hard_frames_is_that_of_the_answerer_on_these_very_frames() -> None:
    model = SeViLA.untrained(CONFIG)
    objective = learner(model, "atp", k=FRAMES)
    torch.manual_seed(0)
    found = objective(model, batch([0, 1, 2]))
    # With K = T all frames are chosen, in time order, whatever is drawn.
    expected = AnswererFinetuning(prompt=PROMPT, k=FRAMES, selector="all")(model, batch([0, 1, 2]))
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert found["accuracy"] == expected["accuracy"]


def test_what_the_policy_says_is_k_before_the_number_of_the_run() -> None:
    model = SeViLA.untrained(CONFIG)
    objective = SelectorLearning(prompt=PROMPT, k=4, selector={"policy": "atp", "k": FRAMES})
    objective.attach(model)
    torch.manual_seed(0)
    every = AnswererFinetuning(prompt=PROMPT, k=FRAMES, selector="all")(model, batch([0]))
    assert objective(model, batch([0]))["loss"].item() == pytest.approx(every["loss"].item(), rel=1e-6)


def test_what_does_not_train_is_refused() -> None:
    model = SeViLA.untrained(CONFIG)
    with pytest.raises(ConfigError, match="trains the policies atp and differentiable_top_k, not uniform; set model"):
        SelectorLearning(prompt=PROMPT, k=2, selector="uniform").attach(model)


def test_a_question_without_an_answer_is_refused() -> None:
    model = SeViLA.untrained(CONFIG)
    objective = learner(model, "atp")
    asked = batch([0])
    with pytest.raises(QuestionError, match="no answer to learn from"):
        objective(model, ClipBatch(asked.pixels, asked.times_s, asked.frame_idx, (Question("what", ("a", "b")),)))


def test_a_weight_of_one_gives_the_very_frame_whatever_autocast_says() -> None:
    states = torch.randn(2, 4, 3, 5)
    weights = torch.zeros(2, 2, 4)
    weights[0, 0, 3] = weights[0, 1, 1] = weights[1, 0, 0] = weights[1, 1, 2] = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mixed(states, weights)
    assert torch.equal(found, torch.stack([states[0, [3, 1]], states[1, [0, 2]]]))
    assert mixed(states.bfloat16(), weights).dtype == torch.bfloat16
    assert mixed(torch.tensor([[0.0, 0.5, 1.0, 1.5]], dtype=torch.float64), weights[:1]).tolist() == [[1.5, 0.5]]


@pytest.mark.parametrize("name", ["learn_selector", "learn_selector_and_answerer"])
def test_the_task_trains_the_selector_that_answers_are_read_by(name: str) -> None:
    task = resolve_task(name, selector={"policy": {"name": "differentiable_top_k", "sigma": 0.1}})
    objective = build_objective(task, prompt=PROMPT, num_keyframes=2)
    assert isinstance(objective, SelectorLearning)
    model = SeViLA.untrained(CONFIG)
    model.set_trainable(objective.trainable)
    objective.attach(model)
    assert model.selector.network.settings["policy"] == "differentiable_top_k"
    assert resolve_task(name).learns_from == "atp"
    assert resolve_task(name, training_selector="differentiable_top_k").learns_from == "differentiable_top_k"


# -- a world in which one frame holds the answer ----------------------------------------------------------------------

KINDS, T = 4, 8


class Room(nn.Module):
    """A frozen model that reads a colour off the one frame that shows some: features [N, KINDS + 1].

    Its colour says which option is right. All the others are grey, which is the last number.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(1, 1).requires_grad_(requires_grad=False)
        self.feature_encoder = FrameEncoder("features", self.features)
        self.encoders = (self.feature_encoder,)
        self.config = type("Config", (), {"image_mean": (0.0,) * 3, "image_std": (1.0,) * 3})()

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, 0, 0, : KINDS + 1]

    def states(self, role: str, features: torch.Tensor) -> torch.Tensor:
        return features

    def words(self, prompt: str | Prompt) -> Prompt:
        return as_prompt(prompt)

    def as_scorer(self, *, prompt: Any) -> "Room":
        return self

    def frame_states(self, frames: FrameSource, positions: Any = None) -> torch.Tensor:
        return frames.encoded(self.feature_encoder, positions)

    def text_states(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.ones(len(texts), KINDS + 1)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits [B, KINDS] of what frames [B, K, KINDS + 1] show."""
        return 4 * states[..., :KINDS].sum(1)

    def answer_loss(
        self, states: torch.Tensor, prompts: Any, answers: Sequence[int], *, packing: str, times_s: Any
    ) -> AnswerLoss:
        logits = self.logits(states)
        right = torch.tensor(answers)
        return AnswerLoss(cross_entropy(logits, right), logits.argmax(-1) == right)


def world(count: int, *, seed: int) -> ClipBatch:
    """Clips [T] of which one frame is coloured; its colour is the answer."""
    rng = np.random.default_rng(seed)
    pixels, questions = torch.zeros(count, T, 3, 1, KINDS + 1), []
    pixels[..., KINDS] = 1
    for row in range(count):
        answer, place = int(rng.integers(KINDS)), int(rng.integers(T))
        pixels[row, place] = torch.eye(KINDS + 1)[answer]
        questions.append(Question("which", ("a", "b", "c", "d"), id=f"q{row}", answer=answer))
    frame_idx = torch.arange(T).repeat(count, 1)
    return ClipBatch(pixels, frame_idx.double(), frame_idx, tuple(questions))


def accuracy(room: Room, clips: ClipBatch, positions: Sequence[Sequence[int]]) -> float:
    states = torch.stack(
        [room.features(pixels)[list(row)] for pixels, row in zip(clips.pixels, positions, strict=True)]
    )
    right = torch.tensor([question.answer for question in clips.questions])
    logits = room.logits(states)
    # Where nothing is seen, all options are alike, and none is known.
    return float(((logits.argmax(-1) == right) & (logits.amax(-1) > logits.amin(-1))).float().mean())


@pytest.mark.parametrize(
    "policy",
    [
        {"name": "atp", "dropout": 0.0, "size": 32, "layers": 1},
        {"name": "differentiable_top_k", "sigma": 0.3, "num_samples": 100},
    ],
    ids=str,
)
@pytest.mark.parametrize("k", [1, 2])
def test_the_loss_falls_and_what_was_learned_beats_an_even_spread(policy: dict[str, Any], k: int) -> None:
    torch.manual_seed(0)
    room: Any = Room()
    objective = SelectorLearning(prompt=PROMPT, k=k, selector={"policy": policy})
    objective.attach(room)
    optimizer = torch.optim.AdamW(room.selector.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = objective(room, world(8, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    unseen = world(64, seed=1000)
    selector = build_selector({"policy": policy}, room, prompt=PROMPT)
    chosen = []
    for row, question in enumerate(unseen.questions):
        clip = FrameSource(np.arange(T), np.arange(T, dtype=float), pixels=unseen.pixels[row])
        chosen.append(selector.select(clip, [question], k=k)[0].positions.tolist())
    assert accuracy(room, unseen, chosen) > 0.9
    assert accuracy(room, unseen, [uniform_positions(T, k).tolist()] * len(chosen)) < 0.5

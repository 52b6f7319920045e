"""Objectives that train the Localizer: per frame, is it "yes" or "no"?

Shapes: B questions, T frames each, N = B * T frames; features and states [N, ...] are the model's own.
"""

from typing import Any

import numpy as np
import torch

from lavis.common.errors import QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import Question
from lavis.models.base import ImageTextModel
from lavis.processors.prompts import Prompt, as_prompt
from lavis.tasks.objectives.base import TrainingBatch, known_answer
from lavis.tasks.objectives.teacher import OnlineTeacher, Predictions, Teacher


class LocalizerPretraining:
    """Learn from annotated moments: "yes" inside a window, "no" outside (paper, section 3.3).

    Args:
        prompt: how a moment query is worded.
    """

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, prompt: str | Prompt) -> None:
        self._prompt = as_prompt(prompt)

    def __call__(self, model: ImageTextModel, batch: TrainingBatch) -> dict[str, Any]:
        """Return the loss over all frames.

        Raises:
            QuestionError: a query without annotated windows.
        """
        relevant = torch.stack(
            [_inside(times, question) for times, question in zip(batch.times_s, batch.questions, strict=True)]
        )
        return _relevance_loss(model, batch, _features(model, batch), relevant, self._prompt)


class SelfRefinement:
    """The reverse chain: "yes" where the frozen Answerer is right on this frame alone (paper, section 3.3).

    Args:
        prompt: how Localizer and Answerer are asked.
        teacher: whether the Answerer is asked about a frame in each epoch, or once.
    """

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, prompt: str | Prompt, teacher: Teacher | None = None) -> None:
        self._prompt = as_prompt(prompt)
        self._teacher = teacher or OnlineTeacher()

    def __call__(self, model: ImageTextModel, batch: TrainingBatch) -> dict[str, Any]:
        """Make pseudo-labels, then return the Localizer's loss on them."""
        features = _features(model, batch)
        predicted = self._predictions(model, batch, features)
        relevant = _is_right(predicted.values, batch)
        return {**_relevance_loss(model, batch, features, relevant, self._prompt), **predicted.metrics}

    def pseudo_labels(self, model: ImageTextModel, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Tell for each frame whether the Answerer is right on it alone: bool [B, T].

        Raises:
            QuestionError: a question whose answer is not known.
        """
        return _is_right(self.choices(model, batch, features), batch)

    def choices(self, model: ImageTextModel, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame alone: [B, T]."""
        return self._predictions(model, batch, features).values.long()

    def _predictions(self, model: ImageTextModel, batch: TrainingBatch, features: torch.Tensor) -> Predictions:
        return self._teacher.predict(batch, lambda where: self._ask(model, batch, features, where))

    @torch.no_grad()
    def _ask(
        self, model: ImageTextModel, batch: TrainingBatch, features: torch.Tensor, where: torch.Tensor
    ) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame that a mask [B, T] marks."""
        questions, num_frames = list(batch.questions), where.shape[1]
        if not where.all():
            questions, num_frames = [batch.questions[row] for row in where.nonzero()[:, 0].tolist()], 1
            features = features[where.flatten().to(features.device)]
        states = model.states("answerer", features).unflatten(0, (len(questions), num_frames))
        prompts = [self._prompt.answerer(question) for question in questions]
        return model.frame_choices(states, prompts, [len(question.options) for question in questions]).flatten()


def _inside(times_s: torch.Tensor, question: Question) -> torch.Tensor:
    """Tell which times [T] lie in an annotated window: bool [T].

    Raises:
        QuestionError: the question has no annotated windows.
    """
    if question.windows is None:
        raise QuestionError(f"question {question.id!r} has no annotated windows to learn from")
    return torch.from_numpy(inside_windows(np.asarray(times_s.cpu()), question.windows)).to(times_s.device)


@torch.no_grad()
def _features(model: ImageTextModel, batch: TrainingBatch) -> torch.Tensor:
    return model.features(batch.pixels.flatten(0, 1))


def _is_right(choices: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
    answers = torch.tensor([known_answer(question) for question in batch.questions])
    return choices.cpu() == answers[:, None]


def _relevance_loss(
    model: ImageTextModel, batch: TrainingBatch, features: torch.Tensor, relevant: torch.Tensor, prompt: Prompt
) -> dict[str, Any]:
    states = model.states("localizer", features).unflatten(0, batch.pixels.shape[:2])
    prompts = [prompt.localizer(question) for question in batch.questions]
    found = model.relevance_loss(states, prompts, relevant)
    agreement = (found.says_yes == relevant.to(found.says_yes.device)).float().mean()
    return {"loss": found.loss, "agreement": agreement, "share_yes": relevant.float().mean()}

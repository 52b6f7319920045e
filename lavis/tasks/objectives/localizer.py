"""Objectives that train the Localizer: per frame, is it "yes" or "no"?

Shapes: B questions, T frames each, Q query tokens, E language width.
"""

from typing import Any

import torch

from lavis.common.errors import QuestionError
from lavis.common.types import Question
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.readers import PerFrameReader
from lavis.processors.prompts import Prompt
from lavis.tasks.objectives.base import TrainingBatch, frozen_features, per_video


class LocalizerPretraining:
    """Learn from annotated moments: "yes" inside a window, "no" outside (paper, section 3.3).

    Args:
        prompt: how a moment query is worded.
    """

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, prompt: Prompt) -> None:
        self._prompt = prompt

    def __call__(self, model: SeViLA, batch: TrainingBatch) -> dict[str, Any]:
        """Return the loss over all frames.

        Raises:
            QuestionError: a query without annotated windows.
        """
        relevant = torch.stack(
            [inside_windows(times, question) for times, question in zip(batch.times_s, batch.questions, strict=True)]
        )
        return _verdict_loss(model, batch, frozen_features(model, batch), relevant, self._prompt)


class SelfRefinement:
    """The reverse chain: "yes" where the frozen Answerer is right on this frame alone (paper, section 3.3).

    Args:
        localizer_prompt: how the Localizer is asked.
        answerer_prompt: how the Answerer is asked.
    """

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, localizer_prompt: Prompt, answerer_prompt: Prompt) -> None:
        self._localizer_prompt = localizer_prompt
        self._answerer_prompt = answerer_prompt

    def __call__(self, model: SeViLA, batch: TrainingBatch) -> dict[str, Any]:
        """Make pseudo-labels, then return the Localizer's loss on them."""
        features = frozen_features(model, batch)
        relevant = self.pseudo_labels(model, batch, features)
        return _verdict_loss(model, batch, features, relevant, self._localizer_prompt)

    def pseudo_labels(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Tell for each frame whether the Answerer is right on it alone: bool [B, T].

        Raises:
            QuestionError: a question whose answer is not known.
        """
        answers = torch.tensor([known_answer(question) for question in batch.questions], device=features.device)
        return self.choices(model, batch, features) == answers[:, None]

    def choices(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame alone: [B, T]."""
        with torch.no_grad():
            tokens = per_video(model.answerer(features), batch)
        prompts = [self._answerer_prompt.answerer(question) for question in batch.questions]
        counts = [len(question.options) for question in batch.questions]
        logits = model.choose_after_option(tokens, prompts, num_options=max(counts), reader=PerFrameReader())
        logits = logits.unflatten(0, tokens.shape[:2])
        beyond = torch.arange(max(counts), device=logits.device) >= torch.tensor(counts, device=logits.device)[:, None]
        return logits.masked_fill(beyond[:, None], -torch.inf).argmax(-1)


def inside_windows(times_s: torch.Tensor, question: Question) -> torch.Tensor:
    """Tell which times [T] lie in an annotated window, closed at both ends: bool [T].

    Raises:
        QuestionError: the question has no annotated windows.
    """
    if question.windows is None:
        raise QuestionError(f"question {question.id!r} has no annotated windows to learn from")
    inside = torch.zeros_like(times_s, dtype=torch.bool)
    for window in question.windows:
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    return inside


def known_answer(question: Question) -> int:
    """Return the index of the right option.

    Raises:
        QuestionError: it is not known.
    """
    if question.answer is None:
        raise QuestionError(f"question {question.id!r} has no answer to learn from")
    return question.answer


def _verdict_loss(
    model: SeViLA, batch: TrainingBatch, features: torch.Tensor, relevant: torch.Tensor, prompt: Prompt
) -> dict[str, Any]:
    tokens = per_video(model.localizer(features), batch)
    prompts = [prompt.localizer(question) for question in batch.questions]
    targets = ["yes" if yes else "no" for yes in relevant.flatten().tolist()]
    found = model.text_loss(tokens, prompts, targets, reader=PerFrameReader())
    verdict = found.logits[:, 0].detach()
    says_yes = verdict[:, model.language.yes_id] > verdict[:, model.language.no_id]
    agreement = (says_yes == relevant.flatten().to(says_yes.device)).float().mean()
    return {"loss": found.loss, "agreement": agreement, "share_yes": relevant.float().mean()}

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
from lavis.tasks.objectives.verdicts import Found, FreshVerdicts, Verdicts


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
        verdicts: whether the Answerer is asked about a frame in each epoch, or once.
    """

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, localizer_prompt: Prompt, answerer_prompt: Prompt, verdicts: Verdicts | None = None) -> None:
        self._localizer_prompt = localizer_prompt
        self._answerer_prompt = answerer_prompt
        self._verdicts = verdicts or FreshVerdicts()

    def __call__(self, model: SeViLA, batch: TrainingBatch) -> dict[str, Any]:
        """Make pseudo-labels, then return the Localizer's loss on them."""
        features = frozen_features(model, batch)
        found = self._found(model, batch, features)
        relevant = _is_right(found.values, batch)
        return {**_verdict_loss(model, batch, features, relevant, self._localizer_prompt), **found.figures}

    def pseudo_labels(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Tell for each frame whether the Answerer is right on it alone: bool [B, T].

        Raises:
            QuestionError: a question whose answer is not known.
        """
        return _is_right(self.choices(model, batch, features), batch)

    def choices(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame alone: [B, T]."""
        return self._found(model, batch, features).values.long()

    def _found(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> Found:
        return self._verdicts.of(batch, lambda where: self._ask(model, batch, features, where))

    def _ask(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame [N] that a mask [B, T] marks."""
        if where.all():
            questions, num_frames = list(batch.questions), where.shape[1]
        else:
            questions, num_frames = [batch.questions[row] for row in where.nonzero()[:, 0].tolist()], 1
            features = features[where.flatten().to(features.device)]
        with torch.no_grad():
            tokens = model.answerer(features).unflatten(0, (len(questions), num_frames))
        prompts = [self._answerer_prompt.answerer(question) for question in questions]
        counts = torch.tensor([len(question.options) for question in questions], device=features.device)
        most = int(counts.max())
        logits = model.choose_after_option(tokens, prompts, num_options=most, reader=PerFrameReader())
        beyond = torch.arange(most, device=logits.device) >= counts.repeat_interleave(num_frames)[:, None]
        return logits.masked_fill(beyond, -torch.inf).argmax(-1)


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


def _is_right(choices: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
    answers = torch.tensor([known_answer(question) for question in batch.questions])
    return choices == answers[:, None]


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

"""The contract between objectives and the training loop.

Shapes: B questions, T frames each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lavis.common.errors import QuestionError
from lavis.common.types import Question
from lavis.models.base import ImageTextModel


@dataclass(frozen=True)
class TrainingBatch:
    """One step's data.

    Attributes:
        pixels: [B, T, 3, H, W], preprocessed.
        times_s: [B, T], each frame's own time in seconds.
        questions: B questions with their answers or windows.
        frame_idx: int64 [B, T], indices into each source video, on the CPU; only what is kept from epoch to
            epoch needs them.
    """

    pixels: torch.Tensor
    times_s: torch.Tensor
    questions: Sequence[Question]
    frame_idx: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.questions)


class Objective(Protocol):
    """Turns a batch into a loss.

    It is built with those of these keyword arguments that its constructor names: `prompt` (a name in
    `registry.prompts`, or a prompt), `k` (frames to choose), `selector` (which), `packing` (how frames are read),
    `teacher` (where the frozen role's predictions come from) and `memory` (what is kept of clips).

    Attributes:
        trainable: roles that learn, "localizer" or "answerer"; everything else is frozen.
    """

    trainable: tuple[str, ...]

    def __call__(self, model: ImageTextModel, batch: TrainingBatch) -> dict[str, Any]:
        """Return "loss" (a scalar tensor with gradient) and metrics to log."""
        ...


def known_answer(question: Question) -> int:
    """Return the index of the right option.

    Raises:
        QuestionError: it is not known.
    """
    if question.answer is None:
        raise QuestionError(f"question {question.id!r} has no answer to learn from")
    return question.answer

"""The contract between objectives and the training loop.

Shapes: B questions, T frames each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lavis.common.types import Question
from lavis.models.sevila.model import SeViLA


@dataclass(frozen=True)
class TrainingBatch:
    """One step's data.

    Attributes:
        pixels: [B, T, 3, H, W], preprocessed.
        times_s: [B, T], each frame's own time in seconds.
        questions: B questions with their answers or windows.
    """

    pixels: torch.Tensor
    times_s: torch.Tensor
    questions: Sequence[Question]

    def __len__(self) -> int:
        return len(self.questions)


class Objective(Protocol):
    """Turns a batch into a loss.

    Attributes:
        trainable: roles whose visual prompters learn; everything else is frozen.
    """

    trainable: tuple[str, ...]

    def __call__(self, model: SeViLA, batch: TrainingBatch) -> dict[str, Any]:
        """Return "loss" (a scalar tensor with gradient) and figures to log."""
        ...


def frozen_features(model: SeViLA, batch: TrainingBatch) -> torch.Tensor:
    """Run the frozen vision tower without gradient bookkeeping: [B * T, P, D]."""
    with torch.no_grad():
        return model.features(batch.pixels.flatten(0, 1))


def per_video(tokens: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
    """Fold tokens [B * T, Q, E] to [B, T, Q, E]."""
    return tokens.unflatten(0, batch.pixels.shape[:2])

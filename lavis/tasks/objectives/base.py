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
        frame_idx: int64 [B, T], indices into each source video, on the CPU; only what is remembered from epoch to
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

    Attributes:
        trainable: roles whose visual prompters learn; everything else is frozen.
    """

    trainable: tuple[str, ...]

    def __call__(self, model: SeViLA, batch: TrainingBatch) -> dict[str, Any]:
        """Return "loss" (a scalar tensor with gradient) and figures to log."""
        ...


class FrameFeatures:
    """What the frozen vision tower makes of a batch's frames; each is watched when it is first asked for.

    Frames are counted through the batch, all of the first question first.

    Args:
        pixels: [B, T, 3, H, W].
    """

    def __init__(self, model: SeViLA, pixels: torch.Tensor) -> None:
        self._model, self._pixels = model, pixels.flatten(0, 1)
        self._rows = torch.full((len(self._pixels),), -1)
        self._seen = torch.empty(0)

    def at(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the features [N, P, D] of the frames with these numbers [N]."""
        new = frames[self._rows[frames] < 0].unique()
        if len(new):
            self._rows[new] = torch.arange(len(new)) + len(self._seen)
            # Most often all are asked for at once: they need not be copied.
            pixels = self._pixels if len(new) == len(self._pixels) else self._pixels[new]
            with torch.no_grad():
                seen = self._model.features(pixels)
            self._seen = torch.cat([self._seen, seen]) if len(self._seen) else seen
        rows = self._rows[frames]
        return self._seen if torch.equal(rows, torch.arange(len(self._seen))) else self._seen[rows]


def frozen_features(model: SeViLA, batch: TrainingBatch) -> torch.Tensor:
    """Run the frozen vision tower without gradient bookkeeping: [B * T, P, D]."""
    with torch.no_grad():
        return model.features(batch.pixels.flatten(0, 1))


def per_video(tokens: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
    """Fold tokens [B * T, Q, E] to [B, T, Q, E]."""
    return tokens.unflatten(0, batch.pixels.shape[:2])

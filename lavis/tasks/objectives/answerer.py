"""The objective that trains the Answerer to write "Option X".

Shapes: B questions, T frames each, K keyframes, Q query tokens, E language width.
"""

from typing import Any

import numpy as np
import torch

from lavis.models.selectors import top_positions, uniform_positions
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.readers import FrameReader
from lavis.processors.prompts import Prompt, option_target
from lavis.tasks.objectives.base import TrainingBatch, frozen_features, per_video
from lavis.tasks.objectives.localizer import known_answer


class TrainingFrames:
    """Which of T frames are read, [B, K] positions in time order; here: all of them."""

    def positions(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Choose frames; `features` [B * T, P, D] are the vision tower's."""
        del model, features
        num_questions, num_frames = batch.pixels.shape[:2]
        return torch.arange(num_frames).expand(num_questions, -1)


class UniformTrainingFrames(TrainingFrames):
    """K frames spread evenly over the T frames of the batch."""

    def __init__(self, *, num_keyframes: int) -> None:
        self._num_keyframes = num_keyframes

    def positions(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Choose the same K positions for every question."""
        del model, features
        chosen = torch.from_numpy(uniform_positions(batch.pixels.shape[1], self._num_keyframes))
        return chosen.expand(len(batch), -1)


class RandomTrainingFrames(TrainingFrames):
    """K frames at random, drawn from torch's generator."""

    def __init__(self, *, num_keyframes: int) -> None:
        self._num_keyframes = num_keyframes

    def positions(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Draw without replacement, apart for each question."""
        del model, features
        drawn = torch.rand(batch.pixels.shape[:2]).argsort(1)[:, : self._num_keyframes]
        return drawn.sort(1).values


class LocalizedTrainingFrames(TrainingFrames):
    """The K frames the frozen Localizer scores highest (the forward chain).

    Args:
        prompt: how the Localizer is asked.
    """

    def __init__(self, *, num_keyframes: int, prompt: Prompt) -> None:
        self._num_keyframes = num_keyframes
        self._prompt = prompt

    @torch.no_grad()
    def positions(self, model: SeViLA, batch: TrainingBatch, features: torch.Tensor) -> torch.Tensor:
        """Score every frame and keep the best."""
        tokens = per_video(model.localizer(features), batch)
        prompts = [self._prompt.localizer(question) for question in batch.questions]
        scores = model.score_frames(tokens, prompts).yes.double().cpu().numpy()
        return torch.from_numpy(top_positions(np.asarray(scores), self._num_keyframes))


class AnswererFinetuning:
    """Learn to write the right option from chosen frames (paper, section 3.3, forward chain).

    Args:
        frames: which frames are read.
        reader: how they are read: together, or one at a time (voting baseline).
        prompt: how the question is worded.
    """

    trainable: tuple[str, ...] = ("answerer",)

    def __init__(self, *, frames: TrainingFrames, reader: FrameReader, prompt: Prompt) -> None:
        self._frames = frames
        self._reader = reader
        self._prompt = prompt

    def __call__(self, model: SeViLA, batch: TrainingBatch) -> dict[str, Any]:
        """Return the loss of the target text.

        Raises:
            QuestionError: a question whose answer is not known.
        """
        features = frozen_features(model, batch)
        positions = self._frames.positions(model, batch, features).to(features.device)
        by_video = features.unflatten(0, batch.pixels.shape[:2])
        row = torch.arange(len(batch), device=features.device)[:, None]
        chosen = by_video[row, positions].flatten(0, 1)
        tokens = model.answerer(chosen).unflatten(0, positions.shape)
        answers = [known_answer(question) for question in batch.questions]
        rows = self._reader.rows_per_question(positions.shape[1])
        targets = [option_target(answer) for answer in answers for _ in range(rows)]
        prompts = [self._prompt.answerer(question) for question in batch.questions]
        found = model.text_loss(tokens, prompts, targets, reader=self._reader)
        written = found.logits[:, 1].detach().argmax(-1) == found.labels[:, 1]
        return {"loss": found.loss, "accuracy": written.float().mean(), "positions": positions}

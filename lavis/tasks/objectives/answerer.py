"""The objective that trains the Answerer to write "Option X".

Shapes: B questions, T frames each, K keyframes, Q query tokens, E language width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lavis.models.selectors import top_positions, uniform_positions
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.readers import FrameReader
from lavis.processors.prompts import Prompt, option_target
from lavis.tasks.objectives.base import FrameFeatures, TrainingBatch
from lavis.tasks.objectives.frozen_tokens import LocalizerTokens, WatchedTokens
from lavis.tasks.objectives.localizer import known_answer
from lavis.tasks.objectives.verdicts import FreshVerdicts, Verdicts


@dataclass(frozen=True)
class ChosenFrames:
    """The frames that are read.

    Attributes:
        positions: [B, K] among the T frames, in time order, on the CPU.
        figures: what there is to log about the choice.
    """

    positions: torch.Tensor
    figures: Mapping[str, torch.Tensor] = field(default_factory=dict)


class TrainingFrames:
    """Which of T frames are read; here: all of them."""

    def choose(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures) -> ChosenFrames:
        """Choose frames; only those whose features are asked for are watched."""
        del model, features
        num_questions, num_frames = batch.pixels.shape[:2]
        return ChosenFrames(torch.arange(num_frames).expand(num_questions, -1))


class UniformTrainingFrames(TrainingFrames):
    """K frames spread evenly over the T frames of the batch."""

    def __init__(self, *, num_keyframes: int) -> None:
        self._num_keyframes = num_keyframes

    def choose(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures) -> ChosenFrames:
        """Choose the same K positions for every question."""
        del model, features
        chosen = torch.from_numpy(uniform_positions(batch.pixels.shape[1], self._num_keyframes))
        return ChosenFrames(chosen.expand(len(batch), -1))


class RandomTrainingFrames(TrainingFrames):
    """K frames at random, drawn from torch's generator."""

    def __init__(self, *, num_keyframes: int) -> None:
        self._num_keyframes = num_keyframes

    def choose(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures) -> ChosenFrames:
        """Draw without replacement, apart for each question."""
        del model, features
        drawn = torch.rand(batch.pixels.shape[:2]).argsort(1)[:, : self._num_keyframes]
        return ChosenFrames(drawn.sort(1).values)


class LocalizedTrainingFrames(TrainingFrames):
    """The K frames the frozen Localizer scores highest (the forward chain).

    Args:
        prompt: how the Localizer is asked.
        verdicts: whether it is asked about a frame in each epoch, or once.
        tokens: whether it watches a clip each time that it is asked, or once.
    """

    def __init__(
        self,
        *,
        num_keyframes: int,
        prompt: Prompt,
        verdicts: Verdicts | None = None,
        tokens: LocalizerTokens | None = None,
    ) -> None:
        self._num_keyframes = num_keyframes
        self._prompt = prompt
        self._verdicts = verdicts or FreshVerdicts()
        self._tokens = tokens or WatchedTokens()

    def choose(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures) -> ChosenFrames:
        """Score every frame and keep the best."""
        found = self._verdicts.of(batch, lambda where: self._ask(model, batch, features, where))
        positions = top_positions(np.asarray(found.values.double()), self._num_keyframes)
        return ChosenFrames(torch.from_numpy(positions), found.figures)

    @torch.no_grad()
    def _ask(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures, where: torch.Tensor) -> torch.Tensor:
        """Return the scores of the frames [N] that a mask [B, T] marks."""
        frames = where.flatten().nonzero()[:, 0]
        tokens = self._tokens.at(model, batch, features, frames)
        if len(frames) < where.numel():
            every = tokens.new_zeros(where.numel(), *tokens.shape[1:])
            tokens = every.index_copy(0, frames.to(tokens.device), tokens)
        prompts = [self._prompt.localizer(question) for question in batch.questions]
        where = where.to(tokens.device)
        return model.score_frames(tokens.unflatten(0, where.shape), prompts, where=where).yes[where]


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
        features = FrameFeatures(model, batch.pixels)
        chosen = self._frames.choose(model, batch, features)
        positions = chosen.positions
        first = torch.arange(len(batch))[:, None] * batch.pixels.shape[1]
        tokens = model.answerer(features.at((first + positions).flatten())).unflatten(0, positions.shape)
        answers = [known_answer(question) for question in batch.questions]
        rows = self._reader.rows_per_question(positions.shape[1])
        targets = [option_target(answer) for answer in answers for _ in range(rows)]
        prompts = [self._prompt.answerer(question) for question in batch.questions]
        found = model.text_loss(tokens, prompts, targets, reader=self._reader)
        written = found.logits[:, 1].detach().argmax(-1) == found.labels[:, 1]
        return {"loss": found.loss, "accuracy": written.float().mean(), "positions": positions, **chosen.figures}

"""The objective that trains the Answerer to choose the right option.

Shapes: B questions, T frames each, K keyframes; features and states [N, ...] are the model's own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lavis.common.types import Integers, Question, Unread
from lavis.models.base import FrameScorer, FrameScores, ImageTextModel, Mask
from lavis.models.chain import Selector, SelectorSpec, build_selector
from lavis.models.frames import FrameSource
from lavis.processors.prompts import Prompt, as_prompt
from lavis.tasks.objectives.base import TrainingBatch, known_answer
from lavis.tasks.objectives.teacher import ClipMemory, OnlineTeacher, Teacher


class AnswererFinetuning:
    """Learn to write the right option from chosen frames (paper, section 3.3, forward chain).

    Args:
        prompt: how questions are worded.
        k: frames to choose for each question.
        selector: which frames are read; see `lavis.models.chain.SelectorSpec`.
        packing: how they are read: together, or one at a time (voting baseline).
        teacher: whether the frozen Localizer is asked about a frame in each epoch, or once.
        memory: what the frozen Localizer reads of clips, kept on disk; None watches a clip each time.
    """

    trainable: tuple[str, ...] = ("answerer",)

    def __init__(
        self,
        *,
        prompt: str | Prompt,
        k: int,
        selector: SelectorSpec = "all",
        packing: str = "joint",
        teacher: Teacher | None = None,
        memory: ClipMemory | None = None,
    ) -> None:
        self._prompt, self._k, self._selector, self._packing = as_prompt(prompt), k, selector, packing
        self._teacher, self._memory = teacher or OnlineTeacher(), memory

    def __call__(self, model: ImageTextModel, batch: TrainingBatch) -> dict[str, Any]:
        """Return the loss of the target text.

        Raises:
            QuestionError: a question whose answer is not known.
        """
        clips = [self._clip(model, batch, row) for row in range(len(batch))]
        selector = build_selector(self._selector, model, prompt=self._prompt)
        scorer = None if selector.scorer is None else TaughtScorer(selector.scorer, self._teacher)
        chooser = Selector(selector.policy, scorer)
        chosen = [
            chooser.select(clip, [question], k=selector.k or min(self._k, len(clip)))[0].positions
            for clip, question in zip(clips, batch.questions, strict=True)
        ]
        positions = np.stack(chosen)
        states = model.states("answerer", _features(model, clips, positions)).unflatten(0, positions.shape)
        answers = [known_answer(question) for question in batch.questions]
        prompts = [self._prompt.answerer(question) for question in batch.questions]
        found = model.answer_loss(states, prompts, answers, packing=self._packing)
        metrics = {} if scorer is None else scorer.metrics
        return {
            "loss": found.loss,
            "accuracy": found.is_right.float().mean(),
            "positions": torch.from_numpy(positions),
            **metrics,
        }

    def _clip(self, model: ImageTextModel, batch: TrainingBatch, row: int) -> FrameSource:
        times_s = np.asarray(batch.times_s[row].cpu(), dtype=np.float64)
        frame_idx = np.arange(len(times_s)) if batch.frame_idx is None else batch.frame_idx[row].numpy()
        pixels = batch.pixels[row]
        return FrameSource(
            frame_idx,
            times_s,
            pixels=pixels,
            together=model.encoders,
            chunk=len(pixels),
            memory=None if self._memory is None else self._memory.of(pixels),
        )


class TaughtScorer:
    """A scorer that takes what a teacher has kept of earlier epochs.

    Attributes:
        metrics: what there is to log about all that was asked.
    """

    def __init__(self, scorer: FrameScorer, teacher: Teacher) -> None:
        self._scorer, self._teacher = scorer, teacher
        self.metrics: dict[str, torch.Tensor] = {}
        self._reused: list[float] = []

    @torch.no_grad()
    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for one question."""
        (question,) = questions
        asked = np.ones(len(frames), dtype=bool) if where is None else where[0]
        known = self._teacher.known(question, frames.frame_idx)
        unknown = asked & np.isnan(known)
        found = self._scorer.score(frames, questions, where=unknown[None]) if unknown.any() else None
        if found is not None:
            known[unknown] = found.scores[0][unknown]
            self._teacher.add(question, frames.frame_idx[unknown], known[unknown])
        if self._teacher.keeps:
            self._reused.append(1 - float(unknown.sum() / asked.sum()))
            self.metrics["reused"] = torch.tensor(np.mean(self._reused))
        scores = np.where(asked, known, np.nan)[None]
        return FrameScores(scores, scores, found.unread if found else (Unread(),))


def _features(model: ImageTextModel, clips: Sequence[FrameSource], positions: Integers) -> torch.Tensor:
    """Return the features [B * K, ...] of chosen frames; those that no scorer needed are made in one call."""
    vision = model.feature_encoder
    missing = [clip.missing(vision, chosen) for clip, chosen in zip(clips, positions, strict=True)]
    if any(map(len, missing)):
        pixels = torch.cat([clip.pixels_at(new) for clip, new in zip(clips, missing, strict=True)])
        with torch.no_grad():
            made = model.features(pixels).split(list(map(len, missing)))
        for clip, new, features in zip(clips, missing, made, strict=True):
            clip.add(vision, new, features)
    return torch.cat([clip.encoded(vision, chosen) for clip, chosen in zip(clips, positions, strict=True)])

"""SeViLA in the two roles of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from lavis.common.errors import QuestionError
from lavis.common.types import Integers, Question
from lavis.models.base import FrameScores, Mask, Reading
from lavis.models.frames import FrameSource
from lavis.models.sevila.finite import check_finite
from lavis.models.sevila.packing import FramePacking, majority_vote
from lavis.processors.prompts import Prompt

if TYPE_CHECKING:
    from lavis.models.sevila.model import SeViLA

# Larger calls gain nothing on a CPU: they leave its caches, and pad questions of different length.
_CPU_BATCH, _BATCH = 16, 64


class SeViLALocalizer:
    """Scores frames by the logit of "yes".

    Args:
        batch_size: frames per language-model call, which bounds the memory; None chooses by device.
    """

    def __init__(self, *, model: SeViLA, prompt: Prompt, batch_size: int | None = None) -> None:
        self._model = model
        self._prompt = prompt
        self._batch_size = batch_size

    @torch.inference_mode()
    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score all frames for each question, or only those where `where` [B, T] is true; the rest are NaN."""
        prompts = [self._prompt.localizer(question) for question in questions]
        asked = np.ones((len(questions), len(frames)), dtype=bool) if where is None else where
        positions = np.flatnonzero(asked.any(0))
        tokens = frames.encoded(self._model.encoder("localizer"), positions)
        batch_size = self._batch_size or (_CPU_BATCH if tokens.device.type == "cpu" else _BATCH)
        chosen = None if where is None else torch.from_numpy(where[:, positions]).to(tokens.device)
        logits = self._model.score_frames(
            tokens.expand(len(questions), -1, -1, -1), prompts, batch_size=batch_size, where=chosen
        )
        yes, no = np.full((2, *asked.shape), np.nan)
        yes[:, positions] = logits.yes.double().cpu().numpy()
        no[:, positions] = logits.no.double().cpu().numpy()
        for row, question in enumerate(questions):
            check_finite(np.isfinite(yes[row] - no[row])[asked[row]], question, model=self._model, frames=frames)
        return FrameScores(scores=yes, margins=yes - no, unread=logits.unread)


class SeViLAAnswerer:
    """Reads chosen frames and picks an option, or writes an open answer.

    Args:
        batch_size: frames per language-model call; bounds the memory. One question's frames are not split.
    """

    def __init__(self, *, model: SeViLA, prompt: Prompt, packing: FramePacking, batch_size: int = 64) -> None:
        self._model = model
        self._prompt = prompt
        self._packing = packing
        self._batch_size = batch_size

    @torch.inference_mode()
    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        """Answer each question from its own frames, `positions` [B, K]."""
        at_once = max(1, self._batch_size // positions.shape[1])
        tokens = frames.encoded(self._model.encoder("answerer"), positions).unflatten(0, positions.shape)
        readings = []
        for start in range(0, len(questions), at_once):
            some = questions[start : start + at_once]
            read = self._choose if some[0].options else self._write
            for question, (reading, finite) in zip(some, read(tokens[start : start + at_once], some), strict=True):
                check_finite(finite, question, model=self._model, frames=frames)
                readings.append(reading)
        return readings

    def _choose(self, tokens: torch.Tensor, questions: Sequence[Question]) -> list[tuple[Reading, npt.ArrayLike]]:
        """Return what was read for each question, and whether the scores are finite."""
        prompts = [self._prompt.answerer(question) for question in questions]
        most = max(len(question.options) for question in questions)
        chosen = self._model.answer(tokens, prompts, num_options=most, packing=self._packing)
        rows = chosen.logits.double().cpu().numpy().reshape(len(questions), -1, most)
        readings = []
        for question, row, unread in zip(questions, rows, chosen.unread, strict=True):
            logits = row[:, : len(question.options)]
            index = majority_vote(logits.tolist())
            choices = logits.argmax(1) if self._packing.reads_alone else np.empty(0, np.int64)
            reading = Reading(index, question.options[index], logits.mean(0), choices, unread)
            readings.append((reading, np.isfinite(logits)))
        return readings

    def _write(self, tokens: torch.Tensor, questions: Sequence[Question]) -> list[tuple[Reading, npt.ArrayLike]]:
        """Return as `_choose` does."""
        if self._packing.rows_per_question(tokens.shape[1]) != 1:
            raise QuestionError("an open answer needs frames read together; use the reader 'joint' or give options")
        prompts = [self._prompt.answerer(question) for question in questions]
        answer = self._model.answer_openly(tokens, prompts, packing=self._packing)
        nothing = np.empty(0), np.empty(0, np.int64)
        return [
            (Reading(None, text, *nothing, unread), finite)
            for text, finite, unread in zip(answer.texts, answer.finite, answer.unread, strict=True)
        ]

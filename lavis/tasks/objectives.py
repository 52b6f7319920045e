"""What is trained, on what target: the contract with the training loop, and the objectives of the paper.

B questions, T frames each, K keyframes, N = B * T frames; features and states [N, ...] are the model's own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from lavis.common.errors import QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import Integers, Question, Unread
from lavis.datasets.dataset import ClipBatch
from lavis.models.base import AnswerLoss, FrameScorer, FrameScores, ImageTextModel, Mask
from lavis.models.chain import Selector, SelectorSpec, build_selector, prepared_frames
from lavis.models.frames import FrameSource
from lavis.processors.prompts import Prompt
from lavis.tasks.teacher import ClipMemory, OnlineTeacher, Predictions, Teacher


class Objective(Protocol):
    """Turns a batch into a loss.

    It is built with those of these keyword arguments that its constructor names: `prompt` (a name in
    `registry.prompts`, or a prompt), `k` (frames to choose), `selector` (which), `packing` (how frames are read),
    `teacher` (where the frozen role's predictions come from) and `memory` (what is kept of clips).

    Attributes:
        trainable: roles that learn, "localizer" or "answerer"; everything else is frozen.
    """

    trainable: tuple[str, ...]

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
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


class LocalizerPretraining:
    """Learn from annotated moments: "yes" inside a window, "no" outside (paper, section 3.3).

    Args:
        prompt: how a moment query is worded.
    """

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, prompt: str | Prompt) -> None:
        self._prompt = prompt

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
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
        self._prompt = prompt
        self._teacher = teacher or OnlineTeacher()

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Make pseudo-labels, then return the Localizer's loss on them."""
        features = _features(model, batch)
        predicted = self._predictions(model, batch, features)
        relevant = _is_right(predicted.values, batch)
        return {**_relevance_loss(model, batch, features, relevant, self._prompt), **predicted.metrics}

    def pseudo_labels(self, model: ImageTextModel, batch: ClipBatch, features: torch.Tensor) -> torch.Tensor:
        """Tell for each frame whether the Answerer is right on it alone: bool [B, T].

        Raises:
            QuestionError: a question whose answer is not known.
        """
        return _is_right(self.choices(model, batch, features), batch)

    def choices(self, model: ImageTextModel, batch: ClipBatch, features: torch.Tensor) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame alone: [B, T]."""
        return self._predictions(model, batch, features).values.long()

    def _predictions(self, model: ImageTextModel, batch: ClipBatch, features: torch.Tensor) -> Predictions:
        return self._teacher.predict(batch, lambda where: self._ask(model, batch, features, where))

    @torch.no_grad()
    def _ask(
        self, model: ImageTextModel, batch: ClipBatch, features: torch.Tensor, where: torch.Tensor
    ) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame that a mask [B, T] marks."""
        questions, num_frames = list(batch.questions), where.shape[1]
        if not where.all():
            questions, num_frames = [batch.questions[row] for row in where.nonzero()[:, 0].tolist()], 1
            features = features[where.flatten().to(features.device)]
        states = model.states("answerer", features).unflatten(0, (len(questions), num_frames))
        words = model.words(self._prompt)
        prompts = [words.answerer(question) for question in questions]
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
def _features(model: ImageTextModel, batch: ClipBatch) -> torch.Tensor:
    return model.features(batch.pixels.flatten(0, 1))


def _is_right(choices: torch.Tensor, batch: ClipBatch) -> torch.Tensor:
    answers = torch.tensor([known_answer(question) for question in batch.questions])
    return choices.cpu() == answers[:, None]


def _relevance_loss(
    model: ImageTextModel, batch: ClipBatch, features: torch.Tensor, relevant: torch.Tensor, prompt: str | Prompt
) -> dict[str, Any]:
    states = model.states("localizer", features).unflatten(0, batch.pixels.shape[:2])
    words = model.words(prompt)
    prompts = [words.localizer(question) for question in batch.questions]
    found = model.relevance_loss(states, prompts, relevant)
    agreement = (found.says_yes == relevant.to(found.says_yes.device)).float().mean()
    return {"loss": found.loss, "agreement": agreement, "share_yes": relevant.float().mean()}


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
        self._prompt, self._k, self._selector, self._packing = prompt, k, selector, packing
        self._teacher, self._memory = teacher or OnlineTeacher(), memory
        self._built: tuple[ImageTextModel, Selector] | None = None

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Return the loss of the target text, the mean over questions, and "positions": B times the frames [K] read.

        Questions that as many frames were chosen for are learned in one call. Where the model is split over processes
        (FSDP), all of them need as many such calls: choose as many frames for every question.

        Raises:
            QuestionError: a question whose answer is not known.
        """
        clips = [self._clip(model, batch, row) for row in range(len(batch))]
        selector = self._selector_of(model)
        scorer = None if selector.scorer is None else TaughtScorer(selector.scorer, self._teacher)
        chooser = Selector(selector.policy, scorer)
        chosen = [
            chooser.select(clip, [question], k=selector.k or min(self._k, len(clip)))[0].positions
            for clip, question in zip(clips, batch.questions, strict=True)
        ]
        groups: dict[int, list[int]] = {}
        for row, positions in enumerate(chosen):
            groups.setdefault(len(positions), []).append(row)
        learned = [(self._learn(model, batch, clips, chosen, rows), len(rows) / len(batch)) for rows in groups.values()]
        return {
            "loss": torch.stack([found.loss * share for found, share in learned]).sum(),
            "accuracy": torch.stack([found.is_right.float().mean() * share for found, share in learned]).sum(),
            "positions": [torch.from_numpy(positions) for positions in chosen],
            **({} if scorer is None else scorer.metrics),
        }

    def _selector_of(self, model: ImageTextModel) -> Selector:
        """Return the selector, built once: a scorer may have weights of its own to load."""
        if self._built is None or self._built[0] is not model:
            self._built = model, build_selector(self._selector, model, prompt=self._prompt)
        return self._built[1]

    def _learn(
        self,
        model: ImageTextModel,
        batch: ClipBatch,
        clips: Sequence[FrameSource],
        chosen: Sequence[Integers],
        rows: Sequence[int],
    ) -> AnswerLoss:
        """Return the loss of some questions of a batch, each of which has as many chosen frames."""
        positions, questions = np.stack([chosen[row] for row in rows]), [batch.questions[row] for row in rows]
        features = _chosen_features(model, [clips[row] for row in rows], positions)
        states = model.states("answerer", features).unflatten(0, positions.shape)
        answers = [known_answer(question) for question in questions]
        words = model.words(self._prompt)
        prompts = [words.answerer(question) for question in questions]
        times_s = [clips[row].times_s[chosen[row]].tolist() for row in rows]
        return model.answer_loss(states, prompts, answers, packing=self._packing, times_s=times_s)

    def _clip(self, model: ImageTextModel, batch: ClipBatch, row: int) -> FrameSource:
        pixels = batch.pixels[row]
        memory = None if self._memory is None else self._memory.of(pixels)
        return prepared_frames(model, pixels, batch.frame_idx[row], batch.times_s[row], memory=memory)


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


def _chosen_features(model: ImageTextModel, clips: Sequence[FrameSource], positions: Integers) -> torch.Tensor:
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

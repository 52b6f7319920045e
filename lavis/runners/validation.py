"""Validation between epochs: its metrics decide what weights are kept.

Every question is counted once, whatever the number of processes: each takes the questions of its own rank, and what
was said is put together. Where a model is split over the processes, all of them compute equally often.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lavis.common.distributed import World
from lavis.common.errors import UserError, VideoError
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Question
from lavis.datasets.dataset import Unreadable
from lavis.models.base import ImageTextModel
from lavis.models.chain import prepared_frames
from lavis.models.frames import FrameSource
from lavis.runners.progress import Pace
from lavis.tasks.build import PublishedTask
from lavis.tasks.predictions import (
    ACCURACY,
    FRAME_ACCURACY,
    FRAME_AP,
    ClipLoader,
    Prediction,
    build_asker,
    measure_registered,
    search_prediction,
    unread_prediction,
)

logger = logging.getLogger(__name__)

# Measures a model on a split: named metrics, higher being better, each over all questions, the same to every process.
Validator = Callable[[ImageTextModel, str], dict[str, float]]


@dataclass(frozen=True)
class SplitSample:
    """One question of a split, as a process meets it.

    Attributes:
        frames: None where the video cannot be read and nothing has to be computed.
        is_readable: False for a video that cannot be read, whatever `frames` holds.
        is_counted: False for a question that is another process's too.
    """

    question: Question
    frames: FrameSource | None
    is_readable: bool
    is_counted: bool


# What each figure of a question adds to its mean over the split: a sum, and how much that counts.
Shares = Mapping[str, tuple[float, float]]
Ask = Callable[[FrameSource, Question], tuple[Prediction, Shares]]


class SplitValidator:
    """Asks the questions of a split that have what they are measured by, and measures what was said, in percent.

    Questions with options: "accuracy"; one whose video cannot be read counts as wrong. Searches, where the task is to
    pre-train the Localizer: "frame_ap" is the mean over queries of the average precision of the frame ranking;
    "frame_accuracy" the share of frames with the right yes or no (the published validation figure, which favours
    saying no).

    Args:
        task: what is measured, which frames are read, and how.
        frame_num: keyframes to read, where the task does not say otherwise.
        token_budget: see `ChoiceAsker`.
        at_most: questions of each process; None is all.
        stand_in: [T, 3, H, W], where all processes must compute equally often: then each is asked equally many
            questions, and about this in place of what cannot be read.
    """

    def __init__(
        self,
        clips: Mapping[str, ClipLoader],
        *,
        task: PublishedTask,
        prompt: str,
        frame_num: int,
        world: World,
        token_budget: int | None = None,
        at_most: int | None = None,
        stand_in: torch.Tensor | None = None,
    ) -> None:
        self._clips, self._task, self._prompt, self._frame_num = clips, task, prompt, frame_num
        self._world, self._at_most, self._stand_in = world, at_most, stand_in
        self._token_budget = token_budget
        self._searches = task.objective == "localizer_pretraining"

    def count(self, split: str) -> int:
        """Return the number of questions of a split."""
        return len(self._clips[split].dataset)

    def samples(self, split: str, model: ImageTextModel) -> Iterator[SplitSample]:
        """Yield the questions of this process."""
        count, world = self.count(split), self._world
        own = list(range(world.rank, count, world.size))[: self._at_most]
        pace = Pace(split, len(own))
        # A process that has one question fewer than the first computes one that does not count.
        more = self._stand_in is not None and len(own) < len(range(0, count, world.size)[: self._at_most])
        for indices, is_counted in ((own, True), ([0] if more else [], False)):
            for question, read in self._clips[split].read(model, indices):
                frames = self._stand_in_frames(model) if isinstance(read, Unreadable) else read
                yield SplitSample(question, frames, not isinstance(read, Unreadable), is_counted)
                pace.step()

    def _stand_in_frames(self, model: ImageTextModel) -> FrameSource | None:
        if self._stand_in is None:
            return None
        frame_idx = torch.arange(len(self._stand_in))
        return prepared_frames(model, self._stand_in, frame_idx, frame_idx)

    @torch.inference_mode()
    def __call__(self, model: ImageTextModel, split: str) -> dict[str, float]:
        """Return the metrics, registered ones too, and the numbers of "questions" and of "unreadable" ones.

        Raises:
            UserError: no question of the split can be measured.
        """
        ask = self._asking_searches(model) if self._searches else self._asking_questions(model)
        said: list[tuple[Prediction, Question, Shares]] = []
        for sample in self.samples(split, model):
            question, found = sample.question, None
            is_counted = sample.is_counted and (question.windows if self._searches else question.answer) is not None
            if sample.frames is not None and (is_counted or self._stand_in is not None):
                found = self._asked(ask, sample.frames, question, model)
            if is_counted:
                prediction, shares = found if found and sample.is_readable else self._unread(question)
                said.append((prediction, question, shares))
        return self._metrics(said, split)

    def _asked(
        self, ask: Ask, frames: FrameSource, question: Question, model: ImageTextModel
    ) -> tuple[Prediction, Shares] | None:
        """Ask a question; None where its frames, decoded when they are asked for, cannot be read."""
        try:
            return ask(frames, question)
        except VideoError as error:
            logger.warning("unreadable: %s", error)
            if (stand_in := self._stand_in_frames(model)) is not None:
                ask(stand_in, question)
            return None

    def _asking_questions(self, model: ImageTextModel) -> Ask:
        asker = build_asker(
            model,
            searches=False,
            task=self._task,
            prompt=self._prompt,
            frame_num=self._frame_num,
            token_budget=self._token_budget,
        )

        def ask(frames: FrameSource, question: Question) -> tuple[Prediction, Shares]:
            (found,) = asker.ask(frames, [question])
            return found, {ACCURACY: (found.is_right, 1)}

        return ask

    def _asking_searches(self, model: ImageTextModel) -> Ask:
        scorer = model.as_scorer(prompt=self._prompt)

        def ask(frames: FrameSource, question: Question) -> tuple[Prediction, Shares]:
            scores = scorer.score(frames, [question])
            margins, relevant = scores.margins[0], inside_windows(frames.times_s, question.windows or ())
            ranked = average_precision(scores.scores[0], relevant) if relevant.any() else None
            shares = {
                FRAME_AP: (0, 0) if ranked is None else (ranked, 1),
                FRAME_ACCURACY: (float(((margins > 0) == relevant).sum()), len(relevant)),
            }
            return search_prediction(question, frames.times_s, margins, scores.unread[0]), shares

        return ask

    def _unread(self, question: Question) -> tuple[Prediction, Shares]:
        shares = {FRAME_AP: (0.0, 1), FRAME_ACCURACY: (0.0, 0)} if self._searches else {ACCURACY: (0.0, 1)}
        return unread_prediction(question, "the video could not be read"), shares

    def _metrics(self, said: Sequence[tuple[Prediction, Question, Shares]], split: str) -> dict[str, float]:
        """Measure what was said to all processes, in an order that does not depend on them."""
        gathered = sorted((row for own in self._world.gather(said) for row in own), key=lambda row: row[0].id)
        predictions = [prediction for prediction, _, _ in gathered]
        counts = {"questions": len(predictions), "unreadable": sum(one.unreadable is not None for one in predictions)}
        if not gathered or (self._searches and counts["questions"] == counts["unreadable"]):
            kind = "query with annotated windows" if self._searches else "question with an answer"
            raise UserError(f"split {split!r} has no {kind} to validate on")
        metrics = {}
        for name in gathered[0][2]:
            sums, weights = (math.fsum(shares[name][part] for _, _, shares in gathered) for part in (0, 1))
            metrics[name] = 100 * sums / max(1.0, weights)
        rows = [self._clips[split].annotation(question) for _, question, _ in gathered]
        return {**metrics, **counts, **measure_registered(predictions, rows)}


def average_precision(scores: Floats, relevant: npt.NDArray[np.bool_]) -> float:
    """Return the average precision of ranking frames [T] by score; ties go to the earlier frame."""
    hits = np.asarray(relevant, dtype=float)[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())

"""Validation between epochs: a small reading of a split that decides which weights are kept.

Every question is counted once, whatever the number of processes: each takes the questions of its own
rank, and the counts are added up.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch

from lavis.common.distributed import World
from lavis.common.errors import UserError
from lavis.common.registry import registry
from lavis.common.types import Floats, Question
from lavis.datasets.dataset import ClipBatch, QuestionDataset, SampleKey
from lavis.datasets.loader import build_loader
from lavis.models.selectors import FrameSelector, LocalizerSelector
from lavis.models.sevila.model import SeViLA
from lavis.tasks.build import count_keyframes
from lavis.tasks.published import PublishedTask


class Validator(Protocol):
    """Measures a model on a split; called by every process, returns the same to each."""

    def __call__(self, model: SeViLA, split: str) -> dict[str, float]:
        """Return named metrics, higher being better, each over all questions of the split."""
        ...


class SplitReader:
    """Hands each process its own share of every split, batch by batch.

    Args:
        datasets: the evaluation datasets, by split.
    """

    def __init__(
        self,
        datasets: Mapping[str, QuestionDataset],
        *,
        world: World,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        self._datasets = datasets
        self.world = world
        self._batch_size, self._num_workers = batch_size, num_workers

    def batches(self, split: str) -> Iterable[ClipBatch]:
        """Return the batches of this process."""
        dataset = self._datasets[split]
        mine = [SampleKey(0, index) for index in range(self.world.rank, len(dataset), self.world.size)]
        batches = [mine[start : start + self._batch_size] for start in range(0, len(mine), self._batch_size)]
        return build_loader(dataset, batches, num_workers=self._num_workers)


class AccuracyValidator:
    """Accuracy of answers in percent; a question whose video cannot be read counts as wrong.

    Args:
        task: which frames are read, and how.
        frame_num: keyframes to read, where the task does not say otherwise.
    """

    def __init__(self, reader: SplitReader, *, task: PublishedTask, prompt: str, frame_num: int) -> None:
        self._reader = reader
        self._task, self._prompt, self._frame_num = task, prompt, frame_num

    @torch.inference_mode()
    def __call__(self, model: SeViLA, split: str) -> dict[str, float]:
        """Return "accuracy" and the numbers of questions and of unreadable ones.

        Raises:
            UserError: no question of the split has an answer.
        """
        selector = _selector(model, self._task.selector, self._prompt)
        correct = asked = unreadable = 0
        for batch in self._reader.batches(split):
            failed = [item.question for item in batch.unreadable if item.question.answer is not None]
            asked, unreadable = asked + len(failed), unreadable + len(failed)
            for pixels, times_s, question in zip(batch.pixels, batch.times_s, batch.questions, strict=True):
                if question.answer is not None:
                    asked += 1
                    correct += self._answer(model, selector, pixels, times_s.numpy(), question) == question.answer
        correct, asked, unreadable = map(int, self._reader.world.sum([correct, asked, unreadable]))
        if not asked:
            raise UserError(f"split {split!r} has no question with an answer to validate on")
        return {"accuracy": 100 * correct / asked, "questions": asked, "unreadable": unreadable}

    def _answer(
        self, model: SeViLA, selector: FrameSelector, pixels: torch.Tensor, times_s: Floats, question: Question
    ) -> int | None:
        tokens = model.encode(pixels)
        count = count_keyframes(self._task, frame_num=self._frame_num, num_frames=len(pixels))
        chosen = selector.select(tokens, times_s, [question], num_keyframes=count)
        answerer = model.as_answerer(prompt=self._prompt, reader=self._task.reader)
        return answerer.answer(tokens, chosen.positions, [question])[0].index


class MomentValidator:
    """How well the Localizer tells frames inside annotated windows from those outside, in percent.

    "frame_ap" is the mean over queries of the average precision of the frame ranking; "frame_accuracy" the share of
    frames with the right yes or no (the published validation figure, which favours saying no).
    """

    def __init__(self, reader: SplitReader, *, prompt: str) -> None:
        self._reader, self._prompt = reader, prompt

    @torch.inference_mode()
    def __call__(self, model: SeViLA, split: str) -> dict[str, float]:
        """Return the figures, and the number of queries and unreadable ones.

        Raises:
            UserError: no query of the split has annotated windows.
        """
        localizer = model.as_localizer(prompt=self._prompt)
        precision = ranked = right = frames = queries = unreadable = 0.0
        for batch in self._reader.batches(split):
            unreadable += len(batch.unreadable)
            queries += len(batch.unreadable)
            for pixels, times_s, question in zip(batch.pixels, batch.times_s, batch.questions, strict=True):
                if question.windows is None:
                    continue
                relevant = _inside(times_s.numpy(), question)
                scores = localizer.score(model.encode(pixels), [question])
                right += int(((scores.margins[0] > 0) == relevant).sum())
                frames, queries = frames + len(relevant), queries + 1
                if relevant.any():
                    precision, ranked = precision + average_precision(scores.scores[0], relevant), ranked + 1
        added = self._reader.world.sum([precision, ranked, right, frames, queries, unreadable])
        precision, ranked, right, frames, queries, unreadable = added
        if not frames:
            raise UserError(f"split {split!r} has no query with annotated windows to validate on")
        return {
            "frame_ap": 100 * precision / max(1.0, ranked + unreadable),
            "frame_accuracy": 100 * right / frames,
            "questions": queries,
            "unreadable": unreadable,
        }


def average_precision(scores: Floats, relevant: Floats) -> float:
    """Return the average precision of ranking frames [T] by score; ties go to the earlier frame."""
    hits = np.asarray(relevant, dtype=float)[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def _inside(times_s: Floats, question: Question) -> Floats:
    inside = np.zeros(len(times_s), dtype=bool)
    for window in question.windows or ():
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    return inside


def _selector(model: SeViLA, name: str, prompt: str) -> FrameSelector:
    kind = registry.selectors.get(name)
    if kind is LocalizerSelector:
        return LocalizerSelector(localizer=model.as_localizer(prompt=prompt))
    selector: FrameSelector = kind()
    return selector

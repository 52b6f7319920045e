"""Validation between epochs: metrics of a split, which decide what weights are kept.

Every question is counted once, whatever the number of processes: each takes the questions of its own
rank, and the counts are added up. Where a model is split over the processes, all of them compute equally often.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lavis.common.distributed import World
from lavis.common.errors import UserError
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Integers, Question
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import ClipBatch, QuestionDataset, SampleKey, VideoQuestionDataset, build_loader
from lavis.models.base import VideoModel
from lavis.models.frames import FrameSource, OpenVideo
from lavis.runners.config import ACCURACY, FRAME_ACCURACY, FRAME_AP
from lavis.runners.progress import Pace
from lavis.tasks.build import PublishedTask
from lavis.tasks.metrics.registered import measure_registered, metric_names
from lavis.tasks.predictions import Prediction, build_asker, search_prediction

# Measures a model on a split: named metrics, higher being better, each over all questions, the same to every process.
Validator = Callable[[Any, str], dict[str, float]]


@dataclass(frozen=True)
class SplitSample:
    """One question of a split, as a process meets it.

    Attributes:
        pixels: [T, 3, H, W]; None where the video cannot be read and nothing has to be computed.
        times_s, frame_idx: [T], the frames' times and their indices in the video.
        open_video: opens the video, for whoever looks at pictures; None where it is not known which it is.
        is_readable: False for a video that cannot be read, whatever `pixels` holds.
        is_counted: False for a question that is another process's too.
    """

    question: Question
    pixels: torch.Tensor | None
    times_s: Floats
    frame_idx: Integers
    open_video: OpenVideo | None = None
    is_readable: bool = True
    is_counted: bool = True


class SplitLoader:
    """Hands each process its own share of every split.

    Args:
        datasets: the evaluation datasets, by split.
        at_most: questions of each process; None is all.
        stand_in: [T, 3, H, W], where all processes must compute equally often: then each gets equally many
            questions, and this in place of what cannot be read.
    """

    def __init__(
        self,
        datasets: Mapping[str, QuestionDataset],
        *,
        world: World,
        batch_size: int = 8,
        num_workers: int = 0,
        timeout_s: float = 0,
        at_most: int | None = None,
        stand_in: torch.Tensor | None = None,
    ) -> None:
        self._datasets, self._at_most = datasets, at_most
        self.world = world
        self._batch_size, self._num_workers, self._timeout_s = batch_size, num_workers, timeout_s
        self._stand_in = stand_in
        self._indices: dict[str, dict[str, int]] = {}

    @property
    def in_step(self) -> bool:
        """Whether every question must be computed, counted or not."""
        return self._stand_in is not None

    def count(self, split: str) -> int:
        """Return the number of questions of a split."""
        return len(self._datasets[split])

    def annotation(self, split: str, question: Question) -> Annotation:
        """Return the row that a question was read from, or one with nothing but the question."""
        found = self._row(split, question)
        return found[0].annotations[found[1]] if found else Annotation(question)

    def _row(self, split: str, question: Question) -> tuple[VideoQuestionDataset, int] | None:
        """Return the dataset and the row that a question was read from; None where datasets are mixed."""
        dataset = self._datasets[split]
        if not isinstance(dataset, VideoQuestionDataset):
            return None
        if split not in self._indices:
            self._indices[split] = {row.question.id: index for index, row in enumerate(dataset.annotations)}
        return dataset, self._indices[split][question.id]

    def samples(self, split: str) -> Iterator[SplitSample]:
        """Yield the questions of this process."""
        dataset = self._datasets[split]
        keys = [SampleKey(0, index) for index in range(self.world.rank, len(dataset), self.world.size)]
        keys = keys[: self._at_most]
        batches = [keys[start : start + self._batch_size] for start in range(0, len(keys), self._batch_size)]
        own = len(keys)
        if self.in_step and own < len(range(0, len(dataset), self.world.size)[: self._at_most]):
            batches.append([SampleKey(0, 0)])
        loader = build_loader(dataset, batches, num_workers=self._num_workers, timeout_s=self._timeout_s)
        done, pace = 0, Pace(split, own)
        for batch in loader:
            for sample in self._samples(batch, split):
                yield replace(sample, is_counted=done < own)
                done += 1
                pace.step()

    def _samples(self, batch: ClipBatch, split: str) -> Iterator[SplitSample]:
        rows = zip(batch.questions, batch.pixels, batch.times_s, batch.frame_idx, strict=True)
        for question, pixels, times_s, frame_idx in rows:
            found = self._row(split, question)
            opened = partial(found[0].open_video, found[1]) if found else None
            yield SplitSample(question, pixels, times_s.numpy(), frame_idx.numpy(), opened)
        for item in batch.unreadable:
            frames = np.arange(0 if self._stand_in is None else len(self._stand_in))
            yield SplitSample(item.question, self._stand_in, frames / 1.0, frames, is_readable=False)


Asked = tuple[Prediction, Question]


def _unread(question: Question) -> Prediction:
    why = "the video could not be read"
    return Prediction(id=question.id, video=question.video or "", answer=question.answer, unreadable=why)


def _registered_metrics(said: Sequence[Asked], loader: SplitLoader, split: str) -> dict[str, float]:
    """Measure registered metrics on what all processes have asked, in an order that does not depend on them."""
    if not metric_names():
        return {}
    everything = sorted((pair for part in loader.world.gather(said) for pair in part), key=lambda pair: pair[0].id)
    annotations = [loader.annotation(split, question) for _, question in everything]
    return measure_registered([prediction for prediction, _ in everything], annotations)


class AccuracyValidator:
    """Accuracy of answers in percent; a question whose video cannot be read counts as wrong.

    Args:
        task: which frames are read, and how.
        frame_num: keyframes to read, where the task does not say otherwise.
    """

    def __init__(self, loader: SplitLoader, *, task: PublishedTask, prompt: str, frame_num: int) -> None:
        self.loader = loader
        self._task, self._prompt, self._frame_num = task, prompt, frame_num

    @torch.inference_mode()
    def __call__(self, model: Any, split: str) -> dict[str, float]:
        """Return "accuracy" and the numbers of questions and of unreadable ones.

        Raises:
            UserError: no question of the split has an answer.
        """
        asker = build_asker(model, searches=False, task=self._task, prompt=self._prompt, frame_num=self._frame_num)
        said: list[Asked] = []
        for sample in self.loader.samples(split):
            question, found = sample.question, None
            is_counted = sample.is_counted and question.answer is not None
            if sample.pixels is not None and (is_counted or self.loader.in_step):
                (found,) = asker.ask(frames_of(model, sample), [question])
            if is_counted:
                said.append((found if found and sample.is_readable else _unread(question), question))
        counts = [sum(one.is_right for one, _ in said), len(said), sum(one.unreadable is not None for one, _ in said)]
        correct, asked, unreadable = map(int, self.loader.world.sum(counts))
        if not asked:
            raise UserError(f"split {split!r} has no question with an answer to validate on")
        metrics = {ACCURACY: 100 * correct / asked, "questions": asked, "unreadable": unreadable}
        return metrics | _registered_metrics(said, self.loader, split)


def frames_of(model: VideoModel, sample: SplitSample) -> FrameSource:
    """Return the frames of a sample, decoded and prepared, for a model to look at in one call."""
    assert sample.pixels is not None, "a sample that cannot be read is not asked about"
    return FrameSource(
        sample.frame_idx,
        sample.times_s,
        open_video=sample.open_video,
        pixels=sample.pixels,
        together=model.encoders,
        chunk=len(sample.pixels),
    )


class MomentValidator:
    """How well the Localizer tells frames inside annotated windows from those outside, in percent.

    "frame_ap" is the mean over queries of the average precision of the frame ranking; "frame_accuracy" the share of
    frames with the right yes or no (the published validation figure, which favours saying no).
    """

    def __init__(self, loader: SplitLoader, *, prompt: str) -> None:
        self.loader, self._prompt = loader, prompt

    @torch.inference_mode()
    def __call__(self, model: Any, split: str) -> dict[str, float]:
        """Return the metrics, and the number of queries and unreadable ones.

        Raises:
            UserError: no query of the split has annotated windows.
        """
        scorer = model.as_scorer(prompt=self._prompt)
        precision = ranked = right = frames = queries = unreadable = 0.0
        said: list[Asked] = []
        for sample in self.loader.samples(split):
            scores, relevant = None, inside_windows(sample.times_s, sample.question.windows or ())
            has_windows = sample.question.windows is not None
            if sample.pixels is not None and (has_windows or self.loader.in_step):
                scores = scorer.score(frames_of(model, sample), [sample.question])
            if not sample.is_counted:
                continue
            if not sample.is_readable:
                unreadable, queries = unreadable + 1, queries + 1
                said.append((_unread(sample.question), sample.question))
            elif scores is not None and has_windows:
                found = search_prediction(sample.question, sample.times_s, scores.margins[0], scores.unread[0])
                said.append((found, sample.question))
                right += int(((scores.margins[0] > 0) == relevant).sum())
                frames, queries = frames + len(relevant), queries + 1
                if relevant.any():
                    precision, ranked = precision + average_precision(scores.scores[0], relevant), ranked + 1
        added = self.loader.world.sum([precision, ranked, right, frames, queries, unreadable])
        precision, ranked, right, frames, queries, unreadable = added
        if not frames:
            raise UserError(f"split {split!r} has no query with annotated windows to validate on")
        metrics = {
            FRAME_AP: 100 * precision / max(1.0, ranked + unreadable),
            FRAME_ACCURACY: 100 * right / frames,
            "questions": queries,
            "unreadable": unreadable,
        }
        return metrics | _registered_metrics(said, self.loader, split)


def average_precision(scores: Floats, relevant: npt.NDArray[np.bool_]) -> float:
    """Return the average precision of ranking frames [T] by score; ties go to the earlier frame."""
    hits = np.asarray(relevant, dtype=float)[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())

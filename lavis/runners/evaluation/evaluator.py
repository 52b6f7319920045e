"""The evaluator: watch each clip once, ask it all its questions."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from lavis.common.distributed import World
from lavis.common.types import Span
from lavis.datasets.annotation_row import Annotation
from lavis.datasets.dataset import ClipBatch, SampleKey, VideoQuestionDataset
from lavis.datasets.loader import build_loader
from lavis.models.sevila.model import SeViLA
from lavis.runners.evaluation.scoring import Scorer, WatchedClip
from lavis.tasks.evaluation.predictions import Prediction

logger = logging.getLogger(__name__)

# Frames per call of the vision tower: bounds the memory, whatever the number of frames.
_FRAMES_AT_ONCE = 32
_SECONDS_BETWEEN_LOGS = 10.0


@dataclass(frozen=True, slots=True)
class ClipGroup:
    """All questions about the same part of the same video.

    Attributes:
        indices: places of the questions in the annotation file.
        ids: the questions' ids.
    """

    indices: tuple[int, ...]
    ids: tuple[str, ...]


def group_by_clip(annotations: Sequence[Annotation]) -> list[ClipGroup]:
    """Put questions together that the same frames are read for, in the order of their first one."""
    members: dict[tuple[str | None, str | None, Span | None], list[int]] = {}
    for index, row in enumerate(annotations):
        members.setdefault((row.source, row.question.video, row.question.clip), []).append(index)
    return [
        ClipGroup(tuple(indices), tuple(annotations[index].question.id for index in indices))
        for indices in members.values()
    ]


class Evaluator:
    """Evaluates one process's share of a split.

    Each group's questions are asked in the same batches whatever the number of processes and whatever was done before,
    so that results do not depend on either.

    Args:
        batch_size: questions that are asked at once.
        num_workers: processes that decode ahead.
    """

    def __init__(
        self,
        model: SeViLA,
        *,
        scorer: Scorer,
        dataset: VideoQuestionDataset,
        world: World,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        self._model, self._scorer, self._dataset, self._world = model, scorer, dataset, world
        self._batch_size, self._num_workers = batch_size, num_workers

    def predictions(self, groups: Sequence[ClipGroup]) -> Iterator[list[Prediction]]:
        """Yield the predictions of each group in this process's share of `groups`."""
        mine = groups[self._world.rank :: self._world.size]
        loader = build_loader(
            self._dataset,
            [[SampleKey(0, group.indices[0])] for group in mine],
            num_workers=self._num_workers,
            pin_memory=self._world.device.type == "cuda",
        )
        done, started, logged = 0, time.perf_counter(), time.perf_counter()
        for group, batch in self._announced(mine, loader):
            yield self._predict(group, batch)
            done += len(group.ids)
            if time.perf_counter() - logged > _SECONDS_BETWEEN_LOGS:
                logged = time.perf_counter()
                total = sum(len(one.ids) for one in mine)
                logger.info("%d of %d questions, %.1f a second", done, total, done / (logged - started))

    @staticmethod
    def _announced(groups: Sequence[ClipGroup], loader: Iterable[ClipBatch]) -> Iterator[tuple[ClipGroup, ClipBatch]]:
        # Starting workers for nothing takes seconds.
        if groups:
            yield from zip(groups, loader, strict=True)

    @torch.inference_mode()
    def _predict(self, group: ClipGroup, batch: ClipBatch) -> list[Prediction]:
        questions = [self._dataset.annotations[index].question for index in group.indices]
        if batch.unreadable:
            (failed,) = batch.unreadable
            return [
                Prediction(id=one.id, video=one.video or "", answer=one.answer, unreadable=failed.reason)
                for one in questions
            ]
        started = time.perf_counter()
        chunks = [self._model.encode(pixels) for pixels in batch.pixels[0].split(_FRAMES_AT_ONCE)]
        clip = WatchedClip(self._model.join_tokens(chunks), batch.frame_idx[0].numpy(), batch.times_s[0].numpy())
        found: list[Prediction] = []
        for first in range(0, len(questions), self._batch_size):
            found += self._scorer.score(clip, questions[first : first + self._batch_size])
        seconds = (time.perf_counter() - started) / len(questions)
        return [replace(one, seconds=seconds) for one in found]

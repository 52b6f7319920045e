"""The evaluator: watch each clip once, ask it all its questions."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from lavis.common.distributed import World
from lavis.common.errors import BrokenModelError, NotFiniteError, VideoError
from lavis.common.types import Floats, Integers, Question, Span
from lavis.datasets.annotation_row import Annotation
from lavis.datasets.dataset import SampleKey, Unreadable, VideoQuestionDataset
from lavis.datasets.loader import build_loader
from lavis.models.frame_cache import video_digest
from lavis.models.sevila.model import SeViLA
from lavis.runners.evaluation.remembered import RememberedClips
from lavis.runners.evaluation.scoring import Scorer, WatchedClip
from lavis.runners.progress import Pace
from lavis.tasks.evaluation.predictions import Prediction

logger = logging.getLogger(__name__)

# Frames per call of the vision tower: bounds the memory, whatever the number of frames.
_FRAMES_AT_ONCE = 32


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


def digest_of(dataset: VideoQuestionDataset, group: ClipGroup) -> str | None:
    """Return the SHA-256 of the video that questions are about; None if there is none."""
    try:
        return video_digest(dataset.find_video(group.indices[0]))
    except VideoError:
        return None


class Evaluator:
    """Evaluates one process's share of a split.

    A clip is encoded, and asked all its questions, in calls of its own: scores do not depend on the batch size, on the
    number of processes, or on what was done before.

    Args:
        batch_size: clips that are read in one go.
        num_workers: processes that decode ahead.
        timeout_s: how long they are waited for; 0 is for ever.
        remembered: clips that an earlier run has watched; None looks for none.
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
        timeout_s: float = 0,
        remembered: RememberedClips | None = None,
    ) -> None:
        self._model, self._scorer, self._dataset, self._world = model, scorer, dataset, world
        self._batch_size, self._num_workers, self._timeout_s = batch_size, num_workers, timeout_s
        self._remembered = remembered

    def predictions(self, groups: Sequence[ClipGroup]) -> Iterator[list[Prediction]]:
        """Yield the predictions of each group in this process's share of `groups`."""
        mine = groups[self._world.rank :: self._world.size]
        pace = Pace("evaluation", sum(len(group.ids) for group in mine))
        for group, clip in self._clips(mine):
            questions = [self._dataset.annotations[index].question for index in group.indices]
            found = (
                _unread(questions, clip.reason) if isinstance(clip, Unreadable) else self._ask(questions, clip, group)
            )
            digest = digest_of(self._dataset, group)
            yield [replace(one, video_sha256=digest) for one in found]
            pace.step(len(questions))

    def _clips(self, groups: Sequence[ClipGroup]) -> Iterator[tuple[ClipGroup, "WatchedClip | _Pixels | Unreadable"]]:
        new = []
        for group in groups:
            clip = self._remembered.recall(group.indices[0]) if self._remembered else None
            if clip is None:
                new.append(group)
            else:
                yield group, clip
        yield from self._read(new)

    def _read(self, groups: Sequence[ClipGroup]) -> Iterator[tuple[ClipGroup, "_Pixels | Unreadable"]]:
        if not groups:  # starting workers for nothing takes seconds
            return
        steps = [groups[start : start + self._batch_size] for start in range(0, len(groups), self._batch_size)]
        loader = build_loader(
            self._dataset,
            [[SampleKey(0, group.indices[0]) for group in step] for step in steps],
            num_workers=self._num_workers,
            pin_memory=self._world.device.type == "cuda",
            timeout_s=self._timeout_s,
        )
        for step, batch in zip(steps, loader, strict=True):
            read: dict[str, _Pixels | Unreadable] = {one.question.id: one for one in batch.unreadable}
            for place, question in enumerate(batch.questions):
                read[question.id] = _Pixels(
                    batch.pixels[place], batch.frame_idx[place].numpy(), batch.times_s[place].numpy()
                )
            yield from ((group, read[group.ids[0]]) for group in step)

    @torch.inference_mode()
    def _ask(self, questions: Sequence[Question], clip: "WatchedClip | _Pixels", group: ClipGroup) -> list[Prediction]:
        started = time.perf_counter()
        watched = clip if isinstance(clip, WatchedClip) else self._watch(clip, group)
        found = self._score(watched, questions)
        seconds = (time.perf_counter() - started) / len(questions)
        return [replace(one, seconds=seconds) for one in found]

    def _score(self, clip: WatchedClip, questions: Sequence[Question]) -> list[Prediction]:
        """Ask all questions together; where one has no finite scores, each alone, so that only that one fails."""
        try:
            return self._scorer.score(clip, questions)
        except BrokenModelError:
            raise
        except NotFiniteError as error:
            if len(questions) > 1:
                return [found for question in questions for found in self._score(clip, [question])]
            return _unread(questions, str(error))

    def _watch(self, clip: "_Pixels", group: ClipGroup) -> WatchedClip:
        num_frames = len(clip.pixels)
        chunks = [self._model.encode(pixels, num_frames=num_frames) for pixels in clip.pixels.split(_FRAMES_AT_ONCE)]
        watched = WatchedClip(self._model.join_tokens(chunks), clip.frame_idx, clip.times_s)
        if self._remembered:
            self._remembered.keep(group.indices[0], watched)
        return watched


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Frames of one clip: pixels [T, 3, H, W], and [T] indices into the source video and times."""

    pixels: torch.Tensor
    frame_idx: Integers
    times_s: Floats


def _unread(questions: Sequence[Question], reason: str) -> list[Prediction]:
    logger.warning("unreadable, %d questions: %s", len(questions), reason)
    return [Prediction(id=q.id, video=q.video or "", answer=q.answer, unreadable=reason) for q in questions]

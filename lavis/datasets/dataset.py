"""The one dataset of all benchmarks, several of them as one, and loading their samples in batches.

Without ratios an epoch of several datasets holds every sample of each once. With ratios an epoch is as long, and
each dataset gets its share of it, rounded to whole samples; a dataset whose share is larger than itself
repeats samples, another one shows the rest of its samples in the epochs that follow. No sample of a
dataset comes again before all its others came.

B questions, T frames each.
"""

import math
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset, Sampler

from lavis.common.errors import VideoError
from lavis.common.registry import import_in_worker, registry
from lavis.common.types import Integers, Question
from lavis.datasets.annotations import Annotation
from lavis.datasets.shards import VideoFinder
from lavis.processors.transforms import Clip, ClipProcessor
from lavis.video import VideoReader, open_video


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Asks for one sample: the epoch is part of it, so that a sample's randomness depends on nothing else."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A question and the frames it is asked about."""

    question: Question
    clip: Clip


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A question whose video could not be read."""

    question: Question
    reason: str


@dataclass(frozen=True)
class ClipBatch:
    """Samples of one step; may be empty.

    Attributes:
        pixels: float32 [B, T, 3, H, W], or pictures of the videos' own aspects, uint8, in the upper left each.
        times_s: float64 [B, T].
        frame_idx: int64 [B, T], indices into each source video.
        questions: B questions.
        unreadable: samples that are missing from the above.
        sizes: height and width of each sample's pictures; () where pixels are those of a whole batch alike.
        places: of the readable samples among those that were asked for.
    """

    pixels: torch.Tensor
    times_s: torch.Tensor
    frame_idx: torch.Tensor
    questions: tuple[Question, ...]
    unreadable: tuple[Unreadable, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    places: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.questions)

    def clip(self, row: int) -> torch.Tensor:
        """Return the frames of a sample, [T, 3, H, W]."""
        height, width = self.sizes[row] if self.sizes else self.pixels.shape[-2:]
        return self.pixels[row, ..., :height, :width]

    def part(self, start: int, end: int) -> "ClipBatch":
        """Return some of the readable samples."""
        part = slice(start, end)
        return ClipBatch(
            self.pixels[part], self.times_s[part], self.frame_idx[part], self.questions[part], sizes=self.sizes[part]
        )

    def pin_memory(self) -> "ClipBatch":
        """Move the tensors to page-locked memory; called by torch's DataLoader."""
        pinned = {name: getattr(self, name).pin_memory() for name in ("pixels", "times_s", "frame_idx")}
        return replace(self, **pinned)


class QuestionDataset(Protocol):
    """Samples by key; what loaders read."""

    def __len__(self) -> int:
        """Samples of an epoch."""
        ...

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        """Read a sample."""
        ...


class VideoQuestionDataset(Dataset[Sample | Unreadable]):
    """Questions of an annotation file, each with frames of its video.

    A video that cannot be read gives an `Unreadable`; it is never replaced by another sample.

    Args:
        annotations: all rows of the annotation file, in its order.
        processor: how frames are sampled and transformed.
        reader: a name in `registry.video_readers`.
        fps: frames per second of folders of frames.
        seed: with epoch and index, decides everything random about a sample.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        *,
        videos: VideoFinder,
        processor: ClipProcessor,
        reader: str = "pyav",
        fps: float | None = None,
        seed: int = 0,
    ) -> None:
        self.annotations = annotations
        self._videos = videos
        self._processor = processor
        self._reader = reader
        self._fps = fps
        self._seed = seed

    @property
    def questions(self) -> list[Question]:
        """All questions, in the file's order."""
        return [annotation.question for annotation in self.annotations]

    def find_video(self, index: int) -> Path:
        """Return where the video of a row lies: a file, or a folder of frames.

        Raises:
            VideoError: it is not there.
        """
        annotation = self.annotations[index]
        return self._videos.find(annotation.question.video or "", source=annotation.source)

    def open_video(self, index: int) -> VideoReader:
        """Open the video of a row.

        Raises:
            VideoError: it is not there, or cannot be read.
        """
        return open_video(self.find_video(index), reader=self._reader, fps=self._fps)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        question = self.annotations[key.index].question
        rng = random.Random(f"{self._seed} {key.epoch} {key.index}")
        try:
            with self.open_video(key.index) as video:
                return Sample(question, self._processor(video, clip=question.clip, rng=rng))
        except VideoError as error:
            return Unreadable(question, str(error))


class JoinedDataset(Dataset[Sample | Unreadable]):
    """Datasets one after the other, each with so many samples an epoch, or with all it has."""

    def __init__(self, parts: Sequence[QuestionDataset], *, counts: Sequence[int] | None = None) -> None:
        self._parts, self._counts = parts, counts or [len(part) for part in parts]
        self._ends = np.cumsum(self._counts)

    def open_video(self, index: int) -> VideoReader:
        """Open the video of a sample; raises as a dataset does."""
        part, place = self._located(index)
        found: VideoReader = cast("VideoQuestionDataset", self._parts[part]).open_video(place)
        return found

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        part, place = self._located(key.index)
        return self._parts[part][SampleKey(key.epoch, place)]

    def _located(self, index: int) -> tuple[int, int]:
        """Return which dataset an index falls to, and its place there."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - int(self._ends[part]) + self._counts[part]


class MixedDataset(JoinedDataset):
    """Datasets mixed by ratio; an index counts within the epoch, the samples of one dataset side by side.

    Args:
        counts: samples of each dataset in every epoch.
        seed: decides the order in which the samples of a dataset have their turn.
    """

    def __init__(self, parts: Sequence[QuestionDataset], *, counts: Sequence[int], seed: int = 0) -> None:
        super().__init__(parts, counts=counts)
        self._seed = seed

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        part, place = self._located(key.index)
        dataset = self._parts[part]
        turn, position = divmod(key.epoch * self._counts[part] + place, len(dataset))
        index = int(_order(self._seed, part, turn, len(dataset))[position])
        # The turn takes the epoch's place: a sample that comes twice in an epoch gets other frames and another crop.
        return dataset[SampleKey(turn, index)]


def mixed_counts(sizes: Sequence[int], ratios: Sequence[float]) -> list[int]:
    """Share out as many samples as all datasets have together; the largest remainders are rounded up.

    Example:
        >>> mixed_counts([10, 5], [1, 1])
        [8, 7]
    """
    total, weight = sum(sizes), math.fsum(ratios)
    exact = [total * ratio / weight for ratio in ratios]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda part: counts[part] - exact[part])
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    return counts


@lru_cache(maxsize=16)
def _order(seed: int, part: int, turn: int, size: int) -> Integers:
    return np.random.default_rng([seed, part, turn]).permutation(size)


def collate(samples: Sequence[Sample | Unreadable]) -> ClipBatch:
    """Stack the readable samples and list the others."""
    readable = [sample for sample in samples if isinstance(sample, Sample)]
    nothing = torch.empty(0)
    clips = [sample.clip.pixels for sample in readable]
    are_pictures = bool(clips) and clips[0].dtype == torch.uint8
    return ClipBatch(
        pixels=torch.stack(_to_one_size(clips) if are_pictures else clips) if readable else nothing,
        times_s=torch.stack([torch.from_numpy(s.clip.times_s) for s in readable]) if readable else nothing,
        frame_idx=torch.stack([torch.from_numpy(s.clip.frame_idx) for s in readable]) if readable else nothing,
        questions=tuple(sample.question for sample in readable),
        unreadable=tuple(sample for sample in samples if isinstance(sample, Unreadable)),
        sizes=tuple((clip.shape[-2], clip.shape[-1]) for clip in clips) if are_pictures else (),
        places=tuple(place for place, sample in enumerate(samples) if isinstance(sample, Sample)),
    )


def _to_one_size(clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Fill up clips [T, 3, H, W] at the right and below."""
    height, width = (max(clip.shape[axis] for clip in clips) for axis in (-2, -1))
    return [pad(clip, (0, width - clip.shape[-1], 0, height - clip.shape[-2])) for clip in clips]


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches in which every sample of an epoch occurs exactly once, over all processes together.

    All processes take equally many batches, so they stay in step. The samples of a step do not depend
    on the number of processes as long as batch size times processes stays the same. In the last step
    of an epoch processes may get fewer samples, or none.

    Args:
        batch_size: samples per step of one process.
        samples_per_step: of all processes together; None is `batch_size` times processes. A run that resumes
            with another number of processes gives the number it began with, so that its steps stay the same.
        seed: with the epoch, decides the order.

    Example:
        >>> [len(batch) for batch in EpochBatches(5, batch_size=2)]
        [2, 2, 1]
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        samples_per_step: int | None = None,
    ) -> None:
        self._num_samples = num_samples
        self._per_step = samples_per_step or batch_size * world_size
        self._rank, self._world_size = rank, world_size
        self._seed, self._epoch, self._first_batch = seed, 0, 0

    def seek(self, *, epoch: int, first_batch: int = 0) -> None:
        """Let the next iteration start at this batch of this epoch."""
        self._epoch, self._first_batch = epoch, first_batch

    @property
    def samples_per_step(self) -> int:
        """Samples of a step, of all processes together."""
        return self._per_step

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-self._num_samples // self._per_step)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self._epoch
        order = np.random.default_rng([self._seed, epoch]).permutation(self._num_samples)
        for batch in range(self._first_batch, len(self)):
            together = order[batch * self._per_step : (batch + 1) * self._per_step]
            share = np.array_split(together, self._world_size)[self._rank]
            yield [SampleKey(epoch, index) for index in share.tolist()]


def _worker_context() -> BaseContext:
    # Forking a process that runs several threads can deadlock in the child. Instead, a server process that has
    # imported everything forks the workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "lavis.processors.transforms", "av"])
    return context


def _start_worker(plugins: Sequence[str], _worker: int) -> None:
    """Import the main process's plugins in a worker, and end the worker with that process rather than on SIGTERM.

    A scheduler sends SIGTERM to all processes; the main process ends its workers once it has saved. If it is killed,
    torch's workers would notice a change of parent, but their parent is the fork server, which lives on.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None, "a worker has a parent"
    threading.Thread(target=_end_with, args=(main.sentinel,), daemon=True).start()
    import_in_worker(plugins)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def build_loader(
    dataset: QuestionDataset,
    batches: Sampler[list[SampleKey]] | Sequence[list[SampleKey]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    timeout_s: float = 0,
) -> "DataLoader[ClipBatch]":
    """Build a loader that reads the given batches, in order.

    Args:
        num_workers: processes that decode ahead; 0 reads in this one.
        pin_memory: prepare batches for a faster copy to a GPU.
        timeout_s: how long a batch is waited for, where workers read it; 0 waits for ever.
    """
    # What the loader yields is what `collate` makes of the dataset's samples.
    return DataLoader(
        cast("Dataset[ClipBatch]", dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        timeout=timeout_s if num_workers else 0,
        worker_init_fn=partial(_start_worker, registry.plugins()),
        persistent_workers=num_workers > 0,
        multiprocessing_context=_worker_context() if num_workers else None,
        # The loader draws a seed per epoch, which must not disturb the random numbers of training.
        generator=torch.Generator(),
    )

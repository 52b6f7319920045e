"""The one dataset of all benchmarks: annotated questions about videos in folders.

B questions, T frames each.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch.utils.data import Dataset

from lavis.common.errors import VideoError
from lavis.common.types import Question
from lavis.datasets.annotations import Annotation
from lavis.datasets.videos import VideoFinder
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
        pixels: float32 [B, T, 3, H, W].
        times_s: float64 [B, T].
        frame_idx: int64 [B, T], indices into each source video.
        questions: B questions.
        unreadable: samples that are missing from the above.
    """

    pixels: torch.Tensor
    times_s: torch.Tensor
    frame_idx: torch.Tensor
    questions: tuple[Question, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.questions)

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
        self._annotations = annotations
        self._videos = videos
        self._processor = processor
        self._reader = reader
        self._fps = fps
        self._seed = seed

    @property
    def annotations(self) -> Sequence[Annotation]:
        """All rows of the annotation file, in its order."""
        return self._annotations

    @property
    def questions(self) -> list[Question]:
        """All questions, in the file's order."""
        return [annotation.question for annotation in self._annotations]

    def find_video(self, index: int) -> Path:
        """Return where the video of a row lies: a file, or a folder of frames.

        Raises:
            VideoError: it is not there.
        """
        annotation = self._annotations[index]
        return self._videos.find(annotation.question.video or "", source=annotation.source)

    def open_video(self, index: int) -> VideoReader:
        """Open the video of a row.

        Raises:
            VideoError: it is not there, or cannot be read.
        """
        return open_video(self.find_video(index), reader=self._reader, fps=self._fps)

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        question = self._annotations[key.index].question
        rng = random.Random(f"{self._seed} {key.epoch} {key.index}")
        try:
            with self.open_video(key.index) as video:
                return Sample(question, self._processor(video, clip=question.clip, rng=rng))
        except VideoError as error:
            return Unreadable(question, str(error))


def collate(samples: Sequence[Sample | Unreadable]) -> ClipBatch:
    """Stack the readable samples and list the others."""
    readable = [sample for sample in samples if isinstance(sample, Sample)]
    nothing = torch.empty(0)
    return ClipBatch(
        pixels=torch.stack([sample.clip.pixels for sample in readable]) if readable else nothing,
        times_s=torch.stack([torch.from_numpy(s.clip.times_s) for s in readable]) if readable else nothing,
        frame_idx=torch.stack([torch.from_numpy(s.clip.frame_idx) for s in readable]) if readable else nothing,
        questions=tuple(sample.question for sample in readable),
        unreadable=tuple(sample for sample in samples if isinstance(sample, Unreadable)),
    )

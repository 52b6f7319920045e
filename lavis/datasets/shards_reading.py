"""Reading shards: one video at a time from anywhere in them, or all of them as they come.

Nothing of a shard's own names is ever a path: what is taken out of it lies under a name of ours in a folder of ours.
"""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from lavis.common.errors import AnnotationError, MissingExtraError, VideoError
from lavis.common.types import Question
from lavis.datasets.annotation_row import Annotation, parse_row
from lavis.datasets.clips import ClipProcessor
from lavis.datasets.dataset import Sample, Unreadable
from lavis.datasets.records import Record
from lavis.datasets.shards import read_index
from lavis.datasets.shards_unpacking import Unpacker
from lavis.processors.video import open_video


class ShardStream(IterableDataset[Sample | Unreadable]):
    """All questions of a split, shard after shard, in the order they are stored in.

    Shards are dealt out to processes and to the loader's workers, each to one of them: every question comes exactly
    once in an epoch, whatever their number. Have at least as many shards as there are workers in all, or some idle.

    Args:
        folder: a folder of shards.
        processor: how frames are sampled and transformed.
        reader: a name in `registry.video_readers`.
        fps: frames per second of folders of frames.
        seed: with the epoch, decides the order of shards and everything random about a sample; None keeps their order.
        rank: this process's number, of `world_size`.

    Raises:
        ConfigError: `folder` is no folder of shards.
        AnnotationError: it holds none of this split.
        MissingExtraError: webdataset is not installed.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        processor: ClipProcessor,
        reader: str = "pyav",
        fps: float | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _webdataset()
        stored = [entry for entry in read_index(folder) if entry.split == split]
        if not stored:
            raise AnnotationError(f"{folder} holds no shards of the split {split!r}")
        self._folder = folder.resolve()
        self._files = list(dict.fromkeys(entry.file for entry in stored))
        self._processor, self._reader, self._fps = processor, reader, fps
        self._seed, self._epoch = seed, 0
        self._rank, self._world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Sample | Unreadable]:
        webdataset = _webdataset()
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        number = self._rank * workers + (worker.id if worker else 0)
        mine = self._order()[number :: self._world_size * workers]
        if not mine:
            return
        # Whole paths: a name such as "pipe:..." would be a command to webdataset.
        shards = webdataset.SimpleShardList([str(self._folder / file) for file in mine])
        with Unpacker() as unpacker:
            for sample in webdataset.DataPipeline(shards, webdataset.tarfile_to_samples()):
                yield from self._questions(sample, unpacker)

    def _order(self) -> list[str]:
        if self._seed is None:
            return self._files
        order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._files))
        return [self._files[index] for index in order]

    def _questions(self, sample: Mapping[str, Any], unpacker: Unpacker) -> Iterator[Sample | Unreadable]:
        place = Path(sample["__url__"])
        endings = [key for key in sample if not key.startswith("__") and key != "json"]
        rows = [row.question for row in _annotations(sample["json"], place)]
        try:
            if len(endings) != 1:  # none, if it was missing when the shards were written
                raise VideoError(f"{place}: {len(endings)} videos beside the questions of {sample['__key__']}, not one")
            path = unpacker.unpack(sample[endings[0]], ending=f".{endings[0]}")
        except VideoError as error:
            yield from (Unreadable(question, str(error)) for question in rows)
            return
        yield from (self._read(path, question) for question in rows)

    def _read(self, path: Path, question: Question) -> Sample | Unreadable:
        rng = random.Random(f"{self._seed} {self._epoch} {question.id}")
        try:
            with open_video(path, reader=self._reader, fps=self._fps) as video:
                return Sample(question, self._processor(video, clip=question.clip, rng=rng))
        except VideoError as error:
            return Unreadable(question, str(error))


def _annotations(content: bytes, place: Path) -> list[Annotation]:
    try:
        rows = json.loads(content)["questions"]
        return [parse_row(Record(row, place, number, "question")) for number, row in enumerate(rows, start=1)]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{place} holds a sample without questions; was it written by sevila?") from error


def _webdataset() -> Any:
    try:
        import webdataset
    except ImportError:
        raise MissingExtraError("webdataset", "train") from None
    return webdataset

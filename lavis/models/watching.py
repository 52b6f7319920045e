"""Letting a model see the frames of a video, chunk by chunk, or recalling what it saw before."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lavis.common.types import Floats, FrameBatch, Integers
from lavis.models.frame_cache import FrameCache, Tensors, entry_key, video_digest
from lavis.models.roles import VideoModel
from lavis.video import VideoReader

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass
class Timings:
    """Seconds spent so far in each part; `localize` and `answer` grow with every question."""

    decode_s: float = 0.0
    watch_s: float = 0.0
    localize_s: float = 0.0
    answer_s: float = 0.0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time the block takes to one of the parts."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + time.perf_counter() - started)


@dataclass(frozen=True)
class SeenFrames:
    """What is known after watching: tokens of T frames, which frames they are, and what was wrong with the file."""

    tokens: Any
    frame_idx: Integers
    times_s: Floats
    warnings: tuple[str, ...]


def see_frames(
    model: VideoModel,
    video: VideoReader,
    frame_idx: Integers,
    *,
    batch_size: int,
    timings: Timings,
    progress: Progress | None = None,
) -> SeenFrames:
    """Decode frames and let the model see them, `batch_size` at a time."""
    chunks, seen_idx, seen_times = [], [], []
    for batch in _measured(video.stream(frame_idx, size=model.image_size, chunk=batch_size), timings):
        with timings.measure("watch_s"):
            chunks.append(model.watch_frames(batch, num_frames=len(frame_idx)))
        seen_idx.append(batch.frame_idx)
        seen_times.append(batch.times_s)
        if progress:
            progress(sum(map(len, seen_idx)), len(frame_idx))
    return SeenFrames(
        model.join_tokens(chunks), np.concatenate(seen_idx), np.concatenate(seen_times), tuple(video.warnings)
    )


class FrameMemory:
    """Remembers on disk what a model saw.

    Args:
        key: what all that is remembered has in common: `VideoModel.watching_key`.
    """

    def __init__(self, cache: FrameCache, model: VideoModel, *, key: str | None = None) -> None:
        self._cache, self._model = cache, model
        self._model_key = model.watching_key() if key is None else key

    def key(self, path: Path, **sampling: Any) -> str:
        """Return the key of a video's bytes, seen by this model; `sampling` says which frames were read, and how.

        Raises:
            VideoError: the video cannot be read.
        """
        return entry_key(model=self._model_key, video=video_digest(path), **sampling)

    def recall(self, key: str) -> SeenFrames | None:
        """Return what was seen, or None."""
        kept = self._cache.read(key)
        if kept is None:
            return None
        try:
            return self._seen(kept)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            # Written with a right checksum, but not by `keep`.
            logger.warning("the frame cache's entry %s holds something else (%s); watching again", key, error)
            return None

    def _seen(self, kept: Tensors) -> SeenFrames:
        frame_idx, times_s = kept["frame_idx"].numpy(), kept["times_s"].numpy()
        if frame_idx.ndim != 1 or frame_idx.shape != times_s.shape or not np.isfinite(times_s).all():
            raise ValueError("frames and times do not go together")
        warnings = tuple(map(str, json.loads(bytes(kept["warnings"].tolist()))))
        tokens = self._model.tokens_from_tensors(kept, num_frames=len(frame_idx))
        return SeenFrames(tokens, frame_idx, times_s, warnings)

    def keep(self, key: str, seen: SeenFrames) -> SeenFrames:
        """Remember what was seen, and return it as it will be recalled."""
        tokens = self._model.tokens_to_tensors(seen.tokens)
        kept: Tensors = {
            **tokens,
            "frame_idx": torch.from_numpy(seen.frame_idx),
            "times_s": torch.from_numpy(seen.times_s),
            "warnings": torch.tensor(list(json.dumps(seen.warnings).encode()), dtype=torch.uint8),
        }
        self._cache.write(key, kept)
        return replace(seen, tokens=self._model.tokens_from_tensors(tokens, num_frames=len(seen.frame_idx)))


def _measured(batches: Iterator[FrameBatch], timings: Timings) -> Iterator[FrameBatch]:
    """Yield batches, and note how long each took to decode."""
    while True:
        with timings.measure("decode_s"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch

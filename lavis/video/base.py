"""Opening and reading a video; what every reader does, over the one thing that differs: where pictures come from.

And which frames are read, which is arithmetic on indices. A video, or a clip of it, is divided into as many equal
segments as frames are wanted; `uniform_indices` takes the middle of each, `random_indices` a random frame of each. Both
equal the sampling that the published results were made with (`load_video` of the SeViLA code): a time becomes a frame
by `int(time * fps)`, and where segments are shorter than a frame, frames are repeated. `watched_indices` is for
people's questions: it goes by the frames' own times, and returns each frame once.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lavis.common import defaults
from lavis.common.errors import ConfigError, VideoError
from lavis.common.registry import registry
from lavis.common.types import Floats, FrameBatch, Integers, Span, VideoInfo

Picture = npt.NDArray[np.uint8]

_ROUNDING_S = 1e-6  # of times computed from ticks


class PictureSource(Protocol):
    """A way to decode one video; what a new reader has to provide.

    Attributes:
        info: what the video is.
        frame_times_s: float64 [num_frames], each frame's time from the video's start, increasing.
        warnings: what is known to be wrong with the video; may grow while pictures are read.
    """

    info: VideoInfo
    frame_times_s: Floats
    warnings: list[str]

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield each frame asked for, in order, one at a time.

        Args:
            frame_idx: strictly increasing, within the video.
            size: height and width of the pictures; None is the video's own.

        Yields:
            The index of the frame and its picture, uint8 [H, W, 3]. Where a frame cannot be decoded,
            the nearest one before it that can, with that one's index.
        """
        ...

    def close(self) -> None:
        """Release the file; may be called more than once."""
        ...


class VideoReader:
    """One open video. Not safe for use by several threads at once.

    Example:
        >>> with open_video("clip.mp4") as video:
        ...     batch = video.read(uniform_indices(32, video_frames=video.info.num_frames, fps=video.info.fps))
    """

    def __init__(self, source: PictureSource, *, name: str | None = None) -> None:
        self._source, self._name = source, name

    @property
    def info(self) -> VideoInfo:
        """Number of frames, frame rate, duration, size and rotation."""
        return self._source.info if self._name is None else replace(self._source.info, path=self._name)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about this video, such as that it is truncated; may grow while frames are read."""
        return tuple(self._source.warnings)

    def times_s(self, frame_idx: npt.ArrayLike) -> Floats:
        """Return the presentation times of frames, in seconds from the video's start."""
        return self._source.frame_times_s[self._checked(frame_idx)]

    def read(self, frame_idx: npt.ArrayLike, *, size: int | None = None) -> FrameBatch:
        """Decode frames; only these are kept in memory.

        Args:
            frame_idx: non-decreasing indices [T]; an index may be repeated.
            size: height and width to resize to, straight to a square (the published geometry: bilinear,
                the aspect ratio is not kept); None is the video's own size.

        Returns:
            T frames. A damaged frame is replaced by the nearest one before it that can be decoded, under
            its own index and time, and `warnings` says so.

        Raises:
            VideoError: an index lies outside the video, or nothing can be decoded.
        """
        indices = self._checked(frame_idx)
        return next(self._batches(indices, size=size, chunk=max(1, len(indices))), None) or self._buffer(0, size)

    def stream(self, frame_idx: npt.ArrayLike, *, size: int | None = None, chunk: int = 32) -> Iterator[FrameBatch]:
        """Decode frames in batches of `chunk`, never holding more than one batch; otherwise as `read`."""
        return self._batches(self._checked(frame_idx), size=size, chunk=chunk)

    def close(self) -> None:
        """Release the file."""
        self._source.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _checked(self, frame_idx: npt.ArrayLike) -> Integers:
        indices = np.asarray(frame_idx, dtype=np.int64)
        outside = indices[(indices < 0) | (indices >= self.info.num_frames)]
        if len(outside):
            raise unreadable(self.info.path, f"has no frame {outside[0]}; it has {self.info.num_frames}")
        if np.any(np.diff(indices) < 0):
            raise ValueError("frame indices must not decrease")
        return indices

    def _buffer(self, length: int, size: int | None) -> FrameBatch:
        height, width = (self.info.height, self.info.width) if size is None else (size, size)
        return FrameBatch(
            frames=np.empty((length, height, width, 3), np.uint8),
            frame_idx=np.empty(length, np.int64),
            times_s=np.empty(length),
        )

    def _batches(self, frame_idx: Integers, *, size: int | None, chunk: int) -> Iterator[FrameBatch]:
        distinct, repeats = np.unique(frame_idx, return_counts=True)
        pictures = self._source.pictures(distinct, size=size)
        left, filled = len(frame_idx), 0
        batch = self._buffer(min(chunk, left), size)
        for (index, picture), count in zip(pictures, repeats, strict=True):
            for _ in range(count):
                batch.frames[filled] = picture
                batch.frame_idx[filled] = index
                batch.times_s[filled] = self._source.frame_times_s[index]
                filled += 1
                if filled == len(batch):
                    yield batch
                    left, filled = left - filled, 0
                    batch = self._buffer(min(chunk, left), size)


def open_video(
    path: str | Path, *, reader: str = defaults.VIDEO_READER, fps: float | None = None, name: str | None = None
) -> VideoReader:
    """Open a video file, or a folder with one image per frame, which "frames" always reads, at so many a second.

    Args:
        name: what stands for the path in the video's `info`, where nobody knows the file.

    Raises:
        VideoError: there is no video at `path`, or it cannot be read; the message names path and reason.
        ConfigError: no reader has this name.
        MissingExtraError: the reader's package is not installed.
    """
    path = Path(path)
    chosen = "frames" if path.is_dir() else reader
    source = registry.video_readers.get(chosen)
    if chosen == "frames":
        return VideoReader(source(path, fps=fps))
    if not path.is_file():
        raise unreadable(path, "is not a regular file" if path.exists() else "no such file")
    if path.stat().st_size == 0:
        raise unreadable(path, "the file is empty")
    return VideoReader(source(path), name=name)


def unreadable(path: str | Path, reason: str) -> VideoError:
    """Build the one-line error for a file: its path and what is wrong with it."""
    return VideoError(f"{path}: {reason}".replace("\n", " ").replace("\r", " "))


def uniform_indices(num_frames: int, *, video_frames: int, fps: float, clip: Span | None = None) -> Integers:
    """Return the middle frame of each of `num_frames` equal segments of the video or clip.

    A video with fewer frames than asked for gives `video_frames` indices. A clip that reaches beyond
    the video is shortened to it; one of zero length gives its one frame, as often as frames are wanted.

    Returns:
        Non-decreasing indices within the video, [min(num_frames, video_frames)].

    Raises:
        VideoError: the clip ends before it starts, has a time that is not a number, or lies outside the video.
        ConfigError: `num_frames` is less than one.
    """
    bounds = _segment_bounds(num_frames, video_frames=video_frames, fps=fps, clip=clip)
    return (bounds[:-1] + bounds[1:]) // 2


def random_indices(
    num_frames: int, *, video_frames: int, fps: float, rng: random.Random, clip: Span | None = None
) -> Integers:
    """Return a random frame of each segment; arguments, result and errors as for `uniform_indices`.

    Segments without a frame of their own give the frame they lie in and draw nothing from `rng`.
    """
    bounds = _segment_bounds(num_frames, video_frames=video_frames, fps=fps, clip=clip).tolist()
    return np.array([rng.choice(range(start, end)) if end > start else start for start, end in pairwise(bounds)])


def watched_indices(
    num_frames: int, *, times_s: Floats, duration_s: float, clip: Span | None
) -> tuple[Integers, Span | None]:
    """Return frames spread evenly over a video, or over what is on the screen during a clip; none is repeated.

    At a constant frame rate these are the frames of `uniform_indices`, wherever it repeats none. The frame that is on
    the screen when a clip ends is used only where the clip has fewer frames than wanted. Without a clip it is the whole
    video, sampled as by `uniform_indices`.

    Returns:
        Increasing indices, and the clip as far as it lies within the video.

    Raises:
        VideoError: the clip ends before it starts, has a time that is not a number, or lies outside the video.
        ConfigError: `num_frames` is less than one.
    """
    if clip is None:
        return uniform_indices(num_frames, video_frames=len(times_s), fps=1), None
    within = _within(clip, duration_s)
    # The frame on the screen at a time was shown at or before it.
    ends = np.array([within.start_s, within.end_s]) + _ROUNDING_S
    first, end = (np.searchsorted(np.append(times_s, duration_s), ends, side="right") - 1).tolist()
    first = min(max(first, 0), len(times_s) - 1)
    if end - first < num_frames:
        end = max(int(np.searchsorted(times_s, within.end_s - _ROUNDING_S, side="left")), first + 1)
    bounds = _evenly(first, end, min(num_frames, end - first))
    return (bounds[:-1] + bounds[1:]) // 2, within


def nearest_positions(known: Floats, asked: Floats) -> Integers:
    """Return which of the times or indices that are known, increasing, lies nearest to each that is asked for.

    Halfway between two it is the later one.
    """
    return np.searchsorted((known[1:] + known[:-1]) / 2, asked, side="right")


def rate_indices(
    sample_fps: float, *, times_s: Floats, duration_s: float, clip: Span | None
) -> tuple[Integers, Span | None]:
    """Return the frames that are on the screen at 0, 1, 2, ... / `sample_fps` seconds of a video, or of a clip.

    A frame that is on the screen at several of these times is returned once, so there are never more than the video
    has. Times begin at the clip's start and end before its end, but a clip has one at least. At a constant frame rate
    that is a multiple of `sample_fps` it is every n-th frame from the first on, as AKS and BOLT sample.

    Returns:
        Increasing indices, and the clip as far as it lies within the video.

    Raises:
        VideoError: as for `watched_indices`.
        ConfigError: the rate is not above 0, or not finite.
    """
    if not (math.isfinite(sample_fps) and sample_fps > 0):
        raise ConfigError(f"cannot sample {sample_fps:g} frames a second; give a number above 0")
    within = None if clip is None else _within(clip, duration_s)
    start_s, end_s = (0.0, duration_s) if within is None else (within.start_s, within.end_s)
    total = max(1, math.ceil((end_s - start_s - _ROUNDING_S) * sample_fps))
    # Of each frame, the number of the first time at which it is on the screen or was; the first one is until then.
    first = np.ceil((times_s - start_s - _ROUNDING_S) * sample_fps).clip(0, total)
    first[0] = 0
    return np.flatnonzero(np.diff(first, append=total) > 0), within


def _within(clip: Span, duration_s: float) -> Span:
    """Return a clip as far as it lies within the video."""
    _check_times(clip)
    if clip.start_s >= duration_s or (clip.start_s < 0 and clip.end_s <= 0):
        raise _outside(clip, duration_s)
    return Span(max(clip.start_s, 0.0), min(clip.end_s, duration_s))


def _segment_bounds(num_frames: int, *, video_frames: int, fps: float, clip: Span | None) -> Integers:
    if video_frames < 1 or not (math.isfinite(fps) and fps > 0):
        raise VideoError(f"cannot sample a video of {video_frames} frames at {fps} frames per second")
    start, end = (0, video_frames) if clip is None else _clip_frames(clip, video_frames=video_frames, fps=fps)
    return _evenly(start, end, min(num_frames, video_frames))


def _evenly(start: int, end: int, num_segments: int) -> Integers:
    if num_segments < 1:
        raise ConfigError(f"cannot sample {num_segments} frames; ask for at least 1")
    return np.linspace(start, end, num=num_segments + 1).astype(np.int64)


def _clip_frames(clip: Span, *, video_frames: int, fps: float) -> tuple[int, int]:
    _check_times(clip)
    # Times may be infinite, so they are bounded before they become integers.
    start = int(min(max(clip.start_s * fps, -1.0), video_frames + 1.0))
    end = int(min(max(clip.end_s * fps, -1.0), video_frames + 1.0))
    # A start at the very end is the last frame: annotated times are rounded, often up.
    if start > video_frames or end < 0:
        raise _outside(clip, video_frames / fps)
    return min(max(start, 0), video_frames - 1), min(end, video_frames)


def _check_times(clip: Span) -> None:
    if math.isnan(clip.start_s) or math.isnan(clip.end_s):
        raise VideoError(f"the clip from {clip} has a time that is not a number")
    if clip.end_s < clip.start_s:
        raise VideoError(f"the clip from {clip} ends before it starts")


def _outside(clip: Span, duration_s: float) -> VideoError:
    return VideoError(f"the clip from {clip} lies outside the video, which lasts {duration_s:.2f} s")


def is_array(value: Any) -> bool:
    """Say whether something is a NumPy array or a torch tensor, or can be made one as they do."""
    return isinstance(value, np.ndarray) or hasattr(value, "requires_grad") or hasattr(value, "__array_interface__")

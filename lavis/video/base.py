"""Opening and reading a video; what every reader does, over the one thing that differs: where pictures come from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lavis.common import defaults
from lavis.common.errors import VideoError
from lavis.common.registry import registry
from lavis.common.types import Floats, FrameBatch, Integers, VideoInfo

Picture = npt.NDArray[np.uint8]


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

    def __init__(self, source: PictureSource) -> None:
        self._source = source

    @property
    def info(self) -> VideoInfo:
        """Number of frames, frame rate, duration, size and rotation."""
        return self._source.info

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


def open_video(path: str | Path, *, reader: str = defaults.VIDEO_READER, fps: float | None = None) -> VideoReader:
    """Open a video file, or a folder with one image per frame, which "frames" always reads, at so many a second.

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
    return VideoReader(source(path))


def unreadable(path: str | Path, reason: str) -> VideoError:
    """Build the one-line error for a file: its path and what is wrong with it."""
    return VideoError(f"{path}: {reason}".replace("\n", " ").replace("\r", " "))

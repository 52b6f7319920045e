"""From seconds to indices of frames and back, by the video's own times."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from lavis.common.errors import ConfigError, VideoError
from lavis.common.types import Floats
from lavis.selection.frames_file import ChosenFrames
from lavis.video import nearest_positions, open_video

_FIELDS = {"frame_idx": "indices", "times_s": "seconds"}
FindVideo = Callable[[str], Path]


class Clock:
    """Tells seconds and indices of a video's frames apart.

    Args:
        find: finds a video by its name; None where the videos are not there, so that rows have to know their rate.
    """

    def __init__(self, find: FindVideo | None) -> None:
        self._find = find
        self._times = lru_cache(maxsize=8)(self._read)

    def completed(self, row: ChosenFrames, notes: Counter[str]) -> ChosenFrames:
        """Return a row with seconds and indices, both of the same frames.

        Raises:
            ConfigError: it has one of them, and nobody knows the other.
            VideoError: the video is not there, cannot be read, or has no such frame.
        """
        if row.unreadable is not None or (row.frame_idx is not None and row.times_s is not None):
            return row
        if self._find is not None and row.video:
            times, fps = self._times(row.video)
            row = replace(row, fps=fps, num_frames=len(times))
        elif row.fps is not None:
            notes["rows whose seconds or indices are by the frame rate, not by each frame's own time"] += 1
            times = np.arange(row.num_frames or 0) / row.fps
        else:
            there, missing = ("times_s", "frame_idx") if row.frame_idx is None else ("frame_idx", "times_s")
            raise ConfigError(
                f"{row.name} has {_FIELDS[there]} alone, and neither its fps nor its video is known to tell "
                f"{_FIELDS[missing]}; give the folder of videos"
            )
        return _with_seconds(row, times) if row.times_s is None else _with_indices(row, times, notes)

    def _read(self, name: str) -> tuple[Floats, float]:
        assert self._find is not None, "there are videos"
        place = PurePosixPath(name)
        safe = place.name if place.is_absolute() or ".." in place.parts else name
        with open_video(self._find(safe)) as video:
            return video.times_s(np.arange(video.info.num_frames)), video.info.fps


def _with_seconds(row: ChosenFrames, times: Floats) -> ChosenFrames:
    assert row.frame_idx is not None, "one of both is there"
    if len(times) and row.frame_idx[-1] >= len(times):
        raise VideoError(f"{row.name} has frame {row.frame_idx[-1]} of {row.video!r:.80}, which has {len(times)}")
    known = times[list(row.frame_idx)] if len(times) else np.array(row.frame_idx) / row.fps
    return replace(row, times_s=tuple(known.tolist()))


def _with_indices(row: ChosenFrames, times: Floats, notes: Counter[str]) -> ChosenFrames:
    seconds = np.array(row.times_s)
    if not len(times):
        return replace(row, frame_idx=tuple(np.floor(seconds * row.fps + 0.5).astype(int).tolist()))
    step = float(np.diff(times).max()) if len(times) > 1 else math.inf
    if seconds[-1] > times[-1] + max(step, 1.0):  # published files count up to a second beyond
        raise VideoError(
            f"{row.name} has a frame at {seconds[-1]:g} s of {row.video!r:.80}, which ends at {times[-1]:g} s"
        )
    if seconds[-1] > times[-1] + step:
        notes["rows with seconds after the last frame: the last frame"] += 1
    return replace(row, frame_idx=tuple(nearest_positions(times, seconds).tolist()))

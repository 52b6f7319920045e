"""Videos that were watched for somebody, so that a further question does not watch again."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lavis.common.types import Integers
from lavis.export import jpeg, thumbnail
from lavis.models.pipeline import WatchedVideo

_READ_AT_ONCE = 4


@dataclass
class Watched:
    """A watched video, and the pictures of its frames that were shown so far (JPEG by frame index)."""

    video: WatchedVideo
    _pictures: dict[int, bytes] = field(default_factory=dict)

    def pictures(self, frame_idx: Integers) -> tuple[bytes, ...]:
        """Return small JPEGs of frames, in any order; each frame is read from the file once only."""
        wanted = [int(index) for index in frame_idx]
        missing = np.array(sorted(set(wanted) - self._pictures.keys()), np.int64)
        for start in range(0, len(missing), _READ_AT_ONCE):
            batch = self.video.frames(missing[start : start + _READ_AT_ONCE])
            for index, frame in zip(batch.frame_idx, batch.frames, strict=True):
                self._pictures[int(index)] = jpeg(thumbnail(frame))
        return tuple(self._pictures[index] for index in wanted)


@dataclass(frozen=True)
class _Key:
    visitor: str
    path: Path
    num_frames: int


class WatchedVideos:
    """Watched videos by visitor: only so many, and only for so long.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, *, most: int, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._keep_s = keep_s
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[Watched, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, visitor: str, path: Path, *, num_frames: int) -> Watched | None:
        """Return what this visitor had watched, and no other visitor's."""
        key = _Key(visitor, path, num_frames)
        with self._lock:
            self._expire()
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, visitor: str, path: Path, *, num_frames: int, video: WatchedVideo) -> Watched:
        """Keep a watched video; the one that was not used for longest makes room."""
        watched = Watched(video)
        with self._lock:
            self._expire()
            self._kept[_Key(visitor, path, num_frames)] = (watched, self._clock())
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return watched

    def forget(self, visitor: str) -> None:
        """Drop everything of a visitor who left."""
        with self._lock:
            self._drop(key for key in self._kept if key.visitor == visitor)

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._kept)

    def _expire(self) -> None:
        oldest = self._clock() - self._keep_s
        self._drop(key for key, (_, since) in self._kept.items() if since < oldest)

    def _drop(self, keys: Iterable[_Key]) -> None:
        for key in list(keys):
            del self._kept[key]

"""Decord, the reader of the published code (optional extra "decord")."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from lavis.common.errors import MissingExtraError
from lavis.common.types import Integers, VideoInfo
from lavis.video.base import Picture, unreadable
from lavis.video.pyav import PyAVSource

try:
    import decord
except ImportError as error:
    raise MissingExtraError("decord", "decord") from error

_FRAMES_AT_ONCE = 8
_SIZE_TO_COMPARE = 224
# From files of other formats it returned other frames than those asked for.
_FORMATS = ("mp4", "matroska")


class DecordSource:
    """Pictures of a video file, decoded by decord; what the file is and its times come from PyAV.

    Raises:
        VideoError: the file is not a video, or one that decord reads wrongly (edit lists, open groups, a missing end).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(PyAVSource(path)) as probe:
            self.info: VideoInfo = probe.info
            self.frame_times_s = probe.frame_times_s
            self.warnings: list[str] = probe.warnings
            self._check(probe)

    def _check(self, probe: PyAVSource) -> None:
        """Refuse what decord is known to read wrongly."""
        if not any(name in probe.format_name for name in _FORMATS):
            raise self._unsuited(f"does not read {probe.format_name} files reliably")
        if probe.index.open_groups:
            raise self._unsuited("gives wrong frames of open groups of pictures")
        if probe.index.in_file_order:
            raise self._unsuited("needs timestamps that follow one another")
        # Decord turns by whole right angles, and mirrors nothing.
        turned = int(probe.upright.angle)
        self._left_to_turn = probe.upright.after(turned if turned in (90, 180, 270) else 0)
        num_frames = len(self._open(size=None))
        if num_frames != self.info.num_frames:
            raise self._unsuited(f"finds {num_frames} frames where {self.info.num_frames} are shown")
        if probe.num_video_streams > 1 and not self._starts_as(probe):
            raise self._unsuited("may have chosen another of its video streams")

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`."""
        reader = self._open(size=size)
        for start in range(0, len(frame_idx), _FRAMES_AT_ONCE):
            some = frame_idx[start : start + _FRAMES_AT_ONCE].tolist()
            try:
                pictures = reader.get_batch(some).asnumpy()
            except (decord.DECORDError, IndexError) as error:
                # Some sizes, such as 48, fail inside decord, which forgets that rows are padded.
                raise self._unsuited("cannot decode it" + (f" at size {size}" if size else "")) from error
            for index, picture in zip(some, pictures, strict=True):
                mirrored = picture[:, ::-1] if self._left_to_turn.mirrored else picture
                yield index, np.rot90(mirrored, k=-self._left_to_turn.rotation // 90)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _starts_as(self, other: PyAVSource) -> bool:
        start = np.zeros(1, dtype=np.int64)
        (_, one), (_, another) = (next(source.pictures(start, size=_SIZE_TO_COMPARE)) for source in (self, other))
        return np.array_equal(one, another)

    def _open(self, *, size: int | None) -> "decord.VideoReader":
        width, height = size or self.info.width, size or self.info.height
        if self._left_to_turn.rotation % 180:
            width, height = height, width
        try:
            return decord.VideoReader(str(self._path), width=width, height=height)
        except (decord.DECORDError, RuntimeError) as error:
            raise self._unsuited("cannot open it") from error

    def _unsuited(self, reason: str) -> Exception:
        return unreadable(self._path, f"decord {reason}; use the reader pyav")

"""The default reader: FFmpeg's libraries, bundled with PyAV."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from lavis.common.types import Integers, VideoInfo
from lavis.video.base import Picture, unreadable
from lavis.video.decoder import FrameDecoder
from lavis.video.index import build_index
from lavis.video.limits import LimitError
from lavis.video.media import open_media
from lavis.video.picture import PictureMaker, orientation

_HIGH_DYNAMIC_RANGE = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ and HLG
_OPAQUE = 255


class PyAVSource:
    """Pictures of a video file, decoded by FFmpeg.

    Raises:
        VideoError: the file is not a video, holds no frames, or none of them can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        media = open_media(path)
        container, stream = media.container, media.stream
        self.format_name = container.format.name
        self.stream_index, self.num_video_streams = stream.index, len(container.streams.video)
        try:
            index = build_index(container, stream)
            media.file.end_metering()
        except LimitError as error:
            media.close()
            raise unreadable(path, str(error)) from error
        if index is None:
            media.close()
            raise unreadable(path, "holds no video frames")
        self._decoder = FrameDecoder(media, index, reopen=partial(open_media, path))
        self._undecodable: set[int] = set()
        self._concealed: set[int] = set()
        self.index = index
        self.frame_times_s = index.times_s
        first = self._first_frame()
        self.upright = orientation(first)
        self._said = [*media.warnings, *index.warnings, *self.upright.warnings, *_unshown(stream, first)]
        quarter = self.upright.rotation % 180
        width, height = (first.height, first.width) if quarter else (first.width, first.height)
        self.info = VideoInfo(
            path=str(path),
            num_frames=len(index.pts),
            fps=index.fps,
            duration_s=index.duration_s,
            width=width,
            height=height,
            rotation=self.upright.rotation,
            mirrored=self.upright.mirrored,
        )

    @property
    def warnings(self) -> list[str]:
        """What is missing or damaged, as far as it is known."""
        told = {
            "frames that cannot be decoded, so that those nearest to them are used": len(self._undecodable),
            "frames of which a part was lost, so that FFmpeg filled it in": len(self._concealed),
        }
        return [*self._said, *(f"{what}: {count}" for what, count in told.items() if count)]

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`."""
        make_picture = PictureMaker(
            width=size or self.info.width, height=size or self.info.height, upright=self.upright
        )
        decoded = self._decoded(frame_idx)
        for asked in frame_idx.tolist():
            index, frame = next(decoded, (None, None))
            if index is None or frame is None:
                raise unreadable(self._path, f"neither frame {asked} nor any near it can be decoded")
            if index != asked:
                self._undecodable.add(asked)
            if frame.is_corrupt:
                self._concealed.add(index)
            try:
                picture = make_picture(frame)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                raise unreadable(self._path, f"frame {index} cannot be converted to RGB ({error})") from error
            yield index, picture

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()

    def _decoded(self, frame_idx: Integers) -> Iterator[tuple[int, VideoFrame]]:
        try:
            yield from self._decoder.frames(frame_idx)
        except LimitError as error:
            raise unreadable(self._path, str(error)) from error

    def _first_frame(self) -> VideoFrame:
        for _, frame in self._decoded(np.zeros(1, dtype=np.int64)):
            return frame
        self.close()
        raise unreadable(self._path, "none of its frames can be decoded")


def _unshown(stream: VideoStream, first: VideoFrame) -> list[str]:
    """Say what of the pictures RGB of 8 bits does not show."""
    has_alpha = any(component.is_alpha for component in first.format.components)
    transparent = has_alpha and first.reformat(format="rgba").to_ndarray()[..., 3].min() < _OPAQUE
    told = {
        "its colours are of high dynamic range, and are read without adapting them": stream.codec_context.color_trc
        in _HIGH_DYNAMIC_RANGE,
        "its pictures are transparent in places, and are read as if they were not": transparent
        or stream.metadata.get("alpha_mode") == "1",
    }
    return [what for what, is_so in told.items() if is_so]

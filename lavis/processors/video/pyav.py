"""The default reader: FFmpeg's libraries, bundled with PyAV."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lavis.common.types import Integers, VideoInfo
from lavis.processors.video.base import Picture, unreadable
from lavis.processors.video.decoder import FrameDecoder
from lavis.processors.video.index import build_index
from lavis.processors.video.picture import PictureMaker

# Playlists, scripts and subtitles are formats too for FFmpeg, and may name other files and addresses.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,ogg,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,gif,mp3,wav,flac,aac"
)
_MAX_PIXELS = 8192 * 4352  # the largest picture of H.264's highest level
_MAX_THREADS = 4  # each holds decoded frames of its own; more gain little on short runs between seeks


class PyAVSource:
    """Pictures of a video file, decoded by FFmpeg.

    Raises:
        VideoError: the file is not a video, holds no frames, or none of them can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        container, stream = _open(path)
        self.format_name = container.format.name
        index = build_index(container, stream)
        if index is None:
            container.close()
            raise unreadable(path, "holds no video frames")
        self._decoder = FrameDecoder(container, stream, index, reopen=partial(_open, path))
        self._undecodable: set[int] = set()
        self.index = index
        self.frame_times_s = index.times_s
        first = self._first_frame()
        rotation = -round(first.rotation / 90) * 90 % 360
        width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
        self.info = VideoInfo(
            path=str(path),
            num_frames=len(index.pts),
            fps=index.fps,
            duration_s=index.duration_s,
            width=width,
            height=height,
            rotation=rotation,
        )

    @property
    def warnings(self) -> list[str]:
        """What is missing or damaged, as far as it is known."""
        count = len(self._undecodable)
        damage = [f"frames that cannot be decoded, so that those nearest to them are used: {count}"] if count else []
        return [*self.index.warnings, *damage]

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`."""
        make_picture = PictureMaker(
            width=size or self.info.width, height=size or self.info.height, rotation=self.info.rotation
        )
        decoded = self._decoder.frames(frame_idx)
        for asked in frame_idx.tolist():
            index, frame = next(decoded, (None, None))
            if index is None or frame is None:
                raise unreadable(self._path, f"neither frame {asked} nor any near it can be decoded")
            if index != asked:
                self._undecodable.add(asked)
            try:
                picture = make_picture(frame)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                raise unreadable(self._path, f"frame {index} cannot be converted to RGB ({error})") from error
            yield index, picture

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()

    def _first_frame(self) -> VideoFrame:
        for _, frame in self._decoder.frames(np.zeros(1, dtype=np.int64)):
            return frame
        self.close()
        raise unreadable(self._path, "none of its frames can be decoded")


def _open(path: Path) -> tuple[InputContainer, VideoStream]:
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, UnicodeError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise unreadable(path, f"not a video file, or damaged beyond reading ({reason})") from error
    try:
        stream = _video_stream(container)
    except ValueError as error:
        container.close()
        raise unreadable(path, str(error)) from error
    return container, stream


def _video_stream(container: InputContainer) -> VideoStream:
    """Return the stream to decode, prepared for it; a ValueError says why there is none."""
    # A cover picture in a sound file is a video stream too.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError("holds no video, only sound" if container.streams.audio else "holds no video")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None:
        raise ValueError("its video is in a format that cannot be decoded")
    if codec.width * codec.height > _MAX_PIXELS:
        raise ValueError(f"its pictures of {codec.width} × {codec.height} pixels are too large to decode")
    codec.options = {"max_pixels": str(_MAX_PIXELS)}  # the size may change on the way
    codec.thread_type = "AUTO"
    codec.thread_count = min(_MAX_THREADS, os.cpu_count() or 1)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream

"""The default reader: FFmpeg's libraries, bundled with PyAV."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from lavis.common.types import Integers, VideoInfo
from lavis.processors.video.base import Picture, unreadable
from lavis.processors.video.boxes import check_boxes, looks_like_mp4
from lavis.processors.video.decoder import FrameDecoder
from lavis.processors.video.index import build_index
from lavis.processors.video.limits import MAX_PIXELS, LimitError, check_picture, limit_allocations, num_threads
from lavis.processors.video.picture import PictureMaker, orientation

# Playlists, scripts and subtitles are formats too for FFmpeg, and may name other files and addresses.
_FORMATS = "matroska,webm,avi,flv,asf,ogg,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,gif,mp3,wav,flac,aac"
_MP4_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2"  # of files whose boxes were checked, and of no others
_HIGH_DYNAMIC_RANGE = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ and HLG
_OPAQUE = 255
_MAX_STREAMS = "200"  # each is given a decoder
# A title need not be UTF-8. PyAV 19 always takes it as it comes, and no longer knows the option.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


class PyAVSource:
    """Pictures of a video file, decoded by FFmpeg.

    Raises:
        VideoError: the file is not a video, holds no frames, or none of them can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        container, stream = _open(path)
        self.format_name = container.format.name
        self.stream_index, self.num_video_streams = stream.index, len(container.streams.video)
        index = build_index(container, stream)
        if index is None:
            container.close()
            raise unreadable(path, "holds no video frames")
        self._decoder = FrameDecoder(container, stream, index, reopen=partial(_open, path))
        self._undecodable: set[int] = set()
        self.index = index
        self.frame_times_s = index.times_s
        first = self._first_frame()
        self.upright = orientation(first)
        self._unshown = _unshown(stream, first)
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
        count = len(self._undecodable)
        damage = [f"frames that cannot be decoded, so that those nearest to them are used: {count}"] if count else []
        return [*self.index.warnings, *self.upright.warnings, *self._unshown, *damage]

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


def _open(path: Path) -> tuple[InputContainer, VideoStream]:
    limit_allocations()
    try:
        options = _checked_options(path)
        container = _open_container(path, options)
    except LimitError as error:
        raise unreadable(path, str(error)) from error
    except (av.FFmpegError, OSError, UnicodeError, MemoryError) as error:
        known = not isinstance(error, av.ArgumentError)  # what FFmpeg raises for a format outside of the list
        reason = (getattr(error, "strerror", None) or str(error)) if known else "no known format"
        raise unreadable(path, f"not a video file, or damaged beyond reading ({reason})") from error
    try:
        stream = _video_stream(container)
    except ValueError as error:
        container.close()
        raise unreadable(path, str(error)) from error
    return container, stream


def _checked_options(path: Path) -> dict[str, str]:
    """Return how FFmpeg may open a file, after checks of what opening it would cost: FFmpeg decodes some pictures."""
    limits = {"protocol_whitelist": "file", "max_streams": _MAX_STREAMS, "max_pixels": str(MAX_PIXELS)}
    if looks_like_mp4(path):
        check_boxes(path)
        return {**limits, "format_whitelist": _MP4_FORMATS}
    options = {**limits, "format_whitelist": _FORMATS}
    # Where streams are found on the way, as in MPEG-TS, FFmpeg takes no limits for them. So look without decoders.
    with _open_container(path, {**options, "codec_whitelist": "none"}) as parsed:
        for codec in (stream.codec_context for stream in parsed.streams.video):
            if codec is not None:
                check_picture(codec.width, codec.height, None)
    return options


def _open_container(path: Path, options: dict[str, str]) -> InputContainer:
    return av.open(f"file:{path}", options=options, **_METADATA)


def _video_stream(container: InputContainer) -> VideoStream:
    """Return the stream to decode, prepared for it; a ValueError says why there is none."""
    # A cover picture is a video stream too. FFmpeg's own choice goes by the flag "default" before all else.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError("holds no video, only sound" if container.streams.audio else "holds no video")
    best = container.streams.best("video")
    chosen = [stream for stream in streams if stream is best]
    stream = next(iter(chosen), max(streams, key=lambda stream: bool(stream.disposition & Disposition.default)))
    codec = stream.codec_context
    if codec is None:
        raise ValueError("its video is in a format that cannot be decoded")
    check_picture(codec.width, codec.height, codec.format)
    codec.options = {"max_pixels": str(MAX_PIXELS)}  # the size may change on the way
    codec.thread_type = "AUTO"
    codec.thread_count = num_threads(codec.width, codec.height, codec.format, cores=os.cpu_count() or 1)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream

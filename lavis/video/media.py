"""Opening a video file within limits, and choosing the stream in it that is read."""

import io
import os
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from lavis.video.base import unreadable
from lavis.video.limits import (
    MAX_PIXELS,
    LimitError,
    check_boxes,
    check_picture,
    limit_allocations,
    looks_like_mp4,
    num_threads,
)

# Playlists, scripts and subtitles are formats too for FFmpeg, and may name other files and addresses.
_FORMATS = "matroska,webm,avi,flv,asf,ogg,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,gif,mp3,wav,flac,aac"
_MP4_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2"  # of files whose boxes were checked, and of no others
_MAX_STREAMS = "200"  # FFmpeg makes a decoder for each
# A title need not be UTF-8. PyAV 19 always takes it as it comes, and no longer knows the option.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_ALLOWED_S, _ALLOWED_BYTES_PER_S = 3.0, 100e6  # CPU time for finding all packets; usual files take a tenth of it


class MeteredFile(io.FileIO):
    """A file for FFmpeg that seems to end once finding its packets has taken too much work for its size.

    In some formats a crafted file can hold a structure every few bytes, and FFmpeg goes through all of them without
    returning a packet.

    Attributes:
        metered: the CPU time of this thread since the file was opened is limited.
        exhausted: the limit was reached.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.metered = True
        self.exhausted = False
        self._ends_s = time.thread_time() + _ALLOWED_S + os.fstat(self.fileno()).st_size / _ALLOWED_BYTES_PER_S

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as from any file; nothing once the limit is reached."""
        if self.metered and time.thread_time() > self._ends_s:
            self.exhausted = True
        return b"" if self.exhausted else super().read(-1 if size is None else size) or b""

    def check(self) -> None:
        """Raise a LimitError if the limit was reached."""
        if self.exhausted:
            raise LimitError("finding its frames takes too much work for its size; convert it to MP4")

    def end_metering(self) -> None:
        """Limit the work no longer; raises as `check`."""
        self.metered = False
        self.check()


@dataclass(frozen=True, slots=True)
class Media:
    """An open file, and the stream in it that is read."""

    container: InputContainer
    stream: VideoStream
    file: MeteredFile
    warnings: tuple[str, ...] = ()

    def close(self) -> None:
        """Release the file."""
        self.container.close()
        self.file.close()


def open_media(path: Path) -> Media:
    """Open a file and choose its video stream.

    Raises:
        VideoError: it is no video that is read, or costs more than it may.
    """
    limit_allocations()
    with ExitStack() as opened:
        try:
            file = opened.enter_context(closing(MeteredFile(path)))
            num_movies = 1
            try:
                if is_mp4 := looks_like_mp4(path):
                    num_movies = check_boxes(path)
                options = _options(file, is_mp4=is_mp4)
                container = opened.enter_context(_open_container(file, options))
            except av.FFmpegError:
                file.check()
                raise
            stream = _video_stream(container)
        except (av.FFmpegError, OSError, UnicodeError, MemoryError) as error:
            known = not isinstance(error, av.ArgumentError)  # what FFmpeg raises for a format outside of the list
            reason = (getattr(error, "strerror", None) or str(error)) if known else "no known format"
            raise unreadable(path, f"not a video file, or damaged beyond reading ({reason})") from error
        except ValueError as error:  # which says why there is no video, or what is too much
            raise unreadable(path, str(error)) from error
        opened.pop_all()
        said = f"it holds {num_movies} movies one after the other, of which the first is read"
        return Media(container, stream, file, warnings=(said,) if num_movies > 1 else ())


def _options(file: MeteredFile, *, is_mp4: bool) -> dict[str, str]:
    """Return how FFmpeg may open a file, after checking the size of the pictures that it decodes while opening."""
    limits = {"protocol_whitelist": "file", "max_streams": _MAX_STREAMS, "max_pixels": str(MAX_PIXELS)}
    if is_mp4:
        return {**limits, "format_whitelist": _MP4_FORMATS}
    options = {**limits, "format_whitelist": _FORMATS}
    # FFmpeg applies no limits to streams that it finds while reading, as in MPEG-TS; so open without decoders first.
    with _open_container(file, {**options, "codec_whitelist": "none"}) as parsed:
        for codec in (stream.codec_context for stream in parsed.streams.video):
            if codec is not None:
                check_picture(codec.width, codec.height, None)
    return options


def _open_container(file: MeteredFile, options: dict[str, str]) -> InputContainer:
    file.seek(0)
    return av.open(file, options=options, **_METADATA)


def _video_stream(container: InputContainer) -> VideoStream:
    """Return the stream to decode, prepared for it; a ValueError says why there is none."""
    # A cover picture is a video stream too, and FFmpeg's own choice could be one that is flagged as default.
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

"""Opening a video file within limits: memory per picture and per allocation, work per frame, what an MP4 declares.

A table of MP4 and QuickTime files states how many samples follow. Where all of them have one size, or take their
defaults, the statement is all there is: four bytes that make FFmpeg build an index of gigabytes.
"""

import ctypes
import io
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.buffer
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from lavis.video.base import unreadable

MAX_PIXELS = 4096 * 4096
"""Of a picture; 5.7K fits, 8K does not."""

_MAX_PICTURE_BYTES = 40_000_000  # twenty of them, as a decoder may have to keep, then fit into a gigabyte
_FEWEST_BYTES_PER_PIXEL = 1.5  # 4:2:0, as nearly all videos are stored
_MAX_ALLOCATION = 1 << 27  # the largest picture as RGB takes 50 MB, a photograph 72 MB
_THREADS_BYTES = 80_000_000
_MAX_THREADS = 4  # each holds decoded frames of its own; more gain little on short runs between seeks
_MAX_RUN_PIXELS = 6_000_000_000  # a minute and a half of 1080p without a keyframe; some seconds of work
PIXELS_PER_PICTURE = 100_000  # which the smallest picture costs too
PIXELS_PER_PACKET = 10_000  # which reading costs, decoded or not

# Of what an MP4 or QuickTime file declares.
_MAX_SAMPLES = 5_000_000  # of all tracks; 10 hours of 60 frames and 47 sound packets per second have 4 million
_MAX_BOXES = 500_000  # at the top level, where a fragmented file has two every few seconds
_FIRST_BOXES = frozenset(
    b"ftyp moov mdat moof styp sidx free skip wide pnot udta uuid junk pict ediw prfl meta".split()
)
_MAX_TABLES = 1_000_000  # a fragment has one for each track
_MAX_TRACKS = 1000
_NAMES = re.compile(rb"(?=cmov|hdlr|stsz|stts|stz2|trak|trun)")  # they may overlap
_FIELDS_BYTES = 16
_PICTURE_KINDS = {b"vide", b"subp", b"clcp"}
_CHUNK_BYTES = 1 << 20

# Playlists, scripts and subtitles are formats too for FFmpeg, and may name other files and addresses.
_FORMATS = "matroska,webm,avi,flv,asf,ogg,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,gif,mp3,wav,flac,aac"
_MP4_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2"  # of files whose boxes were checked, and of no others
_MAX_STREAMS = "200"  # FFmpeg makes a decoder for each
# A title need not be UTF-8. PyAV 19 always takes it as it comes, and no longer knows the option.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_ALLOWED_S, _ALLOWED_BYTES_PER_S = 3.0, 100e6  # CPU time for finding all packets; usual files take a tenth of it


class LimitError(ValueError):
    """A file that would cost more than it may."""


@cache
def limit_allocations() -> None:
    """Have FFmpeg refuse single allocations that no video needs, whatever a file declares.

    This holds for PyAV's FFmpeg in the whole process. Where it cannot be reached, its own limit of 2 GB stays.
    """
    with suppress(OSError, AttributeError):
        # Not part of PyAV's interface; found in the library that every extension module of it is linked with.
        ctypes.CDLL(av.buffer.__file__).av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION))


def check_picture(width: int, height: int, pixels: VideoFormat | None) -> None:
    """Refuse by a LimitError pictures that take too much memory to decode, stored as `pixels` says if it is known."""
    if width * height > MAX_PIXELS or _picture_bytes(width, height, pixels) > _MAX_PICTURE_BYTES:
        stored = f" ({pixels.name})" if pixels else ""
        raise LimitError(f"its pictures of {width} × {height} pixels{stored} are too large to decode; scale it down")


class RunBudget:
    """Bounds what is read and decoded for a single frame, counted in pixels."""

    def __init__(self) -> None:
        self._num_pixels = 0

    def spend(self, num_pixels: int) -> None:
        """Count some more; a LimitError says that it is too much."""
        self._num_pixels += num_pixels
        if self._num_pixels > _MAX_RUN_PIXELS:
            raise LimitError(
                f"more than {_MAX_RUN_PIXELS // 10**9} billion pixels must be decoded for a single frame; "
                "encode it again, smaller or with more keyframes"
            )


def num_threads(width: int, height: int, pixels: VideoFormat | None, *, cores: int) -> int:
    """Return how many threads may decode pictures of this size."""
    fitting = _THREADS_BYTES // max(1, _picture_bytes(width, height, pixels))
    return max(1, min(_MAX_THREADS, cores, fitting))


def _picture_bytes(width: int, height: int, pixels: VideoFormat | None) -> int:
    per_pixel = max(_FEWEST_BYTES_PER_PIXEL, pixels.padded_bits_per_pixel / 8 if pixels else 0)
    return int(width * height * per_pixel)


def looks_like_mp4(path: Path) -> bool:
    """Say whether a file starts as MP4 and QuickTime files do."""
    with path.open("rb") as file:
        return file.read(8)[4:] in _FIRST_BOXES


def check_boxes(path: Path) -> int:
    """Refuse an MP4 or QuickTime file whose tables would take more memory or time than its frames.

    Tables are found by their names wherever they stand outside of the media data, not by following the boxes:
    a crafted file may nest them in a way that this module and FFmpeg would understand differently. Every byte is
    looked at once, and read rather than mapped, since a file may shrink meanwhile.

    Returns:
        How many movies stand one after the other, of which FFmpeg reads the first; 1 in an ordinary file.

    Raises:
        LimitError: the file declares too many samples, tracks, tables or boxes, or its tables are compressed.
        OSError: it cannot be read.
    """
    tally, num_movies = _Tally(), 0
    with path.open("rb", buffering=0) as file:
        for kind, start, end in _tables(file):
            num_movies += kind == b"moov"
            for name, fields in _found(file, start, end):
                tally.add(name, fields)
            tally.end_track()
    return num_movies


def _tables(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of everything at the top level that is not media data."""
    position, boxes, total = 0, 0, file.seek(0, os.SEEK_END)
    while position + 8 <= total:
        boxes += 1
        if boxes > _MAX_BOXES:
            raise LimitError(f"it has more than {_MAX_BOXES} boxes at its top level")
        file.seek(position)
        header = file.read(16).ljust(16, b"\0")
        size, kind, long_size = struct.unpack(">I4sQ", header)
        if size == 1:
            size = long_size
        if size == 0:
            size = total - position
        if size < 8:
            return
        if kind != b"mdat":
            yield kind, position, min(position + size, total)
        position += size


def _found(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names of tables in the order of the file, and the bytes that follow each."""
    for position in range(start, end, _CHUNK_BYTES):
        file.seek(position)
        length = min(_CHUNK_BYTES, end - position)
        chunk = file.read(length + 4 + _FIELDS_BYTES)
        for match in _NAMES.finditer(chunk, 0, length + 3):
            fields = match.start() + 4
            yield chunk[fields - 4 : fields], chunk[fields : fields + _FIELDS_BYTES].ljust(_FIELDS_BYTES, b"\0")


class _Tally:
    """Counts what is declared, table by table in the order of the file."""

    def __init__(self) -> None:
        self._num_samples = self._num_tracks = self._num_tables = 0
        self._begin_track()

    def add(self, name: bytes, fields: bytes) -> None:
        """Count one table, of which the bytes after its name are given; a LimitError says what is too much."""
        self._num_tables += 1
        if self._num_tables > _MAX_TABLES:
            raise LimitError(f"it has more than {_MAX_TABLES} tables")
        _, second, third, fourth = struct.unpack(">4I", fields)
        if name == b"cmov":
            raise LimitError("its tables are compressed (a 'cmov' box), which is not read; convert it to MP4")
        if name == b"trak":
            self.end_track()
            self._num_tracks += 1
            if self._num_tracks > _MAX_TRACKS:
                raise LimitError(f"it has more than {_MAX_TRACKS} tracks")
        elif name == b"hdlr":
            self._kinds.add(fields[8:12])
        elif name == b"stts":
            self._one_tick_each.append(second == 1 and fourth == 1)  # one entry, and every sample lasts one tick
        elif name == b"trun":
            self._add_samples(second)
        else:
            self._num_track_samples += third

    def end_track(self) -> None:
        """Count the samples of the track whose tables came last."""
        is_sound = b"soun" in self._kinds and not self._kinds & _PICTURE_KINDS
        is_raw_sound = is_sound and bool(self._one_tick_each) and all(self._one_tick_each)
        if not is_raw_sound:  # which has millions of samples a minute, of which FFmpeg indexes only chunks
            self._add_samples(self._num_track_samples)
        self._begin_track()

    def _begin_track(self) -> None:
        self._num_track_samples = 0
        self._kinds: set[bytes] = set()
        self._one_tick_each: list[bool] = []

    def _add_samples(self, number: int) -> None:
        self._num_samples += number
        if self._num_samples > _MAX_SAMPLES:
            raise LimitError(f"it declares {self._num_samples} samples, more than the {_MAX_SAMPLES} that are read")


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
            num_movies = check_boxes(path) if looks_like_mp4(path) else None
            try:
                options = _options(file, is_mp4=num_movies is not None)
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
        return Media(container, stream, file, warnings=(said,) if (num_movies or 1) > 1 else ())


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

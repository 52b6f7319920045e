"""What a file may cost: memory per picture and per allocation, decoding per frame, and what an MP4 declares.

A table of MP4 and QuickTime files states how many samples follow. Where all of them have one size, or take their
defaults, the statement is all there is: four bytes that make FFmpeg build an index of gigabytes.
"""

import ctypes
import os
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import av.buffer
from av.video.format import VideoFormat

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


class LimitError(ValueError):
    """A file that would cost more than it may."""


@cache
def limit_allocations() -> None:
    """Have FFmpeg refuse single allocations that no video needs, whatever a file declares.

    This holds for PyAV's FFmpeg in the whole process. Where it cannot be reached, its own limit of 2 GB stays.
    """
    try:
        # Not part of PyAV's interface; found in the library that every extension module of it is linked with.
        ctypes.CDLL(av.buffer.__file__).av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION))
    except (OSError, AttributeError):
        return


def check_picture(width: int, height: int, pixels: VideoFormat | None) -> None:
    """Refuse pictures that take too much memory to decode.

    Args:
        pixels: how they are stored, as far as it is known.

    Raises:
        LimitError: they are too large.
    """
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
    """Say whether a file starts as MP4 and QuickTime files do.

    Raises:
        OSError: it cannot be read.
    """
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

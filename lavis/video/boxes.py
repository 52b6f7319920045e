"""What an MP4 or QuickTime file declares about itself, checked before FFmpeg believes it.

A table of these files states how many samples follow. Where all of them have one size, or take their defaults,
the statement is all there is: four bytes that make FFmpeg build an index of gigabytes.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lavis.video.limits import LimitError

_MAX_SAMPLES = 5_000_000  # of all tracks; 10 hours of 60 frames and 47 sound packets per second have 4 million
_MAX_BOXES = 500_000  # at the top level, where a fragmented file has two every few seconds
_FIRST_BOXES = frozenset(
    b"ftyp moov mdat moof styp sidx free skip wide pnot udta uuid junk pict ediw prfl meta".split()
)
_MAX_TABLES = 1_000_000  # a fragment has one for each track
_MAX_TRACKS = 1000
_NAMES = (b"cmov", b"hdlr", b"stsz", b"stts", b"stz2", b"trak", b"trun")
_FIELDS_BYTES = 16
_PICTURE_KINDS = {b"vide", b"subp", b"clcp"}
_CHUNK_BYTES = 1 << 20


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
        places = sorted(place for name in _NAMES for place in _places(chunk, name) if place < length)
        for place in places:
            yield chunk[place : place + 4], chunk[place + 4 : place + 4 + _FIELDS_BYTES].ljust(_FIELDS_BYTES, b"\0")


def _places(chunk: bytes, name: bytes) -> Iterator[int]:
    place = chunk.find(name)
    while place >= 0:
        yield place
        place = chunk.find(name, place + 4)


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
        if not is_raw_sound:  # of which there are millions a minute, while FFmpeg indexes its chunks only
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

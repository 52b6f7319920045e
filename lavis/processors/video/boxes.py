"""What an MP4 or QuickTime file declares about itself, checked before FFmpeg believes it.

A table of these files states how many samples follow. Where all of them have one size, or take their defaults,
the statement is all there is: four bytes that make FFmpeg build an index of gigabytes.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from lavis.processors.video.limits import LimitError

_MAX_SAMPLES = 5_000_000  # of all tracks; 10 hours of 60 frames and 47 sound packets per second have 4 million
_MAX_BOXES = 500_000  # at the top level, where a fragmented file has two every few seconds
_FIRST_BOXES = frozenset(
    b"ftyp moov mdat moof styp sidx free skip wide pnot udta uuid junk pict ediw prfl meta".split()
)
_COMPRESSED = b"cmov"


def looks_like_mp4(path: Path) -> bool:
    """Say whether a file starts as MP4 and QuickTime files do.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(8)[4:] in _FIRST_BOXES


def check_boxes(path: Path) -> None:
    """Refuse an MP4 or QuickTime file whose tables would take more memory than its frames.

    Tables are found by their names wherever they stand outside of the media data, not by following the boxes:
    a crafted file may nest them in a way that this module and FFmpeg would understand differently.

    Raises:
        LimitError: the file declares too many samples or boxes, or its tables are compressed.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        samples = 0
        for start, end in _tables(content):
            if content.find(_COMPRESSED, start, end) >= 0:
                raise LimitError("its tables are compressed (a 'cmov' box), which is not read; convert it to MP4")
            samples += _declared_samples(content, start, end)
            if samples > _MAX_SAMPLES:
                raise LimitError(f"it declares {samples} samples, more than the {_MAX_SAMPLES} that are read")


def _tables(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield start and end of everything at the top level that is not media data."""
    position, boxes, total = 0, 0, len(content)
    while position + 8 <= total:
        boxes += 1
        if boxes > _MAX_BOXES:
            raise LimitError(f"it has more than {_MAX_BOXES} boxes at its top level")
        size, kind = struct.unpack_from(">I4s", content, position)
        if size == 1 and position + 16 <= total:
            size = struct.unpack_from(">Q", content, position + 8)[0]
        if size == 0:
            size = total - position
        if size < 8:
            return
        if kind != b"mdat":
            yield position, min(position + size, total)
        position += size


def _declared_samples(content: mmap.mmap, start: int, end: int) -> int:
    tracks = [*_found(content, b"trak", start, end), end]
    return sum(
        _track_samples(content, first, last) for first, last in zip([start, *tracks[:-1]], tracks, strict=True)
    ) + sum(_number(content, place + 8) for place in _found(content, b"trun", start, end))


def _track_samples(content: mmap.mmap, start: int, end: int) -> int:
    if _is_raw_sound(content, start, end):
        return 0  # millions a minute, of which FFmpeg indexes chunks only
    tables = (place for name in (b"stsz", b"stz2") for place in _found(content, name, start, end))
    return sum(_number(content, place + 12) for place in tables)


def _is_raw_sound(content: mmap.mmap, start: int, end: int) -> bool:
    kinds = {content[place + 12 : place + 16] for place in _found(content, b"hdlr", start, end)}
    times = [place for place in _found(content, b"stts", start, end) if place + 20 <= end]
    # One entry, and every sample lasts one tick.
    lasts_one_tick = all(_number(content, at + 8) == 1 and _number(content, at + 16) == 1 for at in times)
    return b"soun" in kinds and not kinds & {b"vide", b"subp", b"clcp"} and bool(times) and lasts_one_tick


def _found(content: mmap.mmap, name: bytes, start: int, end: int) -> Iterator[int]:
    """Yield where a box's name stands."""
    place = content.find(name, start, end)
    while place >= 0:
        yield place
        place = content.find(name, place + 4, end)


def _number(content: mmap.mmap, position: int) -> int:
    """Return the number at a position; 0 where the file ends before it does."""
    return int.from_bytes(content[position : position + 4], "big") if position + 4 <= len(content) else 0

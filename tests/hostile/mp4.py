"""Lying MP4 files: tables, times and sizes that are not true, made from good files."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator

HUGE = (0x7FFF_FFFF, 0xFFFF_FFFF, 0x8000_0000, 0x1000_0000, 5_600_000, 50_000_000, 100_000, 0)
Lie = Callable[[bytearray, random.Random], None]

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf", b"moof", b"traf"})
# Where, after its name, a table says how many entries it has.
_COUNTS = {
    b"stts": 4, b"stss": 4, b"stsc": 4, b"stco": 4, b"ctts": 4, b"elst": 4, b"stsd": 4, b"dref": 4,
    b"stsz": 8, b"trun": 4, b"sgpd": 8, b"sbgp": 8, b"tfhd": 4, b"sidx": 26,
}  # fmt: skip


def boxes(content: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of every box, those within others too."""
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", content, start)
        if not 8 <= size <= end - start:
            return
        yield name, start, start + size
        if name in _CONTAINERS:
            yield from boxes(content, start + 8, start + size)
        start += size


def _places(content: bytearray, name: bytes) -> list[int]:
    return [start + 4 for found, start, _ in boxes(content) if found == name]


def _set(content: bytearray, name: bytes, offset: int, value: int, *, number: int = 0) -> None:
    places = _places(content, name)
    if places:
        struct.pack_into(">I", content, places[number % len(places)] + 4 + offset, value & 0xFFFF_FFFF)


def huge_table(content: bytearray, rng: random.Random) -> None:
    """A table claims more entries than the file has bytes."""
    present = [name for name in _COUNTS if _places(content, name)]
    for name in rng.sample(present, k=min(len(present), rng.choice([1, 1, 2, 4]))):
        _set(content, name, _COUNTS[name], rng.choice(HUGE), number=rng.randrange(4))


def huge_index(content: bytearray, rng: random.Random) -> None:
    """Tables agree with each other that there are millions of samples of one byte, in a few bytes of table."""
    count = rng.choice([4_900_000, 5_100_000, 40_000_000, 80_000_000, 0x0FFF_FFFF])
    _set(content, b"stsz", 4, 1)
    _set(content, b"stsz", 8, count)
    _set(content, b"stsc", 12, count)
    _set(content, b"stts", 8, count)
    _set(content, b"trun", 0, 1)
    _set(content, b"trun", 4, count)


def hidden_samples(content: bytearray, rng: random.Random) -> None:
    """An edit list hides nearly all of very many samples, which makes FFmpeg's seeks slow."""
    count = rng.choice([30_000, 300_000, 2_000_000])
    _set(content, b"stsz", 4, 1)
    _set(content, b"stsz", 8, count)
    _set(content, b"stsc", 12, count)
    _set(content, b"stts", 8, count)
    content += bytes(count)


def huge_box(content: bytearray, rng: random.Random) -> None:
    """A box claims another size than it has: none, a negative or an enormous one."""
    for _, start, end in rng.sample(found := list(boxes(content)), k=min(len(found), 2)):
        size = rng.choice([0, 1, 4, 7, 9, end - start + 8, end - start - 8, *HUGE])
        struct.pack_into(">I", content, start, max(0, size))


def huge_duration(content: bytearray, rng: random.Random) -> None:
    """The file claims to last for centuries."""
    for name, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20), (b"mehd", 4)):
        _set(content, name, offset, rng.choice(HUGE))
    _set(content, b"stts", 12, rng.choice(HUGE))


def zero_rate(content: bytearray, rng: random.Random) -> None:
    """A second has no ticks, or every frame lasts none."""
    if rng.random() < 0.5:
        _set(content, rng.choice([b"mdhd", b"mvhd"]), 12, rng.choice([0, 1, 0xFFFF_FFFF]))
    _set(content, b"stts", 12, 0)
    _set(content, b"trex", 12, 0)


def negative_times(content: bytearray, rng: random.Random) -> None:
    """Frames last less than nothing, or are shown before they begin."""
    number = -rng.choice([1, 512, 90_000, 2**31 - 1, 2**31])
    choice = rng.choice([(b"stts", 12), (b"ctts", 12), (b"elst", 12), (b"elst", 8), (b"tfdt", 4)])
    _set(content, *choice, number)
    _set(content, b"ctts", 8 * rng.randrange(1, 5) + 4, number)
    for name in (b"ctts", b"tfdt", b"elst"):  # version 1: signed, or of 64 bits
        for place in _places(content, name) if rng.random() < 0.5 else []:
            content[place + 4] = 1


def spliced(content: bytearray, rng: random.Random) -> None:
    """A box stands in another one's place, twice, or within itself."""
    found = list(boxes(content))
    _, start, end = rng.choice(found)
    _, to, to_end = rng.choice(found)
    box = bytes(content[start:end])[:100_000]
    if rng.random() < 0.5:
        content[to:to_end] = box
    else:
        content[to + 8 : to + 8] = box * rng.choice([1, 2, 200])


def many_tracks(content: bytearray, rng: random.Random) -> None:
    """The same track hundreds of times."""
    tracks = [(start, end) for name, start, end in boxes(content) if name == b"trak"]
    start, end = rng.choice(tracks)
    copies = bytes(content[start:end]) * rng.choice([40, 999, 5000])
    moov = next(start for name, start, _ in boxes(content) if name == b"moov")
    size = struct.unpack_from(">I", content, moov)[0]
    content[end:end] = copies
    struct.pack_into(">I", content, moov, size + len(copies))


def huge_picture(content: bytearray, rng: random.Random) -> None:
    """The pictures are said to be 100,000 × 100,000 pixels, by the box, by the stream, or by both."""
    width, height = rng.choice([(100_000, 100_000), (16_000, 16_000), (8192, 8192), (100_000, 16), (0, 0)])
    if rng.random() < 0.5:
        for name, offset in ((b"tkhd", 72), (b"tkhd", 76)):
            _set(content, name, offset, width << 16)
        place = content.find(b"avc1", content.find(b"stsd"))
        if place >= 0:
            struct.pack_into(">HH", content, place + 28, min(width, 65_535), min(height, 65_535))
    place = content.find(b"avcC")
    if place >= 0 and width:
        _replace_sps(content, place, _sps(width, height))


def compressed_tables(content: bytearray, rng: random.Random) -> None:
    """All tables are in a few kilobytes that unpack to gigabytes (here: megabytes)."""
    start, end = next((start, end) for name, start, end in boxes(content) if name == b"moov")
    moov = bytes(content[start:end]) + bytes(rng.choice([0, 50_000_000]))
    packed = zlib.compress(moov, 9)
    claimed = rng.choice([len(moov), 0xFFFF_FFF0, 0x7FFF_FFFF])
    packed_box = _box(b"cmvd", struct.pack(">I", claimed) + packed)
    content[start:end] = _box(b"moov", _box(b"cmov", _box(b"dcom", b"zlib") + packed_box))


LIES: tuple[Lie, ...] = (
    huge_table, huge_index, hidden_samples, huge_box, huge_duration,
    zero_rate, negative_times, spliced, many_tracks, huge_picture,
    compressed_tables,
)  # fmt: skip


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def _replace_sps(content: bytearray, avcc: int, sps: bytes) -> None:
    """Put another sequence parameter set into the decoder's configuration, and mend the sizes around it."""
    length = struct.unpack_from(">H", content, avcc + 10)[0]
    enclosing = [start for _, start, end in boxes(content) if start < avcc < end]
    # Within the sample description FFmpeg goes by the sizes of these two boxes.
    enclosing += [content.find(b"avc1") - 4, avcc - 4]
    content[avcc + 10 : avcc + 12 + length] = struct.pack(">H", len(sps)) + sps
    for start in enclosing:
        size = struct.unpack_from(">I", content, start)[0]
        struct.pack_into(">I", content, start, size + len(sps) - length)


def _sps(width: int, height: int) -> bytes:
    """Return an H.264 sequence parameter set of the baseline profile (ITU-T H.264, 7.3.2.1)."""
    golomb = [0, 0, 2, 16]  # set 0, 4 bits of frame numbers, order of decoding, 16 pictures kept
    bits = "".join(map(_exp_golomb, golomb)) + "0"
    bits += _exp_golomb(max(0, width // 16 - 1)) + _exp_golomb(max(0, height // 16 - 1)) + "11001"
    bits += "0" * (-len(bits) % 8)
    return bytes([0x67, 66, 0, 51]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _exp_golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits

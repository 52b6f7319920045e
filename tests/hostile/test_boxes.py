"""Looking at what an MP4 file declares takes work that grows with the file's size only, and ends at limits."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lavis.common.errors import VideoError
from lavis.video import limits as limits_module
from lavis.video import open_video
from lavis.video.limits import LimitError, check_boxes
from tests.videos import write_video

MB = 1 << 20


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


FTYP = box(b"ftyp", b"isom\0\0\2\0isom")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (FTYP + box(b"moov", box(b"trak", b"") * MB), "it has more than 1000 tracks"),
        (FTYP + box(b"moov", b"trak" * (2 * MB)), "it has more than 1000 tracks"),
        (FTYP + box(b"moov", box(b"stsz", bytes(12)) * MB), "it has more than 1000000 tables"),
        (FTYP + box(b"moof", box(b"trun", bytes(8)) * MB), "it has more than 1000000 tables"),
        (FTYP + box(b"free", b"stszhdlr" * MB), "it has more than 1000000 tables"),
        (FTYP + box(b"free", b"") * MB, "it has more than 500000 boxes at its top level"),
    ],
    ids=["tracks", "names of tracks", "tables", "runs", "names of tables", "boxes"],
)
def test_a_file_of_countless_boxes_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason):
        open_video(path)


class Counting:
    """A file that counts the bytes that are read."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.num_read = 0

    def read(self, size: int) -> bytes:
        content: bytes = self.file.read(size)
        self.num_read += len(content)
        return content

    def seek(self, *place: int) -> int:
        position: int = self.file.seek(*place)
        return position


@pytest.mark.parametrize(
    "content",
    [
        FTYP + box(b"free", b"t" * 20 * MB),
        FTYP + box(b"moov", b"tra" * 7 * MB),
        FTYP + box(b"moov", b"trak" * 900 + bytes(20 * MB)),
        FTYP + box(b"moov", b"".join(box(b"trak", b"hdlrstts") + bytes(20_000) for _ in range(900))),
    ],
    ids=["one letter", "nearly a name", "all at once", "spread"],
)
def test_every_byte_is_read_about_once(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.mp4"
    path.write_bytes(content)
    opened: list[Counting] = []
    found = limits_module._found

    def found_by_counting(file: Any, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        opened.append(Counting(file))
        yield from found(opened[-1], start, end)  # type: ignore[arg-type]

    monkeypatch.setattr(limits_module, "_found", found_by_counting)
    check_boxes(path)
    assert len(content) - 100 <= sum(file.num_read for file in opened) <= len(content) * 1.001


def test_names_are_found_where_chunks_meet(tmp_path: Path) -> None:
    declared = b"stsz" + struct.pack(">III", 0, 1, 6_000_000)
    for shift in range(-20, 4):
        start = FTYP + struct.pack(">I4s", 2 * MB, b"moov")
        path = tmp_path / "meet.mp4"
        padding = bytes(limits_module._CHUNK_BYTES + shift)
        path.write_bytes(start + padding + declared + bytes(MB))
        with pytest.raises(LimitError, match="it declares 6000000 samples"):
            check_boxes(path)


@pytest.mark.parametrize("keep", [0, 10, 700])
def test_a_file_that_shrinks_while_it_is_opened_is_a_video_error(
    keep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "shrinks.mp4")
    path.write_bytes(path.read_bytes() + box(b"free", bytes(3 * MB)))
    tables: Callable[[Any], Iterator[tuple[bytes, int, int]]] = limits_module._tables

    def shrinking(file: Any) -> Iterator[tuple[bytes, int, int]]:
        for place in tables(file):
            os.truncate(path, keep)
            yield place

    monkeypatch.setattr(limits_module, "_tables", shrinking)
    with pytest.raises(VideoError):
        open_video(path)

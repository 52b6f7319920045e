"""What a video turns out to be when it is opened, and a journal of it that outlives the process."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common.errors import UserError, VideoError
from lavis.video import open_video

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """Changes when a file, or a folder of frames, does.

    Attributes:
        size: bytes of a file, entries of a folder.
    """

    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What was found out by opening a video.

    Attributes:
        error: why it cannot be read; None where it can.
        num_frames: 0 where it cannot be read.
        warnings: damage that leaves it readable.
    """

    error: str | None = None
    num_frames: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    warnings: tuple[str, ...] = ()


def stamp_of(path: Path) -> Stamp:
    """Return a file's or folder's stamp."""
    status = path.stat()
    return Stamp(sum(1 for _ in path.iterdir()) if path.is_dir() else status.st_size, status.st_mtime_ns)


def look_at(path: Path, *, reader: str, fps: float | None, num_frames: int) -> VideoFacts:
    """Open a video and decode some of its frames, evenly spread.

    Raises:
        ConfigError: the reader is unknown, or it is a folder of frames and `fps` is not given.
    """
    try:
        with open_video(path, reader=reader, fps=fps) as video:
            info = video.info
            chosen = np.linspace(0, info.num_frames - 1, num=min(num_frames, info.num_frames)).astype(np.int64)
            for _ in video.stream(chosen, chunk=1):
                pass
            return VideoFacts(None, info.num_frames, info.fps, info.duration_s, video.warnings)
    except VideoError as error:
        return VideoFacts(str(error))


def content_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of a folder's names and bytes."""
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if file is not path:
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


class Journal:
    """Facts and content hashes by path, kept in a JSONL file line by line, so that a killed check goes on.

    What was written about a file counts as long as the file's stamp is the same.

    Args:
        settings: how videos are looked at; a journal of other settings is not used.
    """

    def __init__(self, path: Path, *, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._facts: dict[tuple[str, Stamp], VideoFacts] = {}
        self._contents: dict[tuple[str, Stamp], str] = {}
        lines = list(_lines(path))
        header = {"settings": dict(settings)}
        if not lines or lines[0] != header:
            lines = [header]
            _start(path, header)
        elif not path.read_bytes().endswith(b"\n"):  # the process was killed while it wrote
            _append(path, "\n")
        for line in lines[1:]:
            key = (line["path"], Stamp(*line["stamp"]))
            if "content" in line:
                self._contents[key] = line["content"]
            else:
                self._facts[key] = VideoFacts(**{**line["facts"], "warnings": tuple(line["facts"]["warnings"])})

    def facts(self, path: Path, stamp: Stamp) -> VideoFacts | None:
        """Return what is known about a video."""
        return self._facts.get((str(path), stamp))

    def content(self, path: Path, stamp: Stamp) -> str | None:
        """Return the content hash, if it is known."""
        return self._contents.get((str(path), stamp))

    def add_facts(self, path: Path, stamp: Stamp, facts: VideoFacts) -> None:
        """Keep what was found out about a video."""
        self._facts[str(path), stamp] = facts
        self._write(path, stamp, {"facts": asdict(facts)})

    def add_content(self, path: Path, stamp: Stamp, content: str) -> None:
        """Keep a content hash."""
        self._contents[str(path), stamp] = content
        self._write(path, stamp, {"content": content})

    def _write(self, path: Path, stamp: Stamp, found: Mapping[str, Any]) -> None:
        line = {"path": str(path), "stamp": [stamp.size, stamp.modified_ns], **found}
        _append(self._path, json.dumps(line) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):  # the last line of a killed process, or the empty one at the end
            continue
        if isinstance(line, dict) and ("settings" in line or line.keys() & {"facts", "content"}):
            yield line


def _start(path: Path, header: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error

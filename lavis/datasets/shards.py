"""Shards: tar files of videos with their questions, for storage that dislikes many small files.

A folder of shards holds, for each split, `SPLIT.json` (the annotations) and `SPLIT-000000.tar` and so on, and
`shards.json`, which says where in them every video lies. A shard is in the WebDataset layout: for each video
`KEY.json` (its name, its source and its questions) and `KEY.mp4` or whatever the video's ending is; a folder of frames
is `KEY.frames.tar`; a video that was missing has no second member.
"""

import io
import json
import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from lavis.common.config import from_mapping
from lavis.common.errors import ConfigError, UserError, VideoError, counted
from lavis.common.files import write_text, written_whole
from lavis.datasets.annotations import parse_row, write_annotations
from lavis.datasets.records import Record
from lavis.datasets.videos import EXTENSIONS, SHARDS_INDEX, VideoFolders
from lavis.video.frames import order_frames

FRAMES_ENDING = ".frames.tar"
_BLOCK = 512
_MIB = 1 << 20
_KEPT = 2  # unpacked videos


@dataclass(frozen=True)
class StoredVideo:
    """Where a video lies.

    Attributes:
        file: the shard's name.
        ending: of the video's member, with its dot; "" for a video that was missing.
        offset: of the video's first byte in the shard.
    """

    video: str
    source: str | None
    split: str
    file: str
    questions: int
    ending: str = ""
    offset: int = 0
    size: int = 0


def write_shards(
    folder: Path,
    splits: Mapping[str, Iterable[Record]],
    videos: VideoFolders,
    *,
    max_bytes: int = 512 * _MIB,
    skip_missing: bool = False,
) -> dict[str, list[str]]:
    """Write questions with their videos, and at the end the index, without which shards are not read.

    Args:
        splits: rows of the annotation schema.
        max_bytes: a shard that reaches this size is followed by the next one.
        skip_missing: go on without the missing videos; their questions are kept, and count as unreadable.

    Returns:
        What is wrong with the videos that are missing, by split.

    Raises:
        UserError: the folder holds shards already.
        AnnotationError: a row does not fit the schema.
        VideoError: a video is missing, unless `skip_missing`.
    """
    if (folder / SHARDS_INDEX).exists():
        raise UserError(f"{folder} holds shards already; name another folder with --out")
    stored: list[StoredVideo] = []
    missing: dict[str, list[str]] = {}
    for split, records in splits.items():
        rows: list[Mapping[str, Any]] = []
        grouped: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
        for record in records:
            annotation = parse_row(record)  # its video's name may differ from the one in the row
            rows.append(record.fields)
            grouped.setdefault((annotation.question.video or "", annotation.source), []).append(record.fields)
        samples: list[_Sample] = []
        missing[split] = problems = []
        for (name, source), questions in grouped.items():
            path = None
            try:
                path = _readable(videos.find(name, source=source))
            except VideoError as error:
                problems.append(str(error))
            samples.append((name, source, questions, path))
        if problems and not skip_missing:
            raise VideoError(
                f"{counted(len(problems), 'video')} of {split} missing, the first: {problems[0]}; or --skip-bad"
            )
        for number, shard in enumerate(_packed(samples, max_bytes)):
            file = f"{split}-{number:06d}.tar"
            with written_whole(folder / file) as temporary:
                stored += _write_shard(temporary, file, split, shard)
        write_annotations(folder / f"{split}.json", rows)
    lines = ",\n".join(json.dumps(asdict(video)) for video in stored)
    write_text(folder / SHARDS_INDEX, f"[\n{lines}\n]\n")
    return missing


def read_index(folder: Path) -> list[StoredVideo]:
    """Read where every video lies.

    Raises:
        ConfigError: the folder holds no index, or one that no writer made.
    """
    file = folder / SHARDS_INDEX
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} is no folder of shards: {SHARDS_INDEX} is missing or damaged") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{file} is damaged: it is no list of videos")
    stored = [from_mapping(StoredVideo, entry, place=str(file)) for entry in entries]
    for entry in stored:
        if Path(entry.file).name != entry.file or entry.offset < 0 or entry.size < 0:
            raise ConfigError(f"{file} is damaged: {entry.video!r} lies outside of the folder's shards")
    return stored


_Sample = tuple[str, str | None, list[Mapping[str, Any]], Path | None]
"""A video's name, source, questions and place; None where it is missing."""


def _readable(path: Path) -> Path:
    """Return the path; a VideoError says why it is no file or folder of frames."""
    if path.is_dir():
        _frame_names(path)
    elif not path.is_file():  # reading a pipe would wait for ever
        raise VideoError(f"{path} is not a regular file")
    return path


def _packed(samples: Iterable[_Sample], max_bytes: int) -> Iterator[list[_Sample]]:
    """Put samples together until a shard is full."""
    shard: list[_Sample] = []
    size = 0
    for sample in samples:
        shard.append(sample)
        size += _bytes_of(sample[-1])
        if size >= max_bytes:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _bytes_of(video: Path | None) -> int:
    if video is None:
        return 0
    if video.is_dir():
        return sum(file.stat().st_size + _BLOCK for file in video.iterdir() if file.is_file())
    return video.stat().st_size


def _write_shard(path: Path, file: str, split: str, samples: Iterable[_Sample]) -> Iterator[StoredVideo]:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for number, (name, source, rows, video) in enumerate(samples):
            # WebDataset joins neighbours of one key, also across shards, so keys differ over all shards.
            key = f"{Path(file).stem}-{number:06d}"
            about = json.dumps({"video": name, "source": source, "questions": rows}, ensure_ascii=False)
            _add(shard, f"{key}.json", io.BytesIO(about.encode()))
            if video is None:
                yield StoredVideo(name, source, split, file, len(rows))
                continue
            ending = FRAMES_ENDING if video.is_dir() else video.suffix.lower() or ".video"
            with _frames(video) if video.is_dir() else video.open("rb") as content:
                size = _add(shard, key + ending, content)
            offset = shard.offset - size - (-size % _BLOCK)  # members are filled up to whole blocks
            yield StoredVideo(name, source, split, file, len(rows), ending, offset, size)


def _add(shard: tarfile.TarFile, name: str, content: IO[bytes]) -> int:
    entry = tarfile.TarInfo(name)
    entry.size = content.seek(0, io.SEEK_END)
    content.seek(0)
    shard.addfile(entry, content)
    return entry.size


def _frames(folder: Path) -> IO[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as frames:
        for name in _frame_names(folder):
            _add(frames, name, io.BytesIO((folder / name).read_bytes()))
    return buffer


def _frame_names(folder: Path) -> list[str]:
    return order_frames((file.name for file in folder.iterdir() if file.is_file()), place=str(folder)).names


class Unpacker:
    """Writes videos to a temporary folder, which goes with this object; only the last few of them stay there."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._paths: list[Path] = []
        self._count = 0

    def unpack(self, content: bytes, *, ending: str) -> Path:
        """Write a member with this ending, a video or a folder of frames; return where it is until some more came.

        Raises:
            VideoError: it is a folder of frames, and damaged.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="sevila-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        while len(self._paths) >= _KEPT:
            oldest = self._paths.pop(0)
            if oldest.is_dir():
                shutil.rmtree(oldest)
            else:
                oldest.unlink(missing_ok=True)
        self._count += 1
        path = self._folder / f"{self._count:08d}"
        if ending == FRAMES_ENDING:
            _unpack_frames(content, path)
        else:
            path = path.with_suffix(ending if ending in EXTENSIONS else ".video")
            path.write_bytes(content)
        self._paths.append(path)
        return path


class ShardedVideos:
    """The videos of a folder of shards, by name; can be sent to other processes.

    Raises:
        ConfigError: it is no folder of shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored: dict[tuple[str, str | None], StoredVideo] = {}
        for entry in read_index(folder):
            key = (entry.video, entry.source)
            if key not in self._stored or not self._stored[key].ending:
                self._stored[key] = entry
        self._unpacker = Unpacker()

    def find(self, name: str, *, source: str | None = None) -> Path:
        """Take a video out and return where it is, until some more have been taken out.

        Raises:
            VideoError: it was missing when the shards were written, or its shard is missing or truncated.
        """
        entry = self._stored.get((name, source))
        if entry is None:
            raise VideoError(f"no video {name!r} in the shards of {self._folder}")
        if not entry.ending:
            raise VideoError(f"no video {name!r} in {self._folder}: it was missing when the shards were written")
        try:
            with (self._folder / entry.file).open("rb") as shard:
                shard.seek(entry.offset)
                content = shard.read(entry.size)
        except OSError as error:
            raise VideoError(f"{self._folder / entry.file}: {error.strerror}") from error
        if len(content) != entry.size:
            raise VideoError(f"{self._folder / entry.file} is cut: it ends within the video {name!r}")
        return self._unpacker.unpack(content, ending=entry.ending)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_unpacker": Unpacker()}


VideoFinder = VideoFolders | ShardedVideos
"""Where a dataset's videos are looked for."""


def _unpack_frames(content: bytes, folder: Path) -> None:
    folder.mkdir()
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as frames:
            members = {member.name: member for member in frames if member.isfile()}
            order = order_frames(members, place="a folder of frames in a shard")
            for name, place in zip(order.names, order.places, strict=True):
                picture = frames.extractfile(members[name])
                if picture is not None:
                    (folder / f"{place:06d}{Path(name).suffix.lower()}").write_bytes(picture.read())
    except (tarfile.TarError, EOFError) as error:
        raise VideoError(f"a folder of frames in a shard is damaged ({error})") from error

"""Checking a dataset's videos: which are missing, unreadable, too short or doubled, and what that costs."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lavis.common.errors import UserError, VideoError
from lavis.common.registry import import_in_worker, registry
from lavis.common.types import Question
from lavis.datasets.annotations import Annotations
from lavis.datasets.check_report import CheckReport, Duplicate, Problem, SplitCount
from lavis.datasets.videos import EXTENSIONS, VideoFolders
from lavis.video import open_video
from lavis.video.sampling import uniform_indices

T = TypeVar("T")
Video = tuple[str, str | None]
"""A video's name and, for datasets with several folders, its source."""
Progress = Callable[[str, int, int], None]
"""Takes what is done, how many are done, and of how many."""

_ROUNDED_S = 1.0
"""Annotated times are rounded: a clip that ends this much after its video is as it should be."""
_MOST_WALKED = 200_000
_IN_FLIGHT_PER_WORKER = 4
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


class DatasetCheck:
    """Looks at every video of a dataset once.

    Args:
        folder: where the journal is kept; a check that was killed goes on from it.
        reader: a name in `registry.video_readers`.
        fps: frames per second of folders of frames.
        num_frames: how many frames of each video are decoded.
        num_workers: processes that look at videos; 0 looks in this one.
        progress: called after each video.
    """

    def __init__(
        self,
        videos: VideoFolders,
        *,
        folder: Path,
        reader: str = "pyav",
        fps: float | None = None,
        num_frames: int = 1,
        num_workers: int = 0,
        progress: Progress = lambda _what, _done, _total: None,
    ) -> None:
        self._videos, self._num_workers, self._progress = videos, num_workers, progress
        self._look = partial(look_at, reader=reader, fps=fps, num_frames=num_frames)
        settings = {"reader": reader, "fps": fps, "num_frames": num_frames}
        self._journal = Journal(folder / "check.jsonl", settings=settings)

    def run(self, dataset: str, splits: Mapping[str, Annotations]) -> CheckReport:
        """Check all videos that the splits ask about.

        Raises:
            ConfigError: see `lavis.datasets.checking.look_at`.
            UserError: the journal cannot be written, or a process died while it read a video.
        """
        asked = _questions_by_video(splits)
        found, missing = self._find(asked)
        stamps = {path: stamp_of(path) for paths in found.values() for path in paths}
        facts = self._facts({paths[0]: stamps[paths[0]] for paths in found.values()})
        problems = [
            Problem("missing", name, reason, None, _ids(asked[name, source]))
            for (name, source), reason in missing.items()
        ]
        cut: list[str] = []
        damaged: dict[str, tuple[str, ...]] = {}
        for (name, source), paths in found.items():
            known, questions = facts[paths[0]], asked[name, source]
            if known.error is not None:
                problems.append(Problem("unreadable", name, known.error, str(paths[0]), _ids(questions)))
                continue
            problems += _too_short(name, paths[0], known, questions)
            cut += [question.id for _, question in questions if _is_cut(question, known)]
            if known.warnings:
                damaged[name] = known.warnings
        return CheckReport(
            dataset=dataset,
            splits=_count_splits(splits, problems),
            problems=tuple(problems),
            duplicates=tuple(self._duplicates(found, stamps, facts, asked)),
            cut=tuple(cut),
            damaged=damaged,
            elsewhere=_elsewhere(self._videos.roots, {name for name, _ in missing}),
        )

    def _find(self, asked: Iterable[Video]) -> tuple[dict[Video, list[Path]], dict[Video, str]]:
        found: dict[Video, list[Path]] = {}
        missing: dict[Video, str] = {}
        for name, source in asked:
            try:
                found[name, source] = self._videos.find_all(name, source=source)
            except VideoError as error:
                missing[name, source] = str(error)
        return found, missing

    def _facts(self, stamps: Mapping[Path, Stamp]) -> dict[Path, VideoFacts]:
        known = {path: self._journal.facts(path, stamp) for path, stamp in stamps.items()}
        facts = {path: seen for path, seen in known.items() if seen is not None}
        left = [path for path in stamps if path not in facts]
        for path, seen in self._computed("looking at videos", self._look, left, before=len(facts)):
            self._journal.add_facts(path, stamps[path], seen)
            facts[path] = seen
        return facts

    def _duplicates(
        self,
        found: Mapping[Video, Sequence[Path]],
        stamps: Mapping[Path, Stamp],
        facts: Mapping[Path, VideoFacts],
        asked: Mapping[Video, Sequence[tuple[str, Question]]],
    ) -> Iterator[Duplicate]:
        for (name, _), paths in found.items():
            if len(paths) > 1:
                yield Duplicate("two files for one name", (name,), tuple(map(str, paths)), ())
        names: dict[Path, list[Video]] = defaultdict(list)
        for video, paths in found.items():
            names[paths[0]].append(video)
        contents = self._contents({path: stamps[path] for path in names if facts[path].error is None})
        for paths in _groups(contents):
            videos = [video for path in paths for video in names[path]]
            splits = sorted({split for video in videos for split, _ in asked[video]})
            yield Duplicate("same content", tuple(name for name, _ in videos), tuple(map(str, paths)), tuple(splits))

    def _contents(self, stamps: Mapping[Path, Stamp]) -> dict[Path, str]:
        # Files of different sizes differ; only the others have to be read as a whole.
        same = [path for paths in _groups({path: _size_key(path, stamps[path]) for path in stamps}) for path in paths]
        known = {path: self._journal.content(path, stamps[path]) for path in same}
        contents = {path: seen for path, seen in known.items() if seen is not None}
        left = [path for path in same if path not in contents]
        for path, seen in self._computed("comparing files of one size", content_of, left, before=len(contents)):
            self._journal.add_content(path, stamps[path], seen)
            contents[path] = seen
        return {path: contents[path] for path in same}  # processes finish in any order

    def _computed(
        self, what: str, compute: Callable[[Path], T], paths: Sequence[Path], *, before: int
    ) -> Iterator[tuple[Path, T]]:
        results = _in_processes(compute, paths, self._num_workers) if self._num_workers else _here(compute, paths)
        for done, result in enumerate(results, start=before + 1):
            self._progress(what, done, before + len(paths))
            yield result


def _here(compute: Callable[[Path], T], paths: Iterable[Path]) -> Iterator[tuple[Path, T]]:
    return ((path, compute(path)) for path in paths)


def _in_processes(compute: Callable[[Path], T], paths: Sequence[Path], num_workers: int) -> Iterator[tuple[Path, T]]:
    pool = ProcessPoolExecutor(
        min(num_workers, max(1, len(paths))),
        mp_context=get_context("spawn"),
        initializer=import_in_worker,
        initargs=(registry.plugins(),),
    )
    left = iter(paths)
    running: dict[Future[T], Path] = {}
    try:
        while True:
            while len(running) < num_workers * _IN_FLIGHT_PER_WORKER and (path := next(left, None)) is not None:
                running[pool.submit(compute, path)] = path
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running[future], future.result()
                del running[future]
    except BrokenProcessPool as error:
        suspects = ", ".join(str(path) for path in running.values())
        raise UserError(f"a process died while it read one of: {suspects}; move it away and go on") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _questions_by_video(splits: Mapping[str, Annotations]) -> dict[Video, list[tuple[str, Question]]]:
    asked: dict[Video, list[tuple[str, Question]]] = defaultdict(list)
    for split, annotations in splits.items():
        for row in annotations.rows:
            asked[row.question.video or "", row.source].append((split, row.question))
    return asked


def _ids(questions: Iterable[tuple[str, Question]]) -> tuple[tuple[str, str], ...]:
    return tuple((split, question.id) for split, question in questions)


def _too_short(
    name: str, path: Path, facts: VideoFacts, questions: Iterable[tuple[str, Question]]
) -> Iterator[Problem]:
    lost: list[tuple[str, Question]] = []
    reason = ""
    for split, question in questions:
        try:
            uniform_indices(1, video_frames=facts.num_frames, fps=facts.fps, clip=question.clip)
        except VideoError as error:
            lost.append((split, question))
            reason = reason or str(error)
    if lost:
        yield Problem("too short", name, reason, str(path), _ids(lost))


def _is_cut(question: Question, facts: VideoFacts) -> bool:
    clip = question.clip
    return clip is not None and clip.start_s < facts.duration_s and clip.end_s > facts.duration_s + _ROUNDED_S


def _count_splits(splits: Mapping[str, Annotations], problems: Iterable[Problem]) -> dict[str, SplitCount]:
    lost: dict[str, set[str]] = defaultdict(set)
    for problem in problems:
        for split, question in problem.lost:
            lost[split].add(question)
    return {
        split: SplitCount(
            questions=len(annotations),
            videos=len({(row.question.video, row.source) for row in annotations.rows}),
            lost=len(lost[split]),
            bad_rows=annotations.skipped,
        )
        for split, annotations in splits.items()
    }


def _groups(labels: Mapping[Path, object]) -> list[list[Path]]:
    """Return the paths that share a label with another one, together."""
    groups: dict[object, list[Path]] = defaultdict(list)
    for path, label in labels.items():
        groups[label].append(path)
    return [paths for paths in groups.values() if len(paths) > 1]


def _size_key(path: Path, stamp: Stamp) -> tuple[int, ...]:
    if not path.is_dir():
        return (stamp.size,)
    # Many folders hold equally many frames: their files' sizes tell them apart without reading them.
    return (stamp.size, *sorted(entry.stat().st_size for entry in os.scandir(path) if entry.is_file()))


def _elsewhere(roots: Sequence[Path], names: set[str]) -> dict[str, str]:
    """Return where in the folders a missing video's file name does occur."""
    if not names:
        return {}
    wanted = {Path(name).name: name for name in names}
    found: dict[str, str] = {}
    walked = 0
    for root in roots:
        for folder, _, files in os.walk(root):
            walked += len(files)
            if walked > _MOST_WALKED:
                return found
            for file in files:
                stem, ending = os.path.splitext(file)  # noqa: PTH122  # 200,000 paths take seconds to make
                name = wanted.get(stem) or wanted.get(file)
                if name is not None and ending in EXTENSIONS:
                    found.setdefault(name, str(Path(folder) / file))
    return found

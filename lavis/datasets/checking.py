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
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lavis.common.errors import UserError, VideoError, counted
from lavis.common.files import file_digest
from lavis.common.logging import read_json_lines
from lavis.common.types import Question
from lavis.datasets.annotations import Annotations
from lavis.datasets.videos import EXTENSIONS, VideoFolders
from lavis.video import open_video
from lavis.video.base import uniform_indices

T = TypeVar("T")
Video = tuple[str, str | None]
"""A video's name and, for datasets with several folders, its source."""
Progress = Callable[[str, int, int], None]
"""Takes what is done, how many are done, and of how many."""

_ROUNDED_S = 1.0
"""Annotated times are rounded: a clip that ends this much after its video is as it should be."""
_MOST_WALKED = 200_000
_IN_FLIGHT_PER_WORKER = 4
_KINDS = {
    "missing": "missing videos",
    "unreadable": "unreadable videos",
    "too short": "videos too short for a question's clip",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A video that costs questions.

    Attributes:
        kind: "missing", "unreadable" or "too short".
        video: its name in the annotations.
        path: where it is; None where it is missing.
        lost: split and id of every question that cannot be asked.
    """

    kind: str
    video: str
    path: str | None
    reason: str
    lost: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Several files where one is expected; this costs no question.

    Attributes:
        kind: "two files for one name" (the first is used) or "same content".
        splits: the splits that ask about them, for files of the same content.
    """

    kind: str
    videos: tuple[str, ...]
    paths: tuple[str, ...]
    splits: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (in {', '.join(self.splits)})" if len(self.splits) > 1 else ""
        return f"{self.kind}{where}: {', '.join(self.paths)}"


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Questions of a split; `lost` of them cannot be asked, and rows in `bad_rows` are not even questions."""

    questions: int
    videos: int
    lost: int
    bad_rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        cut: ids of questions whose clip goes on for a second or more after their video; what is left is used.
        damaged: warnings about videos that can be read.
        elsewhere: for missing videos, a file of that name in another place of the video folders.
    """

    dataset: str
    splits: Mapping[str, SplitCount]
    problems: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]
    cut: tuple[str, ...]
    damaged: Mapping[str, tuple[str, ...]]
    elsewhere: Mapping[str, str]

    @property
    def num_questions(self) -> int:
        """All questions of all splits."""
        return sum(split.questions for split in self.splits.values())

    @property
    def num_lost(self) -> int:
        """Questions that cannot be asked, and rows that could not be read."""
        return sum(split.lost + len(split.bad_rows) for split in self.splits.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        report = {"dataset": self.dataset, "questions": self.num_questions, "lost": self.num_lost, **asdict(self)}
        for problem in report["problems"]:
            problem["lost"] = [{"split": split, "question": question} for split, question in problem["lost"]]
        return report

    def as_text(self, *, most: int | None = None) -> str:
        """Return the report to read, with at most so many entries of each kind."""
        sections = {
            title: [f"{item.video} ({len(item.lost)}): {item.reason}" for item in self.problems if item.kind == kind]
            for kind, title in _KINDS.items()
        }
        sections |= {
            "rows that are no questions": [row for split in self.splits.values() for row in split.bad_rows],
            "found in another place": [f"{name}: {path}" for name, path in self.elsewhere.items()],
            "duplicates": [str(item) for item in self.duplicates],
            "clips that go on after their video": list(self.cut),
            "damaged, but read": [f"{name}: {'; '.join(warnings)}" for name, warnings in self.damaged.items()],
        }
        lines = list(self._summary())
        for title, entries in sections.items():
            if entries:
                lines += ["", f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:most])]
            if most is not None and len(entries) > most:
                lines.append(f"  and {len(entries) - most} more")
        return "\n".join(lines) + "\n"

    def _summary(self) -> Iterator[str]:
        for name, split in self.splits.items():
            usable = split.questions - split.lost
            asked = f"{counted(split.questions, 'question')} about {counted(split.videos, 'video')}"
            line = f"{self.dataset} {name}: {asked}, usable: {usable}"
            yield f"{line} ({100 * usable / split.questions:.1f} %)"
        for kind, title in _KINDS.items():
            lost = [len(problem.lost) for problem in self.problems if problem.kind == kind]
            if lost:
                yield f"  {title}: {len(lost)}, questions lost: {sum(lost)}"


class Stamp(NamedTuple):
    """Changes when a file, or a folder of frames, does; the size is the number of a folder's entries."""

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
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


class Journal:
    """Facts and content hashes by path, appended line by line to a JSONL file, so that a killed check resumes.

    What was written about a file counts as long as its stamp, and how videos are looked at, are the same.
    """

    def __init__(self, path: Path, *, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._known: dict[tuple[str, str, Stamp], Any] = {}
        header = {"settings": dict(settings)}
        lines = [line for line in read_json_lines(path) if line.keys() & {"settings", "facts", "content"}]
        if lines[:1] != [header]:
            lines = [header]
            self._write(json.dumps(header) + "\n", mode="w")
        elif not path.read_bytes().endswith(b"\n"):  # the process was killed while it wrote
            self._write("\n")
        for line in lines[1:]:
            kind = "content" if "content" in line else "facts"
            value = line[kind]
            if kind == "facts":
                value = VideoFacts(**{**value, "warnings": tuple(value["warnings"])})
            self._known[kind, line["path"], Stamp(*line["stamp"])] = value

    def get(self, kind: str, path: Path, stamp: Stamp) -> Any:
        """Return what is known of a file: its "facts" or its "content"; None where nothing is."""
        return self._known.get((kind, str(path), stamp))

    def add(self, kind: str, path: Path, stamp: Stamp, value: VideoFacts | str) -> None:
        """Keep what was found out about a file."""
        self._known[kind, str(path), stamp] = value
        self._write(json.dumps({"path": str(path), "stamp": stamp, kind: value}, default=asdict) + "\n")

    def _write(self, text: str, *, mode: str = "a") -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}") from error


class DatasetCheck:
    """Looks at every video of a dataset once.

    Args:
        folder: where the journal is kept; a check that was killed resumes from it.
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
        settings: dict[str, Any] = {"reader": reader, "fps": fps, "num_frames": num_frames}
        self._look = partial(look_at, **settings)
        self._journal = Journal(folder / "check.jsonl", settings=settings)

    def run(self, dataset: str, splits: Mapping[str, Annotations]) -> CheckReport:
        """Check all videos that the splits ask about.

        Raises:
            ConfigError: see `look_at`.
            UserError: the journal cannot be written, or a process died while it read a video.
        """
        asked = _questions_by_video(splits)
        found: dict[Video, list[Path]] = {}
        problems: list[Problem] = []
        for (name, source), questions in asked.items():
            try:
                found[name, source] = self._videos.find_all(name, source=source)
            except VideoError as error:
                problems.append(Problem("missing", name, None, str(error), _ids(questions)))
        elsewhere = _elsewhere(self._videos.roots, {problem.video for problem in problems})
        stamps = {paths[0]: stamp_of(paths[0]) for paths in found.values()}
        facts: dict[Path, VideoFacts] = self._all("facts", "looking at videos", self._look, stamps)
        cut: list[str] = []
        damaged: dict[str, tuple[str, ...]] = {}
        for (name, source), (path, *_) in found.items():
            known, questions = facts[path], asked[name, source]
            if known.error is not None:
                problems.append(Problem("unreadable", name, str(path), known.error, _ids(questions)))
                continue
            problems += _too_short(name, path, known, questions)
            cut += [question.id for _, question in questions if _is_truncated(question, known)]
            if known.warnings:
                damaged[name] = known.warnings
        readable = {path: stamp for path, stamp in stamps.items() if facts[path].error is None}
        return CheckReport(
            dataset=dataset,
            splits=_count_splits(splits, problems),
            problems=tuple(problems),
            duplicates=tuple(self._duplicates(found, readable, asked)),
            cut=tuple(cut),
            damaged=damaged,
            elsewhere=elsewhere,
        )

    def _duplicates(
        self,
        found: Mapping[Video, Sequence[Path]],
        readable: Mapping[Path, Stamp],
        asked: Mapping[Video, Sequence[tuple[str, Question]]],
    ) -> Iterator[Duplicate]:
        videos: dict[Path, list[Video]] = defaultdict(list)
        for video, paths in found.items():
            videos[paths[0]].append(video)
            if len(paths) > 1:
                yield Duplicate("two files for one name", (video[0],), tuple(map(str, paths)))
        # Files of different sizes differ; only the others have to be read as a whole.
        same_size = _groups({path: _size_key(path, stamp) for path, stamp in readable.items()})
        stamps = {path: readable[path] for paths in same_size for path in paths}
        for paths in _groups(self._all("content", "comparing files of one size", content_of, stamps)):
            same = [video for path in paths for video in videos[path]]
            splits = sorted({split for video in same for split, _ in asked[video]})
            yield Duplicate("same content", tuple(name for name, _ in same), tuple(map(str, paths)), tuple(splits))

    def _all(
        self, kind: str, what: str, compute: Callable[[Path], Any], stamps: Mapping[Path, Stamp]
    ) -> dict[Path, Any]:
        """Return what `compute` makes of every file, from the journal where it is known; `what` is for progress."""
        values = {path: self._journal.get(kind, path, stamp) for path, stamp in stamps.items()}
        left = [path for path, value in values.items() if value is None]
        here = ((path, compute(path)) for path in left)
        results = _in_processes(compute, left, self._num_workers) if self._num_workers else here
        for done, (path, value) in enumerate(results, start=len(stamps) - len(left) + 1):
            self._progress(what, done, len(stamps))
            self._journal.add(kind, path, stamps[path], value)
            values[path] = value
        return values


def _in_processes(compute: Callable[[Path], T], paths: Sequence[Path], num_workers: int) -> Iterator[tuple[Path, T]]:
    pool = ProcessPoolExecutor(min(num_workers, max(1, len(paths))), mp_context=get_context("spawn"))
    left = iter(paths)
    running: dict[Future[T], Path] = {}
    try:
        while True:
            for path in islice(left, num_workers * _IN_FLIGHT_PER_WORKER - len(running)):
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
    reasons: dict[tuple[str, str], str] = {}
    for split, question in questions:
        try:
            uniform_indices(1, video_frames=facts.num_frames, fps=facts.fps, clip=question.clip)
        except VideoError as error:
            reasons[split, question.id] = str(error)
    if reasons:
        yield Problem("too short", name, str(path), next(iter(reasons.values())), tuple(reasons))


def _is_truncated(question: Question, facts: VideoFacts) -> bool:
    clip = question.clip
    return clip is not None and clip.start_s < facts.duration_s and clip.end_s > facts.duration_s + _ROUNDED_S


def _count_splits(splits: Mapping[str, Annotations], problems: Iterable[Problem]) -> dict[str, SplitCount]:
    lost = {question for problem in problems for question in problem.lost}
    return {
        name: SplitCount(
            questions=len(annotations),
            videos=len({(row.question.video, row.source) for row in annotations.rows}),
            lost=sum(split == name for split, _ in lost),
            bad_rows=annotations.skipped,
        )
        for name, annotations in splits.items()
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
    wanted = {Path(name).name: name for name in names}
    found: dict[str, str] = {}
    num_walked = 0
    for root in roots if names else ():
        for folder, _, files in os.walk(root):
            num_walked += len(files)
            if num_walked > _MOST_WALKED:
                return found
            for file in files:
                stem, ending = os.path.splitext(file)  # noqa: PTH122  # 200,000 paths take seconds to make
                name = wanted.get(stem) or wanted.get(file)
                if name is not None and ending in EXTENSIONS:
                    found.setdefault(name, str(Path(folder) / file))
    return found

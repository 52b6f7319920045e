"""Chosen frames in a file: JSONL, one row for each question, which whoever answers reads in place of choosing.

`docs/exchange.md` tells the schema, `sevila.frames/1`. Nothing here needs torch, so that it can be read inside of other
programs. K chosen frames, T frames that they were chosen from.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lavis.common.config import Count, NotNegative, NotNegativeInt, Positive, Text, from_mapping
from lavis.common.errors import ConfigError, QuestionError, VideoError, counted, did_you_mean
from lavis.common.files import MAX_JSON_BYTES, parse_json, written_whole

FAMILY, VERSION = "sevila.frames/", 1
SCHEMA = f"{FAMILY}{VERSION}"
_MOST_FRAMES = 2**53  # of an index: beyond, JSON numbers are not exact everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionCost:
    """What it took to choose frames for all `questions` that were asked together about one video.

    Attributes:
        frames_scored: frames that have a score, for this question.
        seconds: of wall time.
    """

    questions: Count
    frames_decoded: NotNegativeInt
    frames_scored: NotNegativeInt
    scorer_calls: NotNegativeInt
    seconds: NotNegative


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFrames:
    """The frames that could be chosen, in time order, as in `ChosenFrames`; `scores` is empty where none were scored.

    One of `frame_idx` and `times_s` may be None.
    """

    frame_idx: tuple[int, ...] | None = None
    times_s: tuple[float, ...] | None = None
    scores: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenFrames:
    """The frames that were chosen for one question, in time order; a published rule may have chosen one twice.

    Attributes:
        task: the benchmark, by the name that whoever answers knows; None fits every one.
        doc_id: place of the question in its split, from 0.
        question_id: unique within the task.
        video: name of the file.
        fps: frames per second of the video file.
        num_frames: of the video file.
        frame_idx: [K], indices into the video file; None where only seconds are known.
        times_s: [K], seconds from the video's start, which decide where both are there; None where only indices are.
        scores: [K], higher is better, None for a frame that was not scored; empty where there are none.
        sizes: [K], each frame's side as a part of the video's; empty where all have their own.
        method: what chose the frames.
        unreadable: why there are no frames; None where there are.
    """

    task: Text | None = None
    split: Text | None = None
    doc_id: NotNegativeInt | None = None
    question_id: Text | None = None
    question: Text | None = None
    video: Text | None = None
    fps: Positive | None = None
    num_frames: Count | None = None
    frame_idx: tuple[int, ...] | None = None
    times_s: tuple[float, ...] | None = None
    scores: tuple[float | None, ...] = ()
    sizes: tuple[float, ...] = ()
    method: Text | None = None
    candidates: CandidateFrames | None = None
    cost: SelectionCost | None = None
    unreadable: Text | None = None

    def __len__(self) -> int:
        return len(next((places for places in (self.times_s, self.frame_idx) if places is not None), ()))

    @property
    def name(self) -> str:
        """The question, for messages."""
        return _name(self.task, self.question_id, self.doc_id)

    def as_row(self) -> dict[str, Any]:
        """Return plain JSON values; what is not known is left out.

        Raises:
            ConfigError: it is no row of the schema.
        """
        row = {name: _known(value) for name, value in asdict(self).items() if value not in (None, ())}
        row = {"schema": SCHEMA, **row}
        self.from_row(row, place=f"the frames of {self.name} cannot be written")
        return row

    @classmethod
    def from_row(cls, row: Any, *, place: str) -> "ChosenFrames":
        """Read what `as_row` made; `place` goes before messages.

        Raises:
            ConfigError: another schema or version, an unknown key, or a value that cannot be.
        """
        _check_schema(row, place)
        found = from_mapping(cls, {name: value for name, value in row.items() if name != "schema"}, place=place)
        wrong = _wrong(found)
        if wrong is not None:
            raise ConfigError(f"{place}: {found.name}: {wrong}")
        return found


class FramesFile:
    """The rows of a file, by question.

    Args:
        path: for messages.
        rows: with the number of their line, from 1.

    Raises:
        ConfigError: there is no row, or a question has two.
    """

    def __init__(self, path: Path, rows: Iterable[tuple[int, ChosenFrames]]) -> None:
        self.path = path
        self._by_id: dict[str, list[ChosenFrames]] = {}
        self._by_place: dict[int, list[ChosenFrames]] = {}
        self.rows: tuple[ChosenFrames, ...] = tuple(self._added(rows))
        if not self.rows:
            raise ConfigError(f"{path} holds no rows; give a file with a row of {SCHEMA} for each question")

    def __len__(self) -> int:
        return len(self.rows)

    def find(
        self,
        *,
        task: str | None = None,
        question_id: str | int | None = None,
        doc_id: int | None = None,
        split: str | None = None,
    ) -> ChosenFrames:
        """Return the frames of a question: by its id, and by its place `doc_id` only where either side has no id.

        A row without a task, or without a split, fits every one. Splits tell apart places alone, since ids are unique.

        Raises:
            QuestionError: there is no such row, or there are several.
            VideoError: there were no frames to choose from.
        """
        row = self.row(task=task, question_id=question_id, doc_id=doc_id, split=split)
        if row.unreadable is not None:
            raise VideoError(f"{self.path} has no frames for {row.name}: {row.unreadable}")
        return row

    def row(
        self,
        *,
        task: str | None = None,
        question_id: str | int | None = None,
        doc_id: int | None = None,
        split: str | None = None,
    ) -> ChosenFrames:
        """Return the row of a question as `find` does, also one that says why there are no frames.

        Raises:
            QuestionError: as `find`.
        """
        named = self._by_id.get(str(question_id), []) if question_id is not None else []
        placed = [
            row
            for row in (self._by_place.get(doc_id, []) if doc_id is not None else [])
            if (question_id is None or row.question_id is None) and (split is None or row.split in (None, split))
        ]
        found = named or placed
        fits = [row for row in found if task is None or row.task in (None, task)]
        fits = [row for row in fits if row.task == task] or fits
        if len(fits) != 1:
            raise QuestionError(self._unfound(_name(task, question_id, doc_id), found, fits))
        return fits[0]

    def _unfound(self, name: str, found: Sequence[ChosenFrames], fits: Sequence[ChosenFrames]) -> str:
        if fits:
            return f"{self.path} has {len(fits)} rows that {name} may mean; give its task, split and question_id"
        if found:
            tasks = ", ".join(sorted({repr(row.task) for row in found}))
            return f"{self.path} has no frames for {name}; it has this question for the task {tasks:.300}"
        return f"{self.path} has no frames for {name}; it has {counted(len(self), 'row')}, such as {self.rows[0].name}"

    def _added(self, rows: Iterable[tuple[int, ChosenFrames]]) -> Iterator[ChosenFrames]:
        lines: dict[tuple[object, ...], int] = {}
        for number, row in rows:
            keys: list[tuple[object, ...]] = []
            if row.question_id is not None:
                keys.append(("id", row.task, row.question_id))
                self._by_id.setdefault(row.question_id, []).append(row)
            if row.doc_id is not None:
                keys.append(("place", row.task, row.split, row.doc_id))
                self._by_place.setdefault(row.doc_id, []).append(row)
            for key in keys:
                if lines.setdefault(key, number) != number:
                    what = "question" if key[0] == "id" else f"doc_id {row.doc_id}"
                    raise ConfigError(
                        f"{self.path}:{number}: {row.name}: this {what} is in line {lines[key]} too; keep one row"
                    )
            yield row


def read_frames(path: str | Path) -> FramesFile:
    """Read a file of chosen frames.

    Raises:
        ConfigError: it cannot be read, a row is damaged or of another schema, or a question has two; the message
            begins with file and line.
    """
    return FramesFile(Path(path), iterate_frames(path))


def iterate_frames(path: str | Path) -> Iterator[tuple[int, ChosenFrames]]:
    """Yield rows with the number of their line, from 1, one in memory at a time.

    Raises:
        ConfigError: as for `read_frames`; two rows of a question are not noticed.
    """
    file = Path(path)
    for number, row in json_lines(file):
        yield number, ChosenFrames.from_row(row, place=f"{file}:{number}")


def json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """Yield the values of a JSONL file that others wrote with the number of their line, one in memory at a time.

    Raises:
        ConfigError: it cannot be read, or a line is cut off, too long, or no JSON.
    """
    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_JSON_BYTES + 1), b""), start=1):
                if len(line) > MAX_JSON_BYTES:
                    raise ConfigError(f"{file}:{number}: the line has more than {MAX_JSON_BYTES:,} bytes")
                if line.strip():
                    yield number, _parsed(line, f"{file}:{number}")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def _parsed(line: bytes, place: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        cut = "" if line.endswith(b"\n") else "it is the last one, and may be cut off: "
        raise ConfigError(f"{place}: the line is no JSON: {cut}{error}") from error


def write_frames(path: str | Path, rows: Iterable[ChosenFrames]) -> int:
    """Write rows to a file, whole or not at all, and return how many.

    Raises:
        ConfigError: one is no row of the schema.
        UserError: the folder cannot be written to.
    """
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        return sum(1 for row in rows if file.write(to_line(row)))


def to_line(row: ChosenFrames) -> str:
    """Return a row as a line of the file; errors as for `ChosenFrames.as_row`."""
    return json.dumps(row.as_row(), ensure_ascii=False, allow_nan=False) + "\n"


def _check_schema(row: Any, place: str) -> None:
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: a mapping is needed, not {row!r:.80}")
    schema = row.get("schema")
    if schema == SCHEMA:
        return
    if isinstance(schema, str) and schema.startswith(FAMILY):
        raise ConfigError(f"{place}: the schema is {schema!r:.80}, and this version reads {SCHEMA!r}; update it")
    if schema is None:
        raise ConfigError(
            f"{place}: it has no schema; give rows of {SCHEMA!r}, which other files are converted to with: "
            "sevila frames convert"
        )
    raise ConfigError(f"{place}: unknown schema {schema!r:.80}; {did_you_mean(str(schema), [SCHEMA])}")


def _name(task: str | None, question_id: str | int | None, doc_id: int | None) -> str:
    which = f"question {str(question_id)!r:.80}" if question_id is not None else f"doc_id {doc_id}"
    return f"{which} of {task!r:.80}" if task else which


def _known(value: Any) -> Any:
    """Return an entry of a row without what is not known."""
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if one not in (None, ())}


def _wrong(row: ChosenFrames) -> str | None:
    """Say what no row holds; None if there is nothing."""
    if row.question_id is None and row.doc_id is None:
        return "it names no question; give question_id, or doc_id"
    if row.unreadable is not None:
        return "it has frames, and its video could not be read" if len(row) else None
    if not len(row):
        return "it has no frames; give frame_idx or times_s, or say why as unreadable"
    candidates = row.candidates
    return (
        _wrong_places(row.frame_idx, row.times_s, row.num_frames)
        or _wrong_scores(row.scores, len(row))
        or ("sizes are no numbers above 0 for each frame" if _wrong_sizes(row.sizes, len(row)) else None)
        or (None if candidates is None else _wrong_candidates(candidates, row.num_frames))
    )


def _wrong_candidates(candidates: CandidateFrames, num_frames: int | None) -> str | None:
    places = candidates.times_s if candidates.times_s is not None else candidates.frame_idx
    wrong = (
        "neither frame_idx nor times_s is there"
        if places is None
        else _wrong_places(candidates.frame_idx, candidates.times_s, num_frames)
        or _wrong_scores(candidates.scores, len(places))
    )
    return None if wrong is None else f"candidates: {wrong}"


def _wrong_places(
    frame_idx: tuple[int, ...] | None, times_s: tuple[float, ...] | None, num_frames: int | None
) -> str | None:
    indices, times = frame_idx or (), times_s or ()
    if frame_idx is not None and times_s is not None and len(indices) != len(times):
        return f"it has {len(indices)} frame_idx and {len(times)} times_s"
    most = _MOST_FRAMES if num_frames is None else num_frames
    for index in indices:
        if not 0 <= index < most:
            return f"frame_idx has {str(index)[:20]}, which is no index below {most}"
    for time in times:
        if not (math.isfinite(time) and time >= 0):
            return f"times_s has {time}, which is no number of seconds from the video's start"
    for name, places in (("frame_idx", indices), ("times_s", times)):
        if any(later < earlier for earlier, later in pairwise(places)):
            return f"{name} is not in time order"
    return None


def _wrong_scores(scores: tuple[float | None, ...], count: int) -> str | None:
    if scores and len(scores) != count:
        return f"it has {len(scores)} scores of {count} frames"
    if any(score is not None and not math.isfinite(score) for score in scores):
        return "scores has what is no finite number; give null for a frame that was not scored"
    return None


def _wrong_sizes(sizes: tuple[float, ...], count: int) -> bool:
    return bool(sizes) and (len(sizes) != count or not all(math.isfinite(size) and size > 0 for size in sizes))

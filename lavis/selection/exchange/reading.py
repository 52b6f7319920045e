"""Reading chosen frames of any kind; K chosen frames in a row."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common.errors import ConfigError, counted
from lavis.common.files import MAX_JSON_BYTES
from lavis.common.types import Integers
from lavis.selection.exchange.kinds import KINDS, Chosen, Named
from lavis.selection.frames_file import FAMILY, ChosenFrames, FramesFile, read_frames
from lavis.selection.rows import (
    IDS,
    TEXTS,
    VIDEOS,
    Fail,
    Key,
    bolt_rows,
    failing,
    found_in,
    keys_of,
    numbers,
    read_content,
    text_in,
)

_WHAT = "frames file"
_EMPTY = "the file has no frames for it"


def read_chosen(path: Path, *, questions: Sequence[Named] | None = None, best: int | None = None) -> Chosen:
    """Read a file of any kind, told apart by what is in it.

    Args:
        questions: the annotation it was made from: whose rows they are, where that is told by place alone, and else a
            check that there are such questions.
        best: keep as many frames of a row, the best ones; None keeps all.

    Raises:
        ConfigError: it is damaged, of no known kind, does not fit the annotation, or has no scores.
        QuestionError: a row is about none of the questions.
    """
    found = _read(path, questions, best)
    if best is not None:
        found.rows = [_best(row, best, path) for row in found.rows]
    FramesFile(path, enumerate(found.rows, start=1))  # a question has one row
    return found


def _read(path: Path, questions: Sequence[Named] | None, best: int | None) -> Chosen:
    if _has_schema(path):
        return Chosen("sevila", list(read_frames(path).rows))
    try:
        content = read_content(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{_WHAT} {path} cannot be read: {error}") from error
    notes: Counter[str] = Counter()
    if isinstance(content, dict) and not {*IDS, "doc_id"} & content.keys():
        return Chosen("bolt", list(_bolt(content, path, questions)), notes)
    rows = content if isinstance(content, list) else [content]
    if rows and all(isinstance(row, list) for row in rows):
        return Chosen("aks", list(_by_place(rows, path, questions, notes)), notes)
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{_WHAT} {path} is of no known kind; known: {', '.join(KINDS)}")
    if "frame_idx" in rows[0]:
        return Chosen("annotation", list(_annotated(rows, path, questions, notes)), notes)
    if "index" in rows[0]:
        return Chosen("videoitg", list(_ranked(rows, path, questions, notes, best)), notes)
    raise ConfigError(f"{_WHAT} {path} is of no known kind: its first row has no schema, frame_idx or index")


def _has_schema(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = next((line for line in iter(lambda: file.readline(MAX_JSON_BYTES), b"") if line.strip()), b"")
            return FAMILY.encode() in first
    except OSError as error:
        raise ConfigError(f"{_WHAT} {path} cannot be read: {error.strerror}") from error


def _by_place(
    rows: list[list[Any]], path: Path, questions: Sequence[Named] | None, notes: Counter[str]
) -> Iterator[ChosenFrames]:
    if questions is None:
        raise ConfigError(
            f"{_WHAT} {path} does not say whose its {len(rows)} rows are; give the annotation file that they were made "
            "from"
        )
    if len(rows) != len(questions):
        raise ConfigError(
            f"{_WHAT} {path} has {counted(len(rows), 'row')} and the annotation {len(questions)}; "
            "give those made together"
        )
    for row, question in zip(rows, questions, strict=True):
        fail = failing(path, f"row {question.place + 1}", question.row, what=_WHAT)
        yield _indexed(row, fail, notes, **question.about)


def _annotated(
    rows: list[dict[str, Any]], path: Path, questions: Sequence[Named] | None, notes: Counter[str]
) -> Iterator[ChosenFrames]:
    known = None if questions is None else {one.id: one for one in questions}
    for place, row in enumerate(rows):
        fail = failing(path, f"row {place + 1}", row, what=_WHAT)
        name = text_in(row, IDS)
        if not name:
            raise fail(f"it has no {', '.join(IDS)}")
        if known is not None and name not in known:
            raise fail("the annotation has no such question; give the one that was copied")
        yield _indexed(row.get("frame_idx"), fail, notes, **(known[name] if known else Named(place, row)).about)


def _ranked(
    rows: list[dict[str, Any]], path: Path, questions: Sequence[Named] | None, notes: Counter[str], best: int | None
) -> Iterator[ChosenFrames]:
    for number, row in enumerate(rows, start=1):
        fail = failing(path, f"row {number}", {"id": f"doc_id {row.get('doc_id')}"}, what=_WHAT)
        place = row.get("doc_id")
        if not isinstance(place, int) or isinstance(place, bool) or place < 0:
            raise fail(f"doc_id is {place!r:.80}; it must be a place in the annotation, from 0")
        if questions is not None and place >= len(questions):
            raise fail(f"the annotation has {len(questions)} rows only")
        texts = {"question": row.get("contexts"), "video": row.get("video_path")}
        about: dict[str, Any] = {"doc_id": place, **{key: text for key, text in texts.items() if _is_text(text)}}
        about |= questions[place].about if questions is not None else {}
        index, logits = row.get("index"), row.get("logits")
        if index == []:
            notes[f"rows without frames: {_EMPTY}"] += 1
            yield ChosenFrames(**about, unreadable=_EMPTY)
            continue
        places = _indices(index, fail, notes)
        scores = None if logits is None else numbers(logits, "logits", fail)
        if scores is not None and len(scores) != len(places):
            raise fail(f"it has {len(scores)} logits of {len(places)} frames")
        order = np.sort(np.unique(places, return_index=True)[1])  # a frame that is ranked twice counts once
        if len(order) < len(places):
            notes["rows that rank a frame twice: the better place counts"] += 1
        order = order[:best]
        order = order[np.argsort(places[order], kind="stable")]
        kept = () if scores is None else tuple(scores[order].tolist())
        yield ChosenFrames(**about, frame_idx=tuple(places[order].tolist()), scores=kept, method="VideoITG")


def _bolt(content: Mapping[str, Any], path: Path, questions: Sequence[Named] | None) -> Iterator[ChosenFrames]:
    table = _table(questions) if questions is not None else None
    for video, row, fail in bolt_rows(content, path, what=_WHAT):
        if table is None:
            about: dict[str, Any] = {"question_id": text_in(row, IDS), "question": text_in(row, TEXTS), "video": video}
            about = {key: text for key, text in about.items() if _is_text(text)}
            if "question_id" not in about:
                raise fail("it has no question_id; give the annotation file")
        else:
            keys = [key for key in keys_of(row, video) if key[0] != "nothing but text"]
            sure = [key for key in keys if key[0] == "video and text"]
            # Some benchmarks count questions within a video, so that an id alone may be another's.
            keys = sure if any(table.get(key) for key in sure) else keys
            about = found_in(table, keys, name=f"{text_in(row, IDS)!r:.80}", path=path, what="such row").about
        frames = row.get("frames")
        if frames == []:
            yield ChosenFrames(**about, unreadable=_EMPTY)
            continue
        times = np.sort(numbers(frames, "frames", fail))
        if times[0] < 0:
            raise fail(f"its frames hold {times[0]:g} s, which is before the video's start")
        yield ChosenFrames(**about, times_s=tuple(times.tolist()), method="BOLT")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _table(questions: Sequence[Named]) -> dict[Key, Named | None]:
    table: dict[Key, Named | None] = {}
    for one in questions:
        for key in keys_of(one.row, text_in(one.row, VIDEOS)):
            table[key] = None if key in table else one
    return table


def _indexed(values: Any, fail: Fail, notes: Counter[str], **about: Any) -> ChosenFrames:
    if values == []:
        notes[f"rows without frames: {_EMPTY}"] += 1
        return ChosenFrames(**about, unreadable=_EMPTY)
    places = _indices(values, fail, notes)
    if (np.diff(places) < 0).any():
        notes["rows that were not in time order: sorted"] += 1
    return ChosenFrames(**about, frame_idx=tuple(np.sort(places).tolist()))


def _indices(values: Any, fail: Fail, notes: Counter[str]) -> Integers:
    """Return indices int64 [K]; parts of a frame are cut off, as the readers of these files do."""
    found = numbers(values, "frames", fail)
    if found.min() < 0 or found.max() >= 2**53:
        raise fail(f"its frames hold {found.min() if found.min() < 0 else found.max():g}, which is no index of a frame")
    if (found % 1).any():
        notes["rows with indices that were no whole numbers: rounded down"] += 1
    return found.astype(np.int64)


def _best(row: ChosenFrames, count: int, path: Path) -> ChosenFrames:
    """Return a row with its best frames alone."""
    if len(row) <= count:
        return row
    if not row.scores:
        raise ConfigError(f"{path}: {row.name} has {len(row)} frames and no scores to choose the best {count} by")
    scores = np.array([-math.inf if score is None else score for score in row.scores])
    kept = np.sort(np.argsort(-scores, kind="stable")[:count])
    of_frames = {name: getattr(row, name) for name in ("frame_idx", "times_s", "scores", "sizes")}
    fewer: dict[str, Any] = {
        name: tuple(values[place] for place in kept) for name, values in of_frames.items() if values
    }
    return replace(row, **fewer)

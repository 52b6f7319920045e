"""Subtitle files: SubRip (`.srt`), and the JSON of LongVideoBench."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, read_text, shown
from sevila_data.dataset import RawSplit, Row, clock_seconds

Cue = list[Any]
"""[start, end, text], in seconds."""

_TAG = re.compile(r"<[^>]*>")
_ARROW = "-->"


def cue_fields(raw: RawSplit, name: str, read: Callable[[Path], list[Cue]]) -> Row:
    """Return the schema's `cues` of a file in the raw folder; none, with a note, if it is not there.

    Where its whole folder is missing, nobody wants subtitles, and there is no note.
    """
    path = raw.folder / name
    if not path.parent.is_dir():
        return {}
    if not path.is_file():
        raw.notes["no subtitles of its video: asked without"] += 1
        return {}
    return {"cues": read(path)}


def read_srt(path: Path) -> list[Cue]:
    """Read a SubRip file; formatting is left out, and so are subtitles without text.

    Raises:
        AnnotationError: it cannot be read, or a time is none.
    """
    cues: list[Cue] = []
    for block in re.split(r"\n\s*\n", read_text(path).replace("\r\n", "\n")):
        lines = block.strip().split("\n")
        at = next((at for at, line in enumerate(lines) if _ARROW in line), None)
        if at is not None:
            record = Record({}, path, len(cues) + 1, "subtitle")
            start, end = (clock_seconds(record, "time", part) for part in lines[at].split(_ARROW))
            cues += _cue(start, end, " ".join(lines[at + 1 :]))
    return cues


def read_json_subtitles(path: Path, *, offset_s: float, duration_s: float) -> list[Cue]:
    """Read a file of LongVideoBench: rows of "start", "end" and "line", or of "timestamp" and "text".

    Args:
        offset_s: the subtitles' time at the start of the video; those that end before it are left out.
        duration_s: the video's length, which ends a subtitle without an end.

    Raises:
        AnnotationError: it cannot be read, or a row is something else.
    """
    cues: list[Cue] = []
    for start, end, text in _json_rows(path, offset_s + duration_s):
        if end > offset_s:
            cues += _cue(max(0.0, start - offset_s), end - offset_s, text)
    return cues


def _json_rows(path: Path, last_s: float) -> Iterator[tuple[float, float, str]]:
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        raise AnnotationError(f"{path} is not valid JSON: {error}") from error
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, subtitle {number} is {shown(row)}, not an object")
        record = Record(row, path, number, "subtitle")
        if record.has("timestamp"):
            pair = record.value("timestamp")
            if not isinstance(pair, list) or len(pair) != 2:
                raise record.error("timestamp", f"{shown(pair)} is not [start, end]")
            end = last_s if pair[1] is None else record.as_seconds("timestamp", pair[1])
            yield record.as_seconds("timestamp", pair[0]), end, str(record.value("text"))
        else:
            start, end = (clock_seconds(record, name, record.value(name)) for name in ("start", "end"))
            yield start, end, str(record.value("line"))


def _cue(start: float, end: float, text: str) -> list[Cue]:
    text = " ".join(_TAG.sub("", text).split())
    return [[round(start, 3), round(max(start, end), 3), text]] if text else []

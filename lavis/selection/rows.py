"""Files that others made about questions: reading their rows, and telling which row is about which question.

A question is found by its id, else by its video and its text; by its text alone only where one side has nothing else to
tell it by.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.files import parse_json, read_json
from lavis.common.types import Floats, Question

T = TypeVar("T")

IDS = ("question_id", "qid", "id")
TEXTS = ("question", "query")
VIDEOS = ("video", "vid", "video_path", "videoID", "video_name", "video_id")
MAX_BYTES = 2**30
Fail = Callable[[str], ConfigError]
Key = tuple[str, ...]
_SUFFIX = re.compile(r"\.\d?[A-Za-z]\w{1,3}$")  # of a video file; names of clips end in times, such as "_210.0"


def read_content(path: Path) -> Any:
    """Return what JSON or JSONL holds; a JSONL file is a list of rows.

    Raises:
        OSError, ValueError: it cannot be read, or is neither; the message does not name the file.
    """
    try:
        return read_json(path, max_bytes=MAX_BYTES)
    except json.JSONDecodeError:
        rows = []
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    rows += [parse_json(line)] if line.strip() else []
                except ValueError as error:
                    raise ValueError(f"line {number} is no JSON ({error})") from error
        return rows


def numbers(values: Any, name: str, fail: Fail, *, unscored: bool = False) -> Floats:
    """Return numbers as float64 [N], N >= 1; where `unscored` says so, null is NaN.

    Raises:
        ConfigError: they are something else.
    """
    is_list = isinstance(values, list) and len(values) > 0
    if not is_list or not all(_is_number(one) or (unscored and one is None) for one in values):
        raise fail(f"its {name} are no list of finite numbers")
    return np.array([np.nan if one is None else one for one in values], dtype=np.float64)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max  # whole numbers of any length come from JSON


def failing(path: Path, place: str, row: Mapping[str, Any], *, what: str) -> Fail:
    """Return what makes an error about a row of a file, a `what`, that names its question."""
    question = next((row[key] for key in (*IDS, *TEXTS) if key in row), None)
    named = "" if question is None else f" (question {str(question)!r:.80})"
    return lambda problem: ConfigError(f"{what} {path}, {place}{named}: {problem}")


def bolt_rows(content: Mapping[str, Any], path: Path, *, what: str) -> Iterator[tuple[str, dict[str, Any], Fail]]:
    """Yield video, row and what makes an error about it, of BOLT's mapping of videos to lists of rows."""
    for video, rows in content.items():
        for row in rows if isinstance(rows, list) else [rows]:
            if not isinstance(row, dict):
                raise ConfigError(f"{what} {path}, video {video!r:.80} has no list of question_id and frames")
            yield video, row, failing(path, f"video {video!r:.80}", row, what=what)


def text_in(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the first of these entries that is there, as text; "" where none is, or it is no text."""
    found = next((row[name] for name in names if name in row), "")
    return str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""


def keys_of(row: Mapping[str, Any], video: str) -> list[Key]:
    """Return how the question of a row can be found, the surest way first."""
    name, text = text_in(row, IDS), text_in(row, TEXTS)
    alone = [("text", text), *([("nothing but text", text)] if not name and not video else [])]
    return [*_sure_keys(name, text, video), *(alone if text else [])]


def keys_for(question: Question) -> list[Key]:
    """Return how a question is looked for, the surest way first.

    Questions of several videos have the same text, so that is not enough where more is known on both sides.
    """
    name, text, video = question.id, question.text, question.video or ""
    alone = "nothing but text" if name or video else "text"
    return [*_sure_keys(name, text, video), (alone, text)]


def _sure_keys(name: str, text: str, video: str) -> list[Key]:
    """Return the id, and the text with the video's name without folder and suffix."""
    clip = _SUFFIX.sub("", PurePosixPath(video).name) if video else ""
    return [*([("id", name)] if name else []), *([("video and text", clip, text)] if clip and text else [])]


def found_in(
    table: Mapping[Key, T | None],
    keys: Sequence[Key],
    *,
    name: str,
    path: Path,
    what: str,
    way_out: str = "give its id there",
) -> T:
    """Return what a file says of a question; `table` has None for a key of several questions.

    Args:
        name: of the question, `what`: the file holds, `way_out`: where several rows fit; for messages.

    Raises:
        QuestionError: nothing, or nobody can tell what.
    """
    for key in keys:
        if (found := table.get(key)) is not None:
            return found
    if any(key in table for key in keys):
        raise QuestionError(f"{path} has several rows that question {name} may mean; {way_out}")
    known = [key[-1] for key in table if key[0] == "id"] or [key[-1] for key in table]
    such = f", such as {known[0]!r:.80}" if known else ""
    raise QuestionError(f"{path} has no {what} of question {name}; it has {len(known)}{such}")

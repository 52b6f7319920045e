"""Scores that were made elsewhere and lie in a file.

Four layouts are told apart by what is in them:

* ours: JSONL, a row for each question, with `question_id`, `scores`, and of each score its `times_s` (seconds) or
  `frame_idx` (index into the source video). A row may have `video` and `question`, and may keep what was scored under
  `candidates`, beside chosen frames. null is a frame that was not scored;
* AKS: `scores.json`, a list of scores for each question, beside `frames.json`, their indices into the source video;
  questions have no names there, so the annotation file they were made from says whose is whose;
* lighthouse (and Moment-DETR): JSONL with `qid`, `query`, `vid` and `pred_saliency_scores`, one for each clip of 2 s;
* BOLT: a mapping of videos to `{question_id, question, frames}`, the seconds of chosen frames, which score 1.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.files import file_digest, parse_json, read_json
from lavis.common.types import Floats, Question
from lavis.models.base import FrameScores, Mask
from lavis.models.frames import FrameSource
from lavis.selection.scorers.common import frame_scores, question_name

_IDS = ("question_id", "qid", "id")
_TEXTS = ("question", "query")
_VIDEOS = ("video", "vid")
_SUFFIX = re.compile(r"\.\d?[A-Za-z]\w{1,3}$")  # of a video file; names of clips end in times, such as "_210.0"
_MAX_BYTES = 2**30
_Fail = Callable[[str], ConfigError]
Key = tuple[str, ...]


@dataclass(frozen=True)
class _Scores:
    """What a file says of one question.

    Attributes:
        places: float64 [N], increasing, where frames were scored.
        unit: of the places: "s", or "frame" for indices into the source video.
        scores: float64 [N]; None where the places are chosen frames.
    """

    places: Floats
    unit: str
    scores: Floats | None


_Table = Mapping[Key, _Scores | None]  # None is a key of several questions


class ScoresFile:
    """Scores frames by a file; a frame gets the score of the nearest one in the file, in seconds or in indices.

    A question is found by its id, else by its video and its text; by its text alone only where one side has nothing
    else to tell it by.

    Args:
        path: the file, or AKS' folder.
        questions: the annotation file that says whose scores are whose where they have no names (AKS).
        clip_s: seconds of a clip, in lighthouse's layout.

    Raises:
        ConfigError: a file that is not there, damaged, or of another layout; the message names file and question.
    """

    def __init__(self, *, path: str, questions: str | None = None, clip_s: float = 2.0) -> None:
        if clip_s <= 0:
            raise ConfigError(f"cannot read scores of clips of {clip_s} s; give a clip_s above 0")
        place = Path(path).expanduser()
        self._path = place / "scores.json" if place.is_dir() else place
        self._questions = None if questions is None else Path(questions).expanduser()
        self._clip_s = float(clip_s)
        self._digests = [file_digest(file) for file in self._files() if file.is_file()]
        self._table()

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`.

        Raises:
            QuestionError: the file has no scores of a question, or they are of another video.
        """
        scores = np.stack([self._placed(self._found(question), frames, question) for question in questions])
        return frame_scores(scores, where)

    def _files(self) -> list[Path]:
        return [self._path, self._path.with_name("frames.json"), *([self._questions] if self._questions else [])]

    def _table(self) -> _Table:
        return _read(self._path, self._questions, self._clip_s, tuple(self._digests))

    def _found(self, question: Question) -> _Scores:
        table = self._table()
        keys = _keys_for(question)
        for key in keys:
            if (found := table.get(key)) is not None:
                return found
        if any(key in table for key in keys):
            raise QuestionError(
                f"{self._path} has several rows that question {question_name(question)} may mean; give its id there"
            )
        known = [key[-1] for key in table if key[0] == "id"] or [key[-1] for key in table]
        raise QuestionError(
            f"{self._path} has no scores of question {question_name(question)}; it has {len(known)}, such as "
            f"{known[0]!r:.80}"
        )

    def _placed(self, found: _Scores, frames: FrameSource, question: Question) -> Floats:
        """Return the scores [T] of a question at the frames of a source."""
        ours = frames.times_s if found.unit == "s" else frames.frame_idx.astype(np.float64)
        if found.scores is None:
            chosen = np.zeros(len(ours))
            chosen[self._nearest(ours, found.places, question)] = 1
            return chosen
        return found.scores[self._nearest(found.places, ours, question)]

    def _nearest(self, known: Floats, asked: Floats, question: Question) -> Any:
        """Return which of the places that are known lies nearest to each that is asked for, the later of two.

        Raises:
            QuestionError: one lies further outside than two neighbours that are known lie apart.
        """
        widest = np.diff(known).max() if len(known) > 1 else np.inf
        outside = max(known[0] - asked.min(), asked.max() - known[-1])
        if outside > widest:
            raise QuestionError(
                f"{self._path} is about another video than question {question_name(question)}: frames reach from "
                f"{asked.min():g} to {asked.max():g}, where it has {known[0]:g} to {known[-1]:g}"
            )
        return np.searchsorted((known[1:] + known[:-1]) / 2, asked, side="right")


@lru_cache(maxsize=4)
def _read(path: Path, questions: Path | None, clip_s: float, digests: tuple[str, ...]) -> _Table:
    """Read a file; `digests` tell apart what lay there at other times."""
    del digests
    try:
        content = _content(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scores file {path} cannot be read: {error}") from error
    table: dict[Key, _Scores | None] = {}
    for keys, found, fail in _rows(content, path, questions, clip_s):
        if not keys:
            raise fail("it names no question; give question_id")
        for key in keys:
            # BOLT's ids are those of its benchmarks, and some of them count within a video.
            if key in table and key[0] == "id" and found.scores is not None:
                raise fail("it is there twice; keep one row")
            table[key] = None if key in table else found
    if not table:
        raise ConfigError(f"scores file {path} is empty; give one with a row for each question")
    return table


def _content(path: Path) -> Any:
    """Return what JSON or JSONL holds; a JSONL file is a list of rows."""
    try:
        return read_json(path, max_bytes=_MAX_BYTES)
    except json.JSONDecodeError:
        rows = []
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    rows += [parse_json(line)] if line.strip() else []
                except ValueError as error:
                    raise ValueError(f"line {number} is no JSON ({error})") from error
        return rows


def _rows(
    content: Any, path: Path, questions: Path | None, clip_s: float
) -> Iterator[tuple[list[Key], _Scores, _Fail]]:
    """Yield, for each question of a file, how it is found, its scores, and what makes an error about it."""
    if isinstance(content, dict) and not any(name in content for name in (*_IDS, "scores", "pred_saliency_scores")):
        yield from _bolt_rows(content, path)
    elif isinstance(content, list) and content and all(isinstance(row, list) for row in content):
        yield from _aks_rows(content, path, questions)
    else:
        for number, row in enumerate(content if isinstance(content, list) else [content], start=1):
            if not isinstance(row, dict):
                raise ConfigError(
                    f"scores file {path}, row {number} is {type(row).__name__}; give a mapping with question_id, "
                    "scores and times_s"
                )
            name = next((row[key] for key in (*_IDS, *_TEXTS) if key in row), None)
            fail = _failing(path, f"row {number}", name)
            yield _keys_of(row, _text_in(row, _VIDEOS)), _scores_of(row, clip_s, fail), fail


def _scores_of(row: Mapping[str, Any], clip_s: float, fail: _Fail) -> _Scores:
    """Read a row of our layout, or of lighthouse's."""
    if "pred_saliency_scores" in row:
        scores = _numbers(row["pred_saliency_scores"], "pred_saliency_scores", fail)
        return _Scores(np.arange(0.5, len(scores)) * clip_s, "s", scores)
    kept = row["candidates"] if isinstance(row.get("candidates"), dict) else row
    scores = _numbers(kept.get("scores"), "scores", fail, unscored=True)
    unit, name = ("s", "times_s") if kept.get("times_s") is not None else ("frame", "frame_idx")
    if kept.get(name) is None:
        raise fail("it has neither times_s nor frame_idx, so nobody knows which frames its scores are of")
    return _at(_numbers(kept[name], name, fail), unit, scores, fail)


def _aks_rows(
    content: list[list[Any]], path: Path, questions: Path | None
) -> Iterator[tuple[list[Key], _Scores, _Fail]]:
    beside = path.with_name("frames.json")
    if questions is None:
        raise ConfigError(
            f"scores file {path} does not say whose its {len(content)} rows are; give the annotation file that they "
            "were made from, as questions"
        )
    try:
        frames, named = read_json(beside, max_bytes=_MAX_BYTES), _content(questions)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scores file {path} cannot be read with {beside} and {questions}: {error}") from error
    for file, rows in ((beside, frames), (questions, named)):
        if not isinstance(rows, list) or len(rows) != len(content):
            raise ConfigError(
                f"scores file {path} has {len(content)} rows and {file} "
                f"{len(rows) if isinstance(rows, list) else 'none'}; give those that were made together"
            )
    for number, (scores, indices, row) in enumerate(zip(content, frames, named, strict=True), start=1):
        row = row if isinstance(row, dict) else {}
        fail = _failing(path, f"row {number}", next((row[key] for key in (*_IDS, *_TEXTS) if key in row), None))
        places = _numbers(indices, "frames.json", fail)
        found = _at(places, "frame", _numbers(scores, "scores.json", fail), fail)
        yield _keys_of(row, _text_in(row, _VIDEOS)), found, fail


def _bolt_rows(content: Mapping[str, Any], path: Path) -> Iterator[tuple[list[Key], _Scores, _Fail]]:
    for video, rows in content.items():
        for row in rows if isinstance(rows, list) else [rows]:
            if not isinstance(row, dict):
                raise ConfigError(f"scores file {path}, video {video!r:.80} has no list of question_id and frames")
            fail = _failing(path, f"video {video!r:.80}", row.get("question_id"))
            seconds = np.unique(_numbers(row.get("frames"), "frames", fail))
            yield _keys_of(row, video), _Scores(seconds, "s", None), fail


def _at(places: Floats, unit: str, scores: Floats, fail: _Fail) -> _Scores:
    if len(places) != len(scores):
        raise fail(f"it has {len(scores)} scores of {len(places)} frames")
    order = np.argsort(places, kind="stable")
    if (np.diff(places[order]) == 0).any():
        raise fail("it scores a frame twice")
    return _Scores(places[order], unit, scores[order])


def _numbers(values: Any, name: str, fail: _Fail, *, unscored: bool = False) -> Floats:
    """Return numbers as float64 [N]; where `unscored` says so, null is NaN."""
    is_list = isinstance(values, list) and len(values) > 0
    if not is_list or not all(
        (isinstance(one, (int, float)) and not isinstance(one, bool) and np.isfinite(one)) or (unscored and one is None)
        for one in values
    ):
        raise fail(f"its {name} are no list of finite numbers")
    return np.array([np.nan if one is None else one for one in values], dtype=np.float64)


def _failing(path: Path, place: str, question: Any) -> _Fail:
    named = "" if question is None else f" (question {str(question)!r:.80})"
    return lambda problem: ConfigError(f"scores file {path}, {place}{named}: {problem}")


def _keys_of(row: Mapping[str, Any], video: str) -> list[Key]:
    """Return how the question of a row can be found, the surest way first."""
    name, text = _text_in(row, _IDS), _text_in(row, _TEXTS)
    alone = [("text", text), *([("nothing but text", text)] if not name and not video else [])]
    return [*_sure_keys(name, text, video), *(alone if text else [])]


def _keys_for(question: Question) -> list[Key]:
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


def _text_in(row: Mapping[str, Any], names: Sequence[str]) -> str:
    found = next((row[name] for name in names if name in row), "")
    return str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""

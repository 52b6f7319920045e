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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common.errors import ConfigError, QuestionError, counted
from lavis.common.files import file_digest, read_json
from lavis.common.types import Floats, Integers, Question
from lavis.models.base import FrameScores, Mask
from lavis.models.frames import FrameSource
from lavis.selection.rows import (
    IDS,
    MAX_BYTES,
    VIDEOS,
    Fail,
    Key,
    bolt_rows,
    failing,
    found_in,
    keys_for,
    keys_of,
    numbers,
    read_content,
    text_in,
)
from lavis.selection.scorers.common import frame_scores, question_name
from lavis.video import nearest_positions

_WHAT = "scores file"


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

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Make sure that the file has scores of all questions.

        Raises:
            QuestionError: it has none of one.
        """
        for question in questions:
            self._found(question)

    def _files(self) -> list[Path]:
        return [self._path, self._path.with_name("frames.json"), *([self._questions] if self._questions else [])]

    def _table(self) -> _Table:
        return _read(self._path, self._questions, self._clip_s, tuple(self._digests))

    def _found(self, question: Question) -> _Scores:
        name = question_name(question)
        return found_in(self._table(), keys_for(question), name=name, path=self._path, what="scores")

    def _placed(self, found: _Scores, frames: FrameSource, question: Question) -> Floats:
        """Return the scores [T] of a question at the frames of a source."""
        ours = frames.times_s if found.unit == "s" else frames.frame_idx.astype(np.float64)
        if found.scores is None:
            chosen = np.zeros(len(ours))
            chosen[self._nearest(ours, found.places, question)] = 1
            return chosen
        return found.scores[self._nearest(found.places, ours, question)]

    def _nearest(self, known: Floats, asked: Floats, question: Question) -> Integers:
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
        return nearest_positions(known, asked)


@lru_cache(maxsize=4)
def _read(path: Path, questions: Path | None, clip_s: float, digests: tuple[str, ...]) -> _Table:
    """Read a file; `digests` tell apart what lay there at other times."""
    del digests
    try:
        content = read_content(path)
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


def _rows(content: Any, path: Path, questions: Path | None, clip_s: float) -> Iterator[tuple[list[Key], _Scores, Fail]]:
    """Yield, for each question of a file, how it is found, its scores, and what makes an error about it."""
    if isinstance(content, dict) and not any(name in content for name in (*IDS, "scores", "pred_saliency_scores")):
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
            fail = failing(path, f"row {number}", row, what=_WHAT)
            yield keys_of(row, text_in(row, VIDEOS)), _scores_of(row, clip_s, fail), fail


def _scores_of(row: Mapping[str, Any], clip_s: float, fail: Fail) -> _Scores:
    """Read a row of our layout, or of lighthouse's."""
    if "pred_saliency_scores" in row:
        scores = numbers(row["pred_saliency_scores"], "pred_saliency_scores", fail)
        return _Scores(np.arange(0.5, len(scores)) * clip_s, "s", scores)
    kept = row["candidates"] if isinstance(row.get("candidates"), dict) else row
    scores = numbers(kept.get("scores"), "scores", fail, unscored=True)
    unit, name = ("s", "times_s") if kept.get("times_s") is not None else ("frame", "frame_idx")
    if kept.get(name) is None:
        raise fail("it has neither times_s nor frame_idx, so nobody knows which frames its scores are of")
    return _at(numbers(kept[name], name, fail), unit, scores, fail)


def _aks_rows(
    content: list[list[Any]], path: Path, questions: Path | None
) -> Iterator[tuple[list[Key], _Scores, Fail]]:
    beside = path.with_name("frames.json")
    if questions is None:
        raise ConfigError(
            f"scores file {path} does not say whose its {len(content)} rows are; give the annotation file that they "
            "were made from, as questions"
        )
    try:
        frames, named = read_json(beside, max_bytes=MAX_BYTES), read_content(questions)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scores file {path} cannot be read with {beside} and {questions}: {error}") from error
    for file, rows in ((beside, frames), (questions, named)):
        if not isinstance(rows, list) or len(rows) != len(content):
            raise ConfigError(
                f"scores file {path} has {counted(len(content), 'row')} and {file} "
                f"{len(rows) if isinstance(rows, list) else 'none'}; give those that were made together"
            )
    for number, (scores, indices, row) in enumerate(zip(content, frames, named, strict=True), start=1):
        row = row if isinstance(row, dict) else {}
        fail = failing(path, f"row {number}", row, what=_WHAT)
        places = numbers(indices, "frames.json", fail)
        found = _at(places, "frame", numbers(scores, "scores.json", fail), fail)
        yield keys_of(row, text_in(row, VIDEOS)), found, fail


def _bolt_rows(content: Mapping[str, Any], path: Path) -> Iterator[tuple[list[Key], _Scores, Fail]]:
    for video, row, fail in bolt_rows(content, path, what=_WHAT):
        seconds = np.unique(numbers(row.get("frames"), "frames", fail))
        yield keys_of(row, video), _Scores(seconds, "s", None), fail


def _at(places: Floats, unit: str, scores: Floats, fail: Fail) -> _Scores:
    if len(places) != len(scores):
        raise fail(f"it has {len(scores)} scores of {len(places)} frames")
    order = np.argsort(places, kind="stable")
    if (np.diff(places[order]) == 0).any():
        raise fail("it scores a frame twice")
    return _Scores(places[order], unit, scores[order])

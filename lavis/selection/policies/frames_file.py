"""Frames that were chosen elsewhere and lie in a file, of any kind that `lavis.selection.exchange` reads.

T frames of one video that are watched, K frames of a row.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lavis.common.errors import ConfigError, QuestionError, VideoError, counted
from lavis.common.files import file_digest
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.base import FrameScorer, Selection
from lavis.models.frames import FrameSource
from lavis.selection.exchange.kinds import read_annotation
from lavis.selection.exchange.reading import read_chosen
from lavis.selection.frames_file import ChosenFrames
from lavis.selection.rows import Key, found_in, keys_for, keys_of
from lavis.selection.scorers.common import question_name
from lavis.video import nearest_positions

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-6  # seconds, or frames: what rounding costs
_Table = dict[Key, ChosenFrames | None]  # None is a key of several questions


class FromFile:
    """The very frames of a file, however many are asked for: of each, the watched frame that is nearest in time.

    Where a row has indices alone, nearest by index. How many lie further off than half the step between watched frames,
    or share a watched frame with another one, is said with the answer and logged.

    Args:
        path: the file.
        questions: the annotation file it was made from, where rows are told by their place (AKS, FOCUS, VideoITG).
        task: of the rows that are meant, where the file has several.
        best: as many frames as are asked for, the best by score, where a row has more.

    Raises:
        ConfigError: a file that is not there, damaged, or of another kind; the message names file and row.
    """

    needs_scorer = False
    chooses_unscored = True

    def __init__(self, *, path: str, questions: str | None = None, task: str | None = None, best: bool = False) -> None:
        self._path = Path(path).expanduser()
        self._questions = None if questions is None else Path(questions).expanduser()
        self._task, self._is_best = task, best
        self._digests = tuple(_digest(file) for file in (self._path, self._questions) if file is not None)
        self._num_misplaced = 0
        self._table()

    def fingerprint(self) -> list[Any]:
        """Return what the choice depends on."""
        return [*self._digests, self._task, self._is_best]

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Make sure that the file has a row for each of the questions.

        Raises:
            QuestionError: it has none for one.
        """
        for question in questions:
            self._row(question)

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose the frames of the file.

        Raises:
            QuestionError: it has no row for a question, or one about a longer video.
            VideoError: its row says that the video could not be read.
        """
        del scorer
        return [self._selection(frames, question, k) for question in questions]

    def _table(self) -> _Table:
        return _read(self._path, self._questions, self._task, self._digests)

    def _row(self, question: Question) -> ChosenFrames:
        return found_in(
            self._table(),
            keys_for(question),
            name=question_name(question),
            path=self._path,
            what="frames",
            way_out="give its id there, or the task here",
        )

    def _selection(self, frames: FrameSource, question: Question, k: int) -> Selection:
        row = self._row(question)
        if row.unreadable is not None:
            raise VideoError(f"{self._path} has no frames for {row.name}: {row.unreadable}")
        placed = _placed(row, frames)
        if placed.far == len(row):
            raise QuestionError(
                f"{self._path} is about another video or clip than {row.name}: no frame of it is watched"
            )
        kept = placed.kept
        if self._is_best and len(kept) > k:
            if not row.scores:
                raise QuestionError(
                    f"{self._path} has no scores of {row.name} to choose {k} of its {len(row)} frames by"
                )
            order = np.argsort(-np.nan_to_num(_floats(row.scores)[kept], nan=-np.inf), kind="stable")
            kept = np.sort(kept[order[:k]])
        positions, scores = placed.positions[kept], np.empty(0)
        if row.scores:
            scores = np.full(len(frames), np.nan)
            scores[positions] = _floats(row.scores)[kept]
        sizes = _floats(row.sizes)[kept] if row.sizes else np.empty(0)
        return Selection(positions, scores, Unread(notes=self._noted(placed, row)), sizes)

    def _noted(self, placed: "_Placed", row: ChosenFrames) -> tuple[str, ...]:
        """Say how many frames of the file are not read as they are; in the log, of the questions 1, 2, 4, 8, ..."""
        notes = []
        if placed.far:
            notes.append(
                f"{placed.far} of {len(row)} frames of {self._path} are more than half a step off any watched frame"
            )
        if merged := len(row) - len(placed.kept):
            notes.append(
                f"{merged} of {len(row)} frames of {self._path} have no watched frame of their own; watch more frames"
            )
        if notes:
            self._num_misplaced += 1
            if self._num_misplaced.bit_count() == 1:
                so_far = counted(self._num_misplaced, "question")
                logger.warning("%s: %s; %s so far", row.name, "; ".join(notes), so_far)
        return tuple(notes)


@dataclass(frozen=True)
class _Placed:
    """Where the frames of a row are among those that are watched.

    Attributes:
        positions: int64 [K], of each the nearest.
        kept: which of the K are read: of different frames with one position, the first.
        far: how many lie further off than half a step.
    """

    positions: Integers
    kept: Integers
    far: int


def _placed(row: ChosenFrames, frames: FrameSource) -> _Placed:
    """Find the watched frames that are nearest in seconds, or in indices where a row has no seconds."""
    if row.times_s is not None:
        asked, watched = _floats(row.times_s), frames.times_s
    else:
        asked, watched = _floats(row.frame_idx or ()), frames.frame_idx.astype(np.float64)
    positions = nearest_positions(watched, asked)
    step = float(np.median(np.diff(watched))) if len(watched) > 1 else np.inf
    far = np.abs(watched[positions] - asked) > step / 2 + _TOLERANCE
    # A row may hold one frame twice, as some published rules do; that is kept.
    first = np.searchsorted(positions, positions)
    return _Placed(positions, np.flatnonzero(asked == asked[first]), int(far.sum()))


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array(values, dtype=np.float64)


def _digest(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as error:
        raise ConfigError(f"frames file {file} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4)
def _read(path: Path, questions: Path | None, task: str | None, digests: tuple[str, ...]) -> _Table:
    """Read a file; `digests` tell apart what lay there at other times."""
    del digests
    named = None if questions is None else read_annotation(questions)
    table: _Table = {}
    for row in read_chosen(path, questions=named).rows:
        if task is not None and row.task not in (None, task):
            continue
        about = {"question_id": row.question_id, "question": row.question}
        for key in keys_of({name: text for name, text in about.items() if text}, row.video or ""):
            table[key] = None if key in table else replace(row, candidates=None)  # as many as were watched
    if not table:
        raise ConfigError(f"frames file {path} has no row with a question_id or text; give the annotation as questions")
    return table

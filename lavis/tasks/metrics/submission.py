"""QVHighlights' files: one JSON object per line, for ground truth and for submissions in the official format.

https://github.com/jayleicn/moment_detr/tree/main/standalone_eval describes both. Other benchmarks' ground truth, such
as Charades-STA's, has the same layout without ratings of clips. Whatever does not fit is named by file, line and field.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lavis.common.errors import AnnotationError
from lavis.common.files import write_text
from lavis.common.naming import listed
from lavis.common.types import Floats, Moment
from lavis.datasets.records import id_text, read_records

logger = logging.getLogger(__name__)

CLIP_S = 2.0
NUM_ANNOTATORS = 3
_HIGHEST_SALIENCY = 4
_TRUE_WINDOWS = "relevant_windows"
_NUMBER = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class QueryTruth:
    """What people annotated for one query.

    Attributes:
        windows: [W, 2], relevant windows: start and end in seconds.
        saliency: [C, 3], every 2 s clip of the video as rated by three annotators, 0 (not relevant) to 4 (very good);
            None if clips were not rated.
    """

    qid: int | str
    query: str
    vid: str
    duration_s: float
    windows: Floats
    saliency: Floats | None = None


@dataclass(frozen=True, slots=True)
class QueryPrediction:
    """What a system answers to one query.

    Attributes:
        windows: [N, 3], start and end in seconds and score, in the order of the file.
        saliency: one score for every 2 s clip of the video; None if the system predicts no highlights.
    """

    qid: int | str
    query: str
    vid: str
    windows: Floats
    saliency: Floats | None = None


def windows_of(moments: Sequence[Moment]) -> Floats:
    """Return moments as [N, 3] windows with score, best first: the published evaluator reads the list's order."""
    best_first = sorted(moments, key=lambda moment: -moment.score)
    return np.array([(moment.start_s, moment.end_s, moment.score) for moment in best_first]).reshape(-1, 3)


def clip_saliency(times_s: Floats, scores: Floats, *, duration_s: float) -> Floats:
    """Read a curve of frame scores in the middle of every 2 s clip, interpolating between frames."""
    middles = (np.arange(int(duration_s / CLIP_S)) + 0.5) * CLIP_S
    return np.interp(middles, times_s, scores)


def write_submission(path: str | Path, predictions: Iterable[QueryPrediction]) -> None:
    """Write a submission file.

    Raises:
        AnnotationError: a window or score is not finite, which JSON cannot hold.
    """
    lines = []
    for prediction in predictions:
        row: dict[str, Any] = {"qid": prediction.qid, "query": prediction.query, "vid": prediction.vid}
        row["pred_relevant_windows"] = prediction.windows.tolist()
        if prediction.saliency is not None:
            row["pred_saliency_scores"] = prediction.saliency.tolist()
        try:
            lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        except ValueError as error:
            raise AnnotationError(f"query {prediction.qid}: a predicted window or score is not finite") from error
    write_text(path, "".join(lines))


def read_submission(path: str | Path) -> list[QueryPrediction]:
    """Read a submission file.

    Raises:
        AnnotationError: a row does not fit the format; the message starts with file:line:field.
    """
    rows = _read_rows(path, _prediction)
    if any(prediction.saliency is not None for _, prediction in rows):
        for fields, prediction in rows:
            if prediction.saliency is None:
                raise fields.error("pred_saliency_scores", "is missing while other rows have it")
    return [prediction for _, prediction in rows]


def read_ground_truth(path: str | Path) -> list[QueryTruth]:
    """Read an annotation file that has windows, and ratings of clips (QVHighlights) or none (Charades-STA).

    A window that goes on after the video is cut at its end, with a warning that counts such queries.

    Raises:
        AnnotationError: a row does not fit the format; the message starts with file:line:field.
    """
    rows = _read_rows(path, _truth)
    if any(truth.saliency is not None for _, truth in rows):
        for fields, truth in rows:
            if truth.saliency is None:
                raise fields.error("saliency_scores", "is missing while other rows have it")
    cut = sum(max(end for _, end in fields.row[_TRUE_WINDOWS]) > truth.duration_s for fields, truth in rows)
    if cut:
        logger.warning("%s: %d of %d queries have a window that ends after the video: cut there", path, cut, len(rows))
    return [truth for _, truth in rows]


Row = TypeVar("Row", QueryTruth, QueryPrediction)


def _read_rows(path: str | Path, parse: Callable[["_Fields"], Row]) -> list[tuple["_Fields", Row]]:
    rows: dict[int | str, tuple[_Fields, Row]] = {}
    for record in read_records(path):
        fields = _Fields(f"{path}:{record.number}", record.fields)
        row = parse(fields)
        if row.qid in rows:
            raise fields.error("qid", f"{row.qid!r} occurs before; every query has one row")
        rows[row.qid] = fields, row
    if not rows:
        raise AnnotationError(f"{path} has no rows; it must hold one JSON object per line")
    return list(rows.values())


def _prediction(fields: "_Fields") -> QueryPrediction:
    windows = fields.numbers("pred_relevant_windows", columns=3, meaning="[start, end, score]")
    fields.check_windows("pred_relevant_windows", windows)
    saliency = None
    if "pred_saliency_scores" in fields.row:
        saliency = fields.numbers("pred_saliency_scores", columns=None, meaning="one score per clip")
        if not len(saliency):
            raise fields.error("pred_saliency_scores", "is empty; one score per clip")
    return QueryPrediction(fields.qid(), fields.text("query"), fields.text("vid"), windows, saliency)


def _truth(fields: "_Fields") -> QueryTruth:
    windows = fields.numbers(_TRUE_WINDOWS, columns=2, meaning="[start, end]")
    fields.check_windows(_TRUE_WINDOWS, windows)
    if not len(windows):
        raise fields.error(_TRUE_WINDOWS, "is empty; a query needs one to be scored")
    rated = fields.has("saliency_scores")
    # Without ratings a video's length only tells where windows end.
    duration_s = fields.number("duration") if rated or fields.has("duration") else float(windows.max())
    outside = np.flatnonzero(windows[:, 0] >= duration_s)
    if len(outside):
        window = windows[outside[0]].tolist()
        raise fields.error(_TRUE_WINDOWS, f"window {window} lies after the video's end at {duration_s:g} s")
    saliency = _ratings(fields, duration_s) if rated else None
    inside = windows.clip(max=duration_s)
    return QueryTruth(fields.qid(), fields.text("query"), fields.text("vid"), duration_s, inside, saliency)


def _ratings(fields: "_Fields", duration_s: float) -> Floats:
    clips = fields.numbers("relevant_clip_ids", columns=None, meaning="one clip number each")
    ratings = fields.numbers("saliency_scores", columns=NUM_ANNOTATORS, meaning="three ratings")
    num_clips = int(duration_s / CLIP_S)
    if len(clips) and clips.max() == num_clips and num_clips * CLIP_S < duration_s:
        num_clips += 1  # the shorter clip at the end is rated too
    saliency = np.zeros((num_clips, NUM_ANNOTATORS))
    if len(ratings) != len(clips):
        raise fields.error("saliency_scores", f"{len(ratings)} ratings for {len(clips)} relevant_clip_ids")
    if ((ratings < 0) | (ratings > _HIGHEST_SALIENCY)).any():
        raise fields.error("saliency_scores", f"ratings are 0 to {_HIGHEST_SALIENCY}")
    if ((clips < 0) | (clips >= len(saliency)) | (clips % 1 != 0)).any():
        raise fields.error("relevant_clip_ids", f"clips of {duration_s:g} s are numbered 0 to {len(saliency) - 1}")
    saliency[clips.astype(int)] = ratings
    return saliency


@dataclass(frozen=True, slots=True)
class _Fields:
    """One row and where it stands, for checks that name the place."""

    place: str
    row: Mapping[str, Any]

    def error(self, field: str, problem: str) -> AnnotationError:
        return AnnotationError(f"{self.place}:{field}: {problem}")

    def has(self, field: str) -> bool:
        return self.row.get(field) is not None

    def value(self, field: str) -> Any:
        if field not in self.row:
            raise self.error(field, f"is missing; the row has {listed(self.row)}")
        return self.row[field]

    def qid(self) -> int | str:
        qid = id_text(self.value("qid"))
        if not qid:
            raise self.error("qid", f"is {self.row['qid']!r}; it must be a whole number or a text")
        # A number for 7, "7" and 7.0 alike: files of one benchmark write it in each way.
        return int(qid) if _NUMBER.fullmatch(qid) else qid

    def text(self, field: str) -> str:
        # The evaluator does not need these, and many systems' files leave them out.
        return str(self.row.get(field, ""))

    def number(self, field: str) -> float:
        value = self.value(field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.error(field, f"is {value!r}; it must be a positive number of seconds")
        return float(value)

    def numbers(self, field: str, *, columns: int | None, meaning: str) -> Floats:
        value = self.value(field)
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.error(field, f"must be a list of {meaning}") from error
        wanted = (0,) if columns is None else (0, columns)
        if isinstance(value, list) and not value:
            array = array.reshape(wanted)
        if not isinstance(value, list) or array.shape[1:] != wanted[1:] or array.ndim != len(wanted):
            raise self.error(field, f"must be a list of {meaning}")
        if not np.isfinite(array).all():
            raise self.error(field, "holds a value that is not a finite number")
        return array

    def check_windows(self, field: str, windows: Floats) -> None:
        backwards = np.flatnonzero(windows[:, 1] < windows[:, 0])
        if len(backwards):
            raise self.error(field, f"window {windows[backwards[0], :2].tolist()} ends before it starts")

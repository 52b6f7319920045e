"""QVHighlights' files: one JSON object per line, for ground truth and for submissions in the official format.

https://github.com/jayleicn/moment_detr/tree/main/standalone_eval describes both. Other benchmarks' ground truth, such
as Charades-STA's, has the same layout without ratings of clips. Whatever does not fit is named by file, line and field.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lavis.common.errors import AnnotationError
from lavis.common.files import write_text
from lavis.common.types import Floats, Moment
from lavis.datasets.records import Record, read_records

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
        AnnotationError: a row does not fit the format; the message names file, line and field.
    """
    return [prediction for _, prediction in _read_rows(path, _prediction, saliency="pred_saliency_scores")]


def read_ground_truth(path: str | Path) -> list[QueryTruth]:
    """Read an annotation file that has windows, and ratings of clips (QVHighlights) or none (Charades-STA).

    A window that goes on after the video is cut at its end, with a warning that counts such queries.

    Raises:
        AnnotationError: a row does not fit the format; the message names file, line and field.
    """
    rows = _read_rows(path, _truth, saliency="saliency_scores")
    cut = sum(max(end for _, end in row.fields[_TRUE_WINDOWS]) > truth.duration_s for row, truth in rows)
    if cut:
        logger.warning("%s: %d of %d queries have a window that ends after the video: cut there", path, cut, len(rows))
    return [truth for _, truth in rows]


Row = TypeVar("Row", QueryTruth, QueryPrediction)


def _read_rows(path: str | Path, parse: Callable[[Record], Row], *, saliency: str) -> list[tuple[Record, Row]]:
    """Return the rows and what they say; the field `saliency` stands in all of them or in none."""
    rows: dict[int | str, tuple[Record, Row]] = {}
    for record in read_records(path):
        row = parse(record)
        if row.qid in rows:
            raise record.error("qid", f"{row.qid!r} occurs before; every query has one row")
        rows[row.qid] = record, row
    if not rows:
        raise AnnotationError(f"{path} has no rows; it must hold one JSON object per line")
    without = [record for record, row in rows.values() if row.saliency is None]
    if 0 < len(without) < len(rows):
        raise without[0].error(saliency, "is missing while other rows have it")
    return list(rows.values())


def _prediction(row: Record) -> QueryPrediction:
    windows = _windows(row, "pred_relevant_windows", columns=3, meaning="[start, end, score]")
    saliency = None
    if "pred_saliency_scores" in row.fields:
        saliency = _numbers(row, "pred_saliency_scores", columns=None, meaning="one score per clip")
        if not len(saliency):
            raise row.error("pred_saliency_scores", "is empty; one score per clip")
    return QueryPrediction(_qid(row), _text(row, "query"), _text(row, "vid"), windows, saliency)


def _truth(row: Record) -> QueryTruth:
    windows = _windows(row, _TRUE_WINDOWS, columns=2, meaning="[start, end]")
    if not len(windows):
        raise row.error(_TRUE_WINDOWS, "is empty; a query needs one to be scored")
    rated = row.has("saliency_scores")
    # Without ratings a video's length only tells where windows end.
    duration_s = _duration(row) if rated or row.has("duration") else float(windows.max())
    outside = np.flatnonzero(windows[:, 0] >= duration_s)
    if len(outside):
        window = windows[outside[0]].tolist()
        raise row.error(_TRUE_WINDOWS, f"window {window} lies after the video's end at {duration_s:g} s")
    saliency = _ratings(row, duration_s) if rated else None
    inside = windows.clip(max=duration_s)
    return QueryTruth(_qid(row), _text(row, "query"), _text(row, "vid"), duration_s, inside, saliency)


def _ratings(row: Record, duration_s: float) -> Floats:
    clips = _numbers(row, "relevant_clip_ids", columns=None, meaning="one clip number each")
    ratings = _numbers(row, "saliency_scores", columns=NUM_ANNOTATORS, meaning="three ratings")
    num_clips = int(duration_s / CLIP_S)
    if len(clips) and clips.max() == num_clips and num_clips * CLIP_S < duration_s:
        num_clips += 1  # the shorter clip at the end is rated too
    saliency = np.zeros((num_clips, NUM_ANNOTATORS))
    if len(ratings) != len(clips):
        raise row.error("saliency_scores", f"{len(ratings)} ratings for {len(clips)} relevant_clip_ids")
    if ((ratings < 0) | (ratings > _HIGHEST_SALIENCY)).any():
        raise row.error("saliency_scores", f"ratings are 0 to {_HIGHEST_SALIENCY}")
    if ((clips < 0) | (clips >= len(saliency)) | (clips % 1 != 0)).any():
        raise row.error("relevant_clip_ids", f"clips of {duration_s:g} s are numbered 0 to {len(saliency) - 1}")
    saliency[clips.astype(int)] = ratings
    return saliency


def _qid(row: Record) -> int | str:
    # A number for 7, "7" and 7.0 alike: files of one benchmark write it in each way.
    qid = row.id("qid")
    return int(qid) if _NUMBER.fullmatch(qid) else qid


def _duration(row: Record) -> float:
    duration_s = row.seconds("duration")
    if not duration_s:
        raise row.error("duration", "is 0; it must be a positive number of seconds")
    return duration_s


def _text(row: Record, field: str) -> str:
    # The evaluator does not need these, and many systems' files leave them out.
    return str(row.fields.get(field, ""))


def _windows(row: Record, field: str, *, columns: int, meaning: str) -> Floats:
    windows = _numbers(row, field, columns=columns, meaning=meaning)
    backwards = np.flatnonzero(windows[:, 1] < windows[:, 0])
    if len(backwards):
        raise row.error(field, f"window {windows[backwards[0], :2].tolist()} ends before it starts")
    return windows


def _numbers(row: Record, field: str, *, columns: int | None, meaning: str) -> Floats:
    value = row.value(field)
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise row.error(field, f"must be a list of {meaning}") from error
    wanted = (0,) if columns is None else (0, columns)
    if isinstance(value, list) and not value:
        array = array.reshape(wanted)
    if not isinstance(value, list) or array.shape[1:] != wanted[1:] or array.ndim != len(wanted):
        raise row.error(field, f"must be a list of {meaning}")
    if not np.isfinite(array).all():
        raise row.error(field, "holds a value that is not a finite number")
    return array

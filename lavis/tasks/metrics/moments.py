"""Figures of a moment retrieval split, its submission in the official format, and choosing the rule behind both.

A rule makes moments of the scores of frames. It is chosen on annotated queries of the validation split, never of the
test split.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np

from lavis.common import defaults
from lavis.common.config import Finite, NotNegative, NotNegativeInt, one_of
from lavis.common.errors import UserError
from lavis.common.moments import SPAN_SCORES, find_moments
from lavis.common.types import Floats, Question
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.highlights import highlight_scores
from lavis.tasks.metrics.localization import localization_scores
from lavis.tasks.metrics.moment_retrieval import (
    MAX_WINDOWS,
    corrected_moment_scores,
    corrected_report,
    published_report,
    shared_queries,
)
from lavis.tasks.metrics.submission import (
    CLIP_S,
    NUM_ANNOTATORS,
    QueryPrediction,
    QueryTruth,
    clip_saliency,
    windows_of,
)
from lavis.tasks.predictions import Prediction


@dataclass(frozen=True)
class SpanRule:
    """The `moments` section of a recipe; arguments of `find_moments`.

    Attributes:
        threshold: a frame matches a search if its margin, "yes" minus "no", reaches this; None is the middle of each
            search's own scores.
        max_gap_frames: frames in a row that may miss it within one moment (the paper's "span threshold").
        min_length_s: shorter moments are dropped.
        span_score: a moment's score from those of its frames: "mean" or "max".
    """

    threshold: Finite | None = 0.0
    max_gap_frames: NotNegativeInt = defaults.MAX_GAP_FRAMES
    min_length_s: NotNegative = 0.0
    span_score: Annotated[str, one_of(*SPAN_SCORES)] = "mean"


def duration_of(row: Annotation, prediction: Prediction) -> float:
    """Return how long a video lasts: as annotated, else as its uniformly sampled frames tell."""
    times = prediction.frame_times_s
    # The last frame stands for as much time after it as before it.
    seen = times[-1] + (times[-1] - times[-2]) / 2 if len(times) > 1 else max(times, default=0.0)
    return row.duration_s or max(seen, 1e-3)


# Shares of frames below the threshold that are tried.
_QUANTILES = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True, slots=True)
class MomentParameters:
    """Keyword arguments of `find_moments` and the mAP (percent) they reach on the queries they were chosen on."""

    threshold: float | None
    max_gap_frames: int
    span_score: str
    mean_average_precision: float


def fit_moment_parameters(
    curves: Sequence[tuple[Floats, Floats]],
    truths: Sequence[QueryTruth],
    *,
    thresholds: Sequence[float | None] | None = None,
    max_gap_frames: Sequence[int] = (0, 1, 2, 4, defaults.MAX_GAP_FRAMES, 8),
    span_scores: Sequence[str] = ("mean", "max"),
) -> MomentParameters:
    """Try every combination and return the one with the highest mAP by the corrected protocol; the first of equals.

    Args:
        curves: for each of `truths`, in the same order, the times [T] of its frames in seconds, and their scores [T].
        thresholds: None tries 19 quantiles of all scores, and the middle of each query's own scores.

    Raises:
        UserError: there are no queries, or not one curve for each.
    """
    if not truths or len(curves) != len(truths):
        raise UserError(
            f"{len(curves)} score curves for {len(truths)} queries; give one curve for each of at least one"
        )
    if thresholds is None:
        pooled = np.concatenate([scores for _, scores in curves])
        thresholds = [None, *np.unique(np.quantile(pooled, _QUANTILES)).tolist()]
    fitted = []
    for threshold, gap, span_score in itertools.product(thresholds, max_gap_frames, span_scores):
        rule = SpanRule(threshold, gap, span_score=span_score)
        predictions = []
        for (times_s, scores), truth in zip(curves, truths, strict=True):
            windows = _windows(times_s, scores, rule, duration_s=truth.duration_s)
            predictions.append(QueryPrediction(truth.qid, truth.query, truth.vid, windows))
        reached = corrected_moment_scores(predictions, truths)["full"].mean_average_precision
        fitted.append(MomentParameters(threshold, gap, span_score, reached))
    return max(fitted, key=lambda parameters: parameters.mean_average_precision)


def _windows(times_s: Floats, scores: Floats, rule: SpanRule, *, duration_s: float) -> Floats:
    """Return the windows [N, 3] that a submission holds, at least one."""
    moments = find_moments(
        times_s, scores, duration_s=duration_s, **asdict(rule), at_least_one=True, max_moments=MAX_WINDOWS
    )
    return windows_of(moments)


def moment_predictions(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, spans: SpanRule
) -> list[QueryPrediction]:
    """Return what is submitted: moments and a saliency curve for every query whose video could be read."""
    submitted = []
    for prediction, row in zip(predictions, annotations, strict=True):
        if prediction.unreadable is not None:
            continue
        times_s, scores = np.array(prediction.frame_times_s), np.array(prediction.frame_scores)
        duration_s = duration_of(row, prediction)
        windows = _windows(times_s, scores, spans, duration_s=duration_s)
        saliency = clip_saliency(times_s, scores, duration_s=duration_s) if duration_s >= CLIP_S else np.zeros(1)
        question = row.question
        submitted.append(QueryPrediction(query_id(question), question.text, prediction.video, windows, saliency))
    return submitted


def moment_metrics(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, spans: SpanRule
) -> dict[str, Any]:
    """Measure the moments that searches found, given a prediction for each of `annotations`, in the same order.

    Returns:
        "questions", "unreadable", "without_answer" (no annotated windows or ratings), "cut" and "unspelt" are counts.
        "moments" holds the figures "corrected", "corrected_readable_only" and "published" (see
        `lavis.tasks.metrics.moment_retrieval`), the last None where a query has no prediction, which the published
        evaluator refuses; "localization" those of Charades-STA and TACoS (see the module of that name); and
        "highlights" those of TVSum, of queries with ratings of clips and no windows. Each is None where it does not
        apply.
    """
    unreadable = sum(prediction.unreadable is not None for prediction in predictions)
    truths = query_truths(predictions, annotations)
    rated = [(one, row) for one, row in zip(predictions, annotations, strict=True) if _is_rated_only(row)]
    submitted = moment_predictions(predictions, annotations, spans=spans)
    metrics: dict[str, Any] = {
        "questions": len(annotations),
        "unreadable": unreadable,
        "without_answer": len(annotations) - len(truths) - len(rated),
        "cut": sum(prediction.cut for prediction in predictions),
        "unspelt": sum(bool(prediction.unspelt) for prediction in predictions),
        "moments": None,
        "localization": None,
        "highlights": _highlights(submitted, [row for _, row in rated]) if rated else None,
    }
    annotated = {truth.qid for truth in truths}
    found = [row for row in submitted if row.qid in annotated]
    if not truths or not found:
        return metrics
    metrics["moments"] = {
        "corrected": corrected_report(found, truths),
        "corrected_readable_only": corrected_report(*shared_queries(found, truths)),
        "published": published_report(found, truths) if len(found) == len(truths) else None,
    }
    metrics["localization"] = localization_scores(found, truths)
    return metrics


def _is_rated_only(row: Annotation) -> bool:
    return bool(row.saliency) and not row.question.windows


def _highlights(submitted: Sequence[QueryPrediction], rows: Sequence[Annotation]) -> dict[str, float]:
    curves = {prediction.qid: prediction.saliency for prediction in submitted}
    ratings = [np.array([scores for _, scores in sorted((row.saliency or {}).items())], np.float64) for row in rows]
    domains = [row.question.kind or "" for row in rows]
    return highlight_scores([curves.get(query_id(row.question)) for row in rows], ratings, domains)


def query_truths(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> list[QueryTruth]:
    """Return the ground truth of those queries that have annotated windows."""
    truths = []
    is_rated = any(row.saliency and row.question.windows for row in annotations)
    for prediction, row in zip(predictions, annotations, strict=True):
        question = row.question
        if not question.windows:
            continue
        windows = np.array([(window.start_s, window.end_s) for window in question.windows])
        duration_s = max(duration_of(row, prediction), float(windows.max()))
        clips = max([int(duration_s / CLIP_S), *(clip + 1 for clip in row.saliency or ())])
        saliency = np.zeros((clips, NUM_ANNOTATORS))
        for clip, scores in (row.saliency or {}).items():
            saliency[clip] = scores
        rated = saliency if is_rated else None
        truths.append(QueryTruth(query_id(question), question.text, question.video or "", duration_s, windows, rated))
    return truths


def fit_spans(predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, split: str) -> MomentParameters:
    """Choose the rule from frame scores to moments that finds most in the validation split.

    Raises:
        UserError: another split than val, or no query of it has annotated windows and could be read.
    """
    if split != "val":
        raise UserError(f"moments are fitted on the split val, never on {split!r}: evaluate val and fit on that")
    pairs = [
        (prediction, row)
        for prediction, row in zip(predictions, annotations, strict=True)
        if prediction.frame_scores and row.question.windows
    ]
    if not pairs:
        raise UserError("no query with annotated windows was read; fitting moments needs at least one")
    read, rows = [prediction for prediction, _ in pairs], [row for _, row in pairs]
    curves = [(np.array(one.frame_times_s), np.array(one.frame_scores)) for one in read]
    return fit_moment_parameters(curves, query_truths(read, rows))


def query_id(question: Question) -> int | str:
    """Return the official id of a query: the number that our ids end in, else the id itself."""
    number = re.fullmatch(r"QVHighlight_(?:[a-z]+_)?(\d+)", question.id)
    return int(number[1]) if number else question.id

"""Figures of a moment retrieval split (QVHighlights), and its submission in the official format."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.moments import find_moments
from lavis.common.types import Question
from lavis.datasets.annotations import Annotation
from lavis.tasks.evaluation.predictions import Prediction
from lavis.tasks.evaluation.spans import SpanRule, duration_of
from lavis.tasks.metrics.fit_moments import FrameCurve, MomentParameters, fit_moment_parameters
from lavis.tasks.metrics.moment_retrieval import MAX_WINDOWS, shared_queries
from lavis.tasks.metrics.qvhighlights import corrected_report, published_report
from lavis.tasks.metrics.submission import (
    CLIP_S,
    NUM_ANNOTATORS,
    QueryPrediction,
    QueryTruth,
    clip_saliency,
    windows_of,
)


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
        found = find_moments(
            times_s,
            scores,
            duration_s=duration_s,
            threshold=spans.threshold,
            max_gap_frames=spans.max_gap_frames,
            min_length_s=spans.min_length_s,
            span_score=spans.span_score,
            at_least_one=True,
            max_moments=MAX_WINDOWS,
        )
        saliency = clip_saliency(times_s, scores, duration_s=duration_s) if duration_s >= CLIP_S else np.zeros(1)
        question = row.question
        submitted.append(
            QueryPrediction(query_id(question), question.text, prediction.video, windows_of(found), saliency)
        )
    return submitted


def moment_metrics(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, spans: SpanRule
) -> dict[str, Any]:
    """Measure the moments that searches found.

    Args:
        predictions: one for each of `annotations`, in the same order.

    Returns:
        "questions", "unreadable", "without_answer" (no annotated windows), "cut" and "unspelt" are counts. "moments"
        holds the figures "corrected", "corrected_readable_only" and "published" (see
        `lavis.tasks.metrics.moment_retrieval`), the last None where a query has no prediction, which the published
        evaluator refuses.
    """
    unreadable = sum(prediction.unreadable is not None for prediction in predictions)
    truths = query_truths(predictions, annotations)
    metrics: dict[str, Any] = {
        "questions": len(annotations),
        "unreadable": unreadable,
        "without_answer": len(annotations) - len(truths),
        "cut": sum(prediction.cut for prediction in predictions),
        "unspelt": sum(bool(prediction.unspelt) for prediction in predictions),
        "moments": None,
    }
    annotated = {truth.qid for truth in truths}
    found = [row for row in moment_predictions(predictions, annotations, spans=spans) if row.qid in annotated]
    if not truths or not found:
        return metrics
    metrics["moments"] = {
        "corrected": corrected_report(found, truths),
        "corrected_readable_only": corrected_report(*shared_queries(found, truths)),
        "published": published_report(found, truths) if len(found) == len(truths) else None,
    }
    return metrics


def query_truths(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> list[QueryTruth]:
    """Return the ground truth of those queries that have annotated windows."""
    truths = []
    is_rated = any(row.saliency for row in annotations)
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
    curves = [FrameCurve(np.array(p.frame_times_s), np.array(p.frame_scores)) for p in read]
    return fit_moment_parameters(curves, query_truths(read, rows))


def query_id(question: Question) -> int | str:
    """Return the official id of a query: the number that our ids end in, else the id itself."""
    number = re.fullmatch(r"QVHighlight_(?:[a-z]+_)?(\d+)", question.id)
    return int(number[1]) if number else question.id

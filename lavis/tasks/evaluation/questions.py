"""Figures of a multiple-choice split: accuracy, the votes of single frames, and how answers are grounded."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lavis.common.moments import find_moments
from lavis.common.types import Span
from lavis.datasets.annotations import Annotation
from lavis.tasks.evaluation.predictions import Prediction
from lavis.tasks.evaluation.spans import SpanRule, duration_of
from lavis.tasks.metrics.accuracy import DEFAULT_RESAMPLES, NEXTQA_GROUPS, Outcome, accuracy_report
from lavis.tasks.metrics.grounding import GroundedAnswer, grounding_scores, keyframe_span

TYPE_GROUPS: Mapping[str, Mapping[str, str]] = {"nextqa": NEXTQA_GROUPS}
"""Question types that are reported together, by dataset."""

Pair = tuple[Prediction, Annotation]


def question_metrics(
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    *,
    spans: SpanRule,
    groups: Mapping[str, str] | None = None,
    resamples: int = DEFAULT_RESAMPLES,
) -> dict[str, Any]:
    """Measure answers.

    Args:
        predictions: one for each of `annotations`, in the same order.
        spans: how the scores of frames become the span that an answer is grounded in.
        groups: question type -> group, such as `NEXTQA_GROUPS`.
        resamples: of the bootstrap.

    Returns:
        "questions", "unreadable", "without_answer", "cut" and "unspelt" are counts. Under these names, each None where
        it does not apply: "accuracy" and "accuracy_by_video" (the same figures; their intervals resample questions, and
        videos with all their questions), "voting" (frames read alone: the vote, the mean frame, and any frame),
        "grounding".
    """
    pairs = list(zip(predictions, annotations, strict=True))
    known = [pair for pair in pairs if pair[0].answer is not None]
    metrics: dict[str, Any] = {
        "questions": len(pairs),
        "unreadable": sum(prediction.unreadable is not None for prediction in predictions),
        "without_answer": len(pairs) - len(known),
        "cut": sum(prediction.cut for prediction in predictions),
        "unspelt": sum(bool(prediction.unspelt) for prediction in predictions),
        "accuracy": None,
        "accuracy_by_video": None,
        "voting": None,
        "grounding": None,
    }
    if not known:
        return metrics
    report = partial(_report, known, groups=groups, resamples=resamples)
    right = [float(prediction.is_right) for prediction, _ in known]
    metrics["accuracy"] = report(right)
    metrics["accuracy_by_video"] = report(right, clusters=[prediction.video for prediction, _ in known])
    if any(prediction.frame_choices for prediction in predictions):
        frames = [np.array(prediction.frame_choices) == prediction.answer for prediction, _ in known]
        metrics["voting"] = {
            "voting": metrics["accuracy"],
            "frame_mean": report([float(hits.mean()) if len(hits) else 0.0 for hits in frames]),
            "oracle": report([float(hits.any()) for hits in frames]),
        }
    metrics["grounding"] = _grounding(known, spans)
    return metrics


def _report(pairs: Sequence[Pair], shares: Sequence[float], **settings: Any) -> dict[str, Any]:
    """Report on questions of which these shares, 0 to 1, are right; settings as for `accuracy_report`."""
    outcomes = [
        Outcome(prediction.id, share, row.question.kind, readable=prediction.unreadable is None)
        for share, (prediction, row) in zip(shares, pairs, strict=True)
    ]
    return accuracy_report(outcomes, **settings).as_dict()


def _grounding(known: Sequence[Pair], spans: SpanRule) -> dict[str, Any] | None:
    """Measure how answers are grounded, once from their keyframes and once from the scores of all frames."""
    grounded = [(prediction, row) for prediction, row in known if row.question.windows]
    if not grounded:
        return None
    found = {"keyframes": [_keyframe_span(prediction) for prediction, _ in grounded]}
    if any(prediction.frame_scores for prediction, _ in grounded):
        found["frame_scores"] = [_best_moment(prediction, row, spans) for prediction, row in grounded]
    return {
        name: grounding_scores(
            [
                GroundedAnswer(prediction.id, prediction.is_right, span, row.question.windows or ())
                for (prediction, row), span in zip(grounded, predicted, strict=True)
            ]
        )
        for name, predicted in found.items()
    }


def _keyframe_span(prediction: Prediction) -> Span | None:
    return keyframe_span(np.array(prediction.keyframe_times_s)) if prediction.keyframe_times_s else None


def _best_moment(prediction: Prediction, row: Annotation, spans: SpanRule) -> Span | None:
    if not prediction.frame_scores:
        return None
    (best,) = find_moments(
        np.array(prediction.frame_times_s),
        np.array(prediction.frame_scores),
        duration_s=duration_of(row, prediction),
        # The logit of "yes" alone has no natural zero.
        threshold=None,
        max_gap_frames=spans.max_gap_frames,
        min_length_s=spans.min_length_s,
        span_score=spans.span_score,
        at_least_one=True,
        max_moments=1,
    )
    return Span(best.start_s, best.end_s)

"""Choose how frame scores become moments, on annotated queries of the validation split, never of the test split."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.moments import PAPER_MAX_GAP_FRAMES, find_moments
from lavis.common.types import Floats
from lavis.tasks.metrics.moment_retrieval import MAX_WINDOWS, corrected_moment_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth, windows_of

# Shares of frames below the threshold that are tried.
_QUANTILES = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True, slots=True)
class FrameCurve:
    """The scores of one query's frames: [T] times in seconds and [T] scores."""

    times_s: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class MomentParameters:
    """Keyword arguments of `find_moments` and the mAP (percent) they reach on the queries they were chosen on."""

    threshold: float | None
    max_gap_frames: int
    span_score: str
    mean_average_precision: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def fit_moment_parameters(
    curves: Sequence[FrameCurve],
    truths: Sequence[QueryTruth],
    *,
    thresholds: Sequence[float | None] | None = None,
    max_gap_frames: Sequence[int] = (0, 1, 2, 4, PAPER_MAX_GAP_FRAMES, 8),
    span_scores: Sequence[str] = ("mean", "max"),
) -> MomentParameters:
    """Try every combination and return the one with the highest mAP by the corrected protocol; the first of equals.

    Args:
        curves: the frame scores for each of `truths`, in the same order.
        truths: annotated queries of the validation split.
        thresholds: None tries 19 quantiles of all scores, and the middle of each query's own scores.
        max_gap_frames: gaps to try, in frames.
        span_scores: scores of a moment to try.

    Raises:
        UserError: there are no queries, or not one curve for each.
    """
    if not truths or len(curves) != len(truths):
        raise UserError(
            f"{len(curves)} score curves for {len(truths)} queries; give one curve for each of at least one"
        )
    if thresholds is None:
        pooled = np.concatenate([curve.scores for curve in curves])
        thresholds = [None, *np.unique(np.quantile(pooled, _QUANTILES)).tolist()]
    fitted = [
        _evaluated(curves, truths, threshold=threshold, max_gap_frames=gap, span_score=span_score)
        for threshold, gap, span_score in itertools.product(thresholds, max_gap_frames, span_scores)
    ]
    return max(fitted, key=lambda parameters: parameters.mean_average_precision)


def _evaluated(
    curves: Sequence[FrameCurve],
    truths: Sequence[QueryTruth],
    *,
    threshold: float | None,
    max_gap_frames: int,
    span_score: str,
) -> MomentParameters:
    predictions = []
    for curve, truth in zip(curves, truths, strict=True):
        moments = find_moments(
            curve.times_s,
            curve.scores,
            duration_s=truth.duration_s,
            threshold=threshold,
            max_gap_frames=max_gap_frames,
            span_score=span_score,
            at_least_one=True,
            max_moments=MAX_WINDOWS,
        )
        predictions.append(QueryPrediction(truth.qid, truth.query, truth.vid, windows_of(moments)))
    reached = corrected_moment_scores(predictions, truths)["full"].mean_average_precision
    return MomentParameters(threshold, max_gap_frames, span_score, reached)

"""Moment retrieval on QVHighlights: R1 and mAP over IoU thresholds, for all windows and by their length.

There are two protocols. `published_moment_scores` gives what the published evaluator gives, which all published
figures come from; `corrected_moment_scores` gives what its names say. They differ in that the published evaluator

* takes the first ten windows in list order for mAP and the first listed one for R1, the corrected one the best ten
  and the best by score;
* leaves queries without a predicted window out of the mean of mAP (and fails in R1), the corrected one counts 0;
* for metrics by length keeps only the true windows of that length, but all predictions: a window found rightly counts
  as a false alarm in the metrics of the other lengths. The corrected one leaves such a prediction out, and those
  that match nothing and are of another length themselves;
* rounds to two decimals.

It also divides by the hull of two windows instead of their union for R1. Where windows overlap the two are the same,
and where they do not both give 0, so nothing comes of it; nor does its 0/0 for two windows of no length, unless a
true window has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.types import Floats
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
MAX_WINDOWS = 10
# Lengths in seconds: longer than the first, at most the second.
LENGTH_RANGES_S = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0), "full": (0.0, float("inf"))}


@dataclass(frozen=True, slots=True)
class MomentScores:
    """Percent by IoU threshold.

    Attributes:
        average_precision: mAP at each threshold.
        recall_at_1: share of queries whose first window reaches the threshold.
        mean_average_precision: mean of mAP over the thresholds 0.5, 0.55, ..., 0.95.
        queries: number of queries with a true window of this length.
    """

    average_precision: dict[float, float]
    recall_at_1: dict[float, float]
    mean_average_precision: float
    queries: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, named as the published evaluator names them."""
        precision = {str(threshold): value for threshold, value in self.average_precision.items()}
        recall = {str(threshold): value for threshold, value in self.recall_at_1.items()}
        return {"MR-mAP": precision | {"average": self.mean_average_precision}, "MR-R1": recall}


def published_moment_scores(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> dict[str, MomentScores]:
    """Return the published evaluator's metrics for "short", "middle", "long" and "full".

    A length that no query has a true window of is left out.

    Raises:
        UserError: the queries of the two differ, or a query has no window: the published evaluator fails there.
    """
    check_same_queries(predictions, truths)
    true_windows = {truth.qid: truth.windows for truth in truths}
    for prediction in predictions:
        if not len(prediction.windows):
            raise UserError(
                f"query {prediction.qid} has no predicted window; the published evaluator cannot score it, "
                "use the corrected protocol or give a window"
            )

    scores = {}
    for name, (above, up_to) in LENGTH_RANGES_S.items():
        precisions, best_ious = [], []
        # In the order of the submission, so that sums round as those of the published evaluator do.
        for prediction in predictions:
            windows = true_windows[prediction.qid]
            windows = windows[_within(windows, above, up_to)]
            if not len(windows):
                continue
            ranked = prediction.windows[:MAX_WINDOWS]
            ranked = ranked[np.argsort(-ranked[:, 2], kind="stable")]
            verdicts = _judge(
                intersection_over_union(ranked, windows),
                ignored_truths=np.zeros(len(windows), dtype=bool),
                ignorable=np.zeros(len(ranked), dtype=bool),
            )
            precisions.append([_average_precision(row, len(windows)) for row in verdicts])
            best_ious.append(intersection_over_union(prediction.windows[:1], windows).max())
        if precisions:
            recalls = np.array(best_ious)[:, None] >= np.array(IOU_THRESHOLDS)
            scores[name] = _summary(np.array(precisions), recalls, shown=lambda percent: round(percent, 2))
    return scores


def corrected_moment_scores(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> dict[str, MomentScores]:
    """Return metrics for "short", "middle", "long" and "full"; a query without prediction counts as not found.

    Raises:
        UserError: a prediction is for a query that has no ground truth.
    """
    by_qid = {prediction.qid: prediction for prediction in predictions}
    check_known_queries(predictions, truths)
    scores = {}
    for name, (above, up_to) in LENGTH_RANGES_S.items():
        precisions, recalls = [], []
        for truth in truths:
            ignored = ~_within(truth.windows, above, up_to)
            if ignored.all():
                continue
            found = by_qid[truth.qid].windows if truth.qid in by_qid else np.empty((0, 3))
            ranked = found[np.argsort(-found[:, 2], kind="stable")][:MAX_WINDOWS]
            ious = intersection_over_union(ranked, truth.windows)
            verdicts = _judge(ious, ignored_truths=ignored, ignorable=~_within(ranked, above, up_to))
            precisions.append([_average_precision(row, int((~ignored).sum())) for row in verdicts])
            recalls.append([row[:1] == [True] for row in verdicts])
        if precisions:
            scores[name] = _summary(np.array(precisions), np.array(recalls), shown=float)
    return scores


def shared_queries(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> tuple[list[QueryPrediction], list[QueryTruth]]:
    """Return the predictions and truths of the queries that both have, for metrics over a part of a split.

    Raises:
        UserError: there is no such query.
    """
    shared = {prediction.qid for prediction in predictions} & {truth.qid for truth in truths}
    if not shared:
        raise UserError("no predicted query has ground truth; give the ground truth of the same split")
    return [row for row in predictions if row.qid in shared], [row for row in truths if row.qid in shared]


def check_known_queries(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> None:
    """Refuse predictions for queries without ground truth: most likely they belong to another split.

    Raises:
        UserError: a prediction is for a query that has no ground truth.
    """
    known = {truth.qid for truth in truths}
    unknown = [prediction.qid for prediction in predictions if prediction.qid not in known]
    if unknown:
        raise UserError(
            f"{len(unknown)} predicted queries have no ground truth, such as qid {unknown[0]!r}; "
            "give the ground truth of the same split, or score the queries that both have (--partial)"
        )


def check_same_queries(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> None:
    """Refuse predictions that are not for the very queries of the ground truth, as the published evaluator does.

    Raises:
        UserError: the queries differ.
    """
    check_known_queries(predictions, truths)
    predicted = {prediction.qid for prediction in predictions}
    missing = [truth.qid for truth in truths if truth.qid not in predicted]
    if missing:
        raise UserError(
            f"{len(missing)} queries have no prediction, such as qid {missing[0]!r}; "
            "the published evaluator needs all, the corrected protocol counts them as not found; "
            "or score the queries that both have (--partial)"
        )


def intersection_over_union(spans: Floats, others: Floats) -> Floats:
    """Return [N, M] overlap of spans [N, 2], starts and ends in seconds, with others [M, 2]: 0 apart, 1 equal.

    Two empty spans do not overlap.
    """
    shared = _shared(spans, others)
    union = _lengths(spans)[:, None] + _lengths(others)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def intersection_over_prediction(spans: Floats, truths: Floats) -> Floats:
    """Return [N, M] share of each predicted span that lies within each true one.

    A span of no length (a single keyframe) lies within or outside: 1 or 0.
    """
    lengths = np.broadcast_to(_lengths(spans)[:, None], (len(spans), len(truths)))
    inside = (truths[None, :, 0] <= spans[:, None, 0]) & (spans[:, None, 1] <= truths[None, :, 1])
    return np.divide(_shared(spans, truths), lengths, out=inside.astype(np.float64), where=lengths > 0)


def _lengths(spans: Floats) -> Floats:
    return spans[:, 1] - spans[:, 0]


def _shared(spans: Floats, others: Floats) -> Floats:
    starts = np.maximum(spans[:, None, 0], others[None, :, 0])
    ends = np.minimum(spans[:, None, 1], others[None, :, 1])
    return np.maximum(ends - starts, 0.0)


def _within(windows: Floats, above: float, up_to: float) -> np.ndarray:
    lengths = windows[:, 1] - windows[:, 0]
    return np.ones(len(windows), dtype=bool) if up_to == float("inf") else (above < lengths) & (lengths <= up_to)


def _judge(ious: Floats, *, ignored_truths: np.ndarray, ignorable: np.ndarray) -> list[list[bool]]:
    """Return the verdicts on [N, M] ranked predictions at every IoU threshold."""
    overlaps, ignored, may_go = ious.tolist(), ignored_truths.tolist(), ignorable.tolist()
    return [_verdicts(overlaps, threshold, ignored, may_go) for threshold in IOU_THRESHOLDS]


def _verdicts(overlaps: list[list[float]], threshold: float, ignored: list[bool], may_go: list[bool]) -> list[bool]:
    """Let each ranked prediction take the free true window it overlaps most, if enough.

    Returns:
        right or wrong for each prediction that counts; one that took an ignored truth, or took none and is ignorable,
        does not.
    """
    verdicts: list[bool] = []
    free = list(range(len(ignored)))
    for row, ignorable in zip(overlaps, may_go, strict=True):
        taken, most = None, threshold
        for at in free:
            # Of equal overlaps the later window is taken, as the published evaluator does.
            if row[at] >= most:
                taken, most = at, row[at]
        if taken is not None:
            free.remove(taken)
            if not ignored[taken]:
                verdicts.append(True)
        elif not ignorable:
            verdicts.append(False)
    return verdicts


def _average_precision(verdicts: list[bool], num_truths: int) -> float:
    """Return the area under the interpolated precision-recall curve of ranked predictions."""
    area = best = 0.0
    right = sum(verdicts)
    for rank in range(len(verdicts), 0, -1):
        if verdicts[rank - 1]:
            best = max(best, right / rank)
            area += best / num_truths
            right -= 1
    return area


def _summary(precisions: Floats, recalls: np.ndarray, *, shown: Callable[[float], float]) -> MomentScores:
    by_threshold = precisions.mean(axis=0)
    return MomentScores(
        average_precision=dict(zip(IOU_THRESHOLDS, _percents(by_threshold, shown), strict=True)),
        recall_at_1=dict(zip(IOU_THRESHOLDS, _percents(recalls.mean(axis=0), shown), strict=True)),
        mean_average_precision=shown(100 * float(by_threshold.mean())),
        queries=len(precisions),
    )


def _percents(shares: Floats, shown: Callable[[float], float]) -> list[float]:
    return [shown(100 * share) for share in shares.tolist()]

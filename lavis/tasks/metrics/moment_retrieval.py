"""QVHighlights: moment retrieval, highlight detection, and the whole report of a submission, by two protocols.

Moments are measured by R1 and mAP over IoU thresholds, for all windows and by their length; highlights by mAP and HIT@1
of a saliency curve against three annotators' ratings: a clip is a highlight for an annotator if its rating reaches
"Fair" (2), "Good" (3) or "VeryGood" (4).

The published protocol gives what the published evaluator gives, which all published figures come from; the corrected
one gives what its names say. For moments they differ in that the published evaluator

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

For highlights they differ in that the published evaluator

* gives an annotator without any highlight an average precision of 0, so that not even a perfect curve reaches 100;
  the corrected one leaves what cannot be found out of the mean;
* weighs every distinct score at which highlights are found the same, however many it finds (a matter of ties only),
  the corrected one weighs highlights;
* takes the first of equally high clips for HIT@1, the corrected one what a random one of them would give;
* fills a curve that is too short with the score 0, the corrected one ranks missing clips last;
* leaves queries without prediction out, the corrected one counts 0;
* rounds to two decimals.
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
    lengths = _lengths(windows)
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


LEAST_RATINGS = {"Fair": 2, "Good": 3, "VeryGood": 4}


HighlightScores = dict[str, float]
"""Percent for one least rating, named as the published evaluator names them.

"HL-mAP" says how well highlights rank before other clips, "HL-Hit1" is the share of queries whose highest clip is a
highlight for at least one annotator.
"""


def published_highlight_scores(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> dict[str, HighlightScores]:
    """Return the published evaluator's metrics for "Fair", "Good" and "VeryGood".

    Raises:
        UserError: the queries of the two differ, or a prediction has no saliency curve.
    """
    check_same_queries(predictions, truths)
    all_labels = {truth.qid: _labels(truth) for truth in truths}
    precisions, hits = [], []
    # In the order of the submission, so that sums round as those of the published evaluator do.
    for qid, curve in _curves(predictions).items():
        labels = all_labels[qid]
        found, precision = _precision_steps(_fitted(curve, len(labels), missing=0.0), labels)
        steps = found > 0
        # The mean over an annotator's steps; without a highlight there is none, which counts 0.
        precisions.append((precision * steps).sum(axis=0) / np.maximum(steps.sum(axis=0), 1))
        highest = int(curve.argmax())
        hits.append(labels[highest].max(axis=0) if highest < len(labels) else np.zeros(len(LEAST_RATINGS)))
    mean_precisions = 100 * np.mean(precisions, axis=(0, 1))
    hits_at_1 = 100 * np.mean(hits, axis=0)
    return {
        name: {"HL-mAP": round(mean_precisions.tolist()[at], 2), "HL-Hit1": round(hits_at_1.tolist()[at], 2)}
        for at, name in enumerate(LEAST_RATINGS)
    }


def corrected_highlight_scores(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> dict[str, HighlightScores]:
    """Return metrics for those of "Fair", "Good" and "VeryGood" that occur; a query without prediction counts 0.

    Raises:
        UserError: a prediction is for a query without ground truth, or has no saliency curve.
    """
    curves = _curves(predictions)
    check_known_queries(predictions, truths)
    precisions, hits, rated = [], [], []
    for truth in truths:
        labels = _labels(truth)
        highlights = labels.sum(axis=0)
        rated.append(highlights > 0)
        if truth.qid not in curves:
            precisions.append(np.zeros_like(highlights))
            hits.append(np.zeros(len(LEAST_RATINGS)))
            continue
        curve = _fitted(curves[truth.qid], len(labels), missing=-np.inf)
        found, precision = _precision_steps(curve, labels)
        precisions.append((precision * found).sum(axis=0) / np.maximum(highlights, 1))
        hits.append(labels[curve == curve.max()].max(axis=1).mean(axis=0))

    shares, defined, hit_shares = np.array(precisions), np.array(rated), np.array(hits)
    return {
        name: {
            "HL-mAP": 100 * float(shares[..., at][defined[..., at]].mean()),
            "HL-Hit1": 100 * float(hit_shares[defined[..., at].any(axis=1), at].mean()),
        }
        for at, name in enumerate(LEAST_RATINGS)
        if defined[..., at].any()
    }


def _curves(predictions: Sequence[QueryPrediction]) -> dict[int | str, Floats]:
    curves = {}
    for prediction in predictions:
        if prediction.saliency is None:
            raise UserError(f"query {prediction.qid} has no saliency scores; highlights cannot be scored without")
        curves[prediction.qid] = prediction.saliency
    return curves


def _labels(truth: QueryTruth) -> Floats:
    """Return [C, 3, L] highlights (1) and other clips (0) by annotator and least rating."""
    if truth.saliency is None:
        raise UserError(f"query {truth.qid} has no ratings of clips; highlights cannot be scored without")
    return (truth.saliency[..., None] >= np.array(list(LEAST_RATINGS.values()))).astype(np.float64)


def _fitted(curve: Floats, num_clips: int, *, missing: float) -> Floats:
    fitted = np.full(num_clips, missing)
    fitted[: len(curve)] = curve[:num_clips]
    return fitted


def _precision_steps(curve: Floats, labels: Floats) -> tuple[Floats, Floats]:
    """Lower a bar over [C] scores and see what it uncovers of [C, ...] labels.

    Returns:
        for each of S distinct scores, highest first: [S, ...] how many highlights it uncovers, and [S, ...] the best
        precision there or further down (the interpolated precision).
    """
    order = np.argsort(-curve, kind="stable")
    ranked = curve[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(curve) - 1)
    uncovered = labels[order].cumsum(axis=0)[ends]
    precision = uncovered / (ends + 1).reshape(-1, *[1] * (labels.ndim - 1))
    interpolated = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.diff(uncovered, axis=0, prepend=0), interpolated


def published_report(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> dict[str, Any]:
    """Return what the published evaluator writes, metric by metric; see `moment_retrieval` for its quirks.

    Raises:
        UserError: the predictions are not for the very queries of the ground truth, or one has no window.
    """
    highlights = published_highlight_scores(predictions, truths) if scores_highlights(predictions, truths) else {}
    return _report(published_moment_scores(predictions, truths), highlights)


def corrected_report(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> dict[str, Any]:
    """Return the corrected metrics under the same names; queries without prediction count as not found.

    Raises:
        UserError: a prediction is for a query without ground truth.
    """
    highlights = corrected_highlight_scores(predictions, truths) if scores_highlights(predictions, truths) else {}
    return _report(corrected_moment_scores(predictions, truths), highlights)


def scores_highlights(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> bool:
    """Say whether clips are rated in the ground truth and scored in the predictions.

    Raises:
        UserError: there is nothing to score.
    """
    if not predictions or not truths:
        raise UserError("there are no predictions to score")
    return predictions[0].saliency is not None and truths[0].saliency is not None


def _report(moments: dict[str, MomentScores], highlights: dict[str, HighlightScores]) -> dict[str, Any]:
    brief: dict[str, float] = {}
    for name, scores in moments.items():
        brief[f"MR-{name}-mAP"] = scores.mean_average_precision
    full = moments["full"]
    brief |= {f"MR-full-mAP@{threshold}": full.average_precision[threshold] for threshold in (0.5, 0.75)}
    brief |= {f"MR-full-R1@{threshold}": full.recall_at_1[threshold] for threshold in (0.5, 0.7)}
    for name, row in highlights.items():
        brief |= {f"HL-min-{name}-mAP": row["HL-mAP"], f"HL-min-{name}-Hit1": row["HL-Hit1"]}
    by_name = {name: scores.as_dict() for name, scores in moments.items()}
    return {"brief": brief} | {f"HL-min-{name}": row for name, row in highlights.items()} | by_name

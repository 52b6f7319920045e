"""QVHighlights: highlight detection, and the whole report of a submission by either protocol.

Highlights are measured by mAP and HIT@1 of a saliency curve against three annotators' ratings.

A clip is a highlight for an annotator if its rating reaches "Fair" (2), "Good" (3) or "VeryGood" (4). As for moment
retrieval there are two protocols. They differ in that the published evaluator

* gives an annotator without any highlight an average precision of 0, so that not even a perfect curve reaches 100;
  the corrected one leaves what cannot be found out of the mean;
* weighs every distinct score at which highlights are found the same, however many it finds (a matter of ties only),
  the corrected one weighs highlights;
* takes the first of equally high clips for HIT@1, the corrected one what a random one of them would give;
* fills a curve that is too short with the score 0, the corrected one ranks missing clips last;
* leaves queries without prediction out, the corrected one counts 0;
* rounds to two decimals.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.types import Floats
from lavis.tasks.metrics.moment_retrieval import (
    MomentScores,
    check_known_queries,
    check_same_queries,
    corrected_moment_scores,
    published_moment_scores,
)
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth

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

"""Highlight detection on QVHighlights: mAP and HIT@1 of a saliency curve against three annotators' ratings.

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
from dataclasses import dataclass
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.types import Floats
from lavis.tasks.metrics.moment_retrieval import check_known_queries, check_same_queries
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth

LEAST_RATINGS = {"Fair": 2, "Good": 3, "VeryGood": 4}


@dataclass(frozen=True, slots=True)
class HighlightScores:
    """Percent for one least rating.

    Attributes:
        mean_average_precision: how well highlights rank before other clips.
        hit_at_1: share of queries whose highest clip is a highlight for at least one annotator.
    """

    mean_average_precision: float
    hit_at_1: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, named as the published evaluator names them."""
        return {"HL-mAP": self.mean_average_precision, "HL-Hit1": self.hit_at_1}


def published_highlight_scores(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> dict[str, HighlightScores]:
    """Return the published evaluator's figures for "Fair", "Good" and "VeryGood".

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
        name: HighlightScores(round(mean_precisions.tolist()[at], 2), round(hits_at_1.tolist()[at], 2))
        for at, name in enumerate(LEAST_RATINGS)
    }


def corrected_highlight_scores(
    predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]
) -> dict[str, HighlightScores]:
    """Return figures for those of "Fair", "Good" and "VeryGood" that occur; a query without prediction counts 0.

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
        name: HighlightScores(
            100 * float(shares[..., at][defined[..., at]].mean()),
            100 * float(hit_shares[defined[..., at].any(axis=1), at].mean()),
        )
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

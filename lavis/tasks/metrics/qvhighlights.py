"""The whole QVHighlights report of a submission, under the published evaluator's names, by either protocol."""

from collections.abc import Sequence
from typing import Any

from lavis.common.errors import UserError
from lavis.tasks.metrics.highlights import HighlightScores, corrected_highlight_scores, published_highlight_scores
from lavis.tasks.metrics.moment_retrieval import MomentScores, corrected_moment_scores, published_moment_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth


def published_report(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> dict[str, Any]:
    """Return what the published evaluator writes, figure by figure; see `moment_retrieval` for its quirks.

    Raises:
        UserError: the predictions are not for the very queries of the ground truth, or one has no window.
    """
    highlights = published_highlight_scores(predictions, truths) if scores_highlights(predictions, truths) else {}
    return _report(published_moment_scores(predictions, truths), highlights)


def corrected_report(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> dict[str, Any]:
    """Return the corrected figures under the same names; queries without prediction count as not found.

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
    for name, figures in highlights.items():
        brief[f"HL-min-{name}-mAP"] = figures.mean_average_precision
        brief[f"HL-min-{name}-Hit1"] = figures.hit_at_1
    by_name = {name: scores.as_dict() for name, scores in moments.items()}
    return {"brief": brief} | {f"HL-min-{name}": row.as_dict() for name, row in highlights.items()} | by_name

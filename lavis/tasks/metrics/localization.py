"""Moments as Charades-STA and TACoS are measured: the best window of each query against the true one.

R1@m is the share of queries whose window with the highest score has an IoU of at least m with a true window (TALL's
"R@1, IoU=m", arXiv 1705.02101), mIoU the mean of these IoUs. "At least" is what UMT's evaluation of Charades-STA and
QVHighlights' evaluator take; 2D-TAN's script asks for more than m.
"""

from collections.abc import Sequence

import numpy as np

from lavis.tasks.metrics.moment_retrieval import check_known_queries, intersection_over_union
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth

LOCALIZATION_THRESHOLDS = (0.3, 0.5, 0.7)


def localization_scores(predictions: Sequence[QueryPrediction], truths: Sequence[QueryTruth]) -> dict[str, float]:
    """Return "R1@0.3", "R1@0.5", "R1@0.7" and "mIoU" in percent, and the number of "queries".

    Of several true windows the one that fits best counts; a query without prediction counts 0.

    Raises:
        UserError: a prediction is for a query that has no ground truth.
    """
    check_known_queries(predictions, truths)
    found = {prediction.qid: prediction.windows for prediction in predictions}
    best = np.zeros(len(truths))
    for row, truth in enumerate(truths):
        windows = found.get(truth.qid)
        if windows is not None and len(windows):
            highest = windows[[int(windows[:, 2].argmax())]]
            best[row] = intersection_over_union(highest, truth.windows).max()
    shares = {f"R1@{threshold}": best >= threshold for threshold in LOCALIZATION_THRESHOLDS}
    figures = {name: 100 * float(share.mean()) for name, share in {**shares, "mIoU": best}.items()}
    return {**figures, "queries": len(truths)}

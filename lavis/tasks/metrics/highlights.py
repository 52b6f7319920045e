"""TVSum's highlights as UMT measures them (arXiv 2203.12745; QD-DETR's and others' figures are the same): top-5 mAP.

Each annotator's highlights are the clips rated above the lower median of that annotator's own ratings. Of the five
clips that a curve puts highest, the area under precision over recall is taken, by trapezoids from a precision of 1 on,
recall counting the highlights among these five; without one it is 0. The figure of a domain is the mean over annotators
and videos, that of the benchmark the mean over domains.

Of equally high clips the first goes before the others here; the published code leaves that open.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lavis.common.types import Floats

TOP_CLIPS = 5


def top_clips_precision(curve: Floats, ratings: Floats) -> Floats:
    """Return each annotator's average precision [A], 0 to 1, over the clips that a curve puts highest.

    Args:
        curve: [N], a score for each clip; further clips are left out, and missing ones rank last.
        ratings: [C, A].
    """
    fitted = np.full(len(ratings), -np.inf)
    fitted[: len(curve)] = curve[: len(ratings)]
    lower_median = np.sort(ratings, axis=0)[(len(ratings) - 1) // 2]
    highest = np.argsort(-fitted, kind="stable")[:TOP_CLIPS]
    found = (ratings[highest] > lower_median).astype(np.float64)
    precision = found.cumsum(axis=0) / np.arange(1, len(found) + 1)[:, None]
    before = np.vstack([np.ones(ratings.shape[1]), precision[:-1]])
    area: Floats = (found * (before + precision) / 2).sum(axis=0) / np.maximum(found.sum(axis=0), 1)
    return area


def highlight_scores(
    curves: Sequence[Floats | None], ratings: Sequence[Floats], domains: Sequence[str]
) -> dict[str, float]:
    """Return mAP in percent of each domain, their mean as "mAP@5", and the number of "videos".

    Args:
        curves: one for each video; None where it could not be read, which counts 0.
        ratings: [C, A] of each video.
        domains: of each video.
    """
    by_domain: dict[str, list[float]] = defaultdict(list)
    for curve, rated, domain in zip(curves, ratings, domains, strict=True):
        by_domain[domain].append(0.0 if curve is None else 100 * float(top_clips_precision(curve, rated).mean()))
    means = {domain: float(np.mean(values)) for domain, values in sorted(by_domain.items())}
    return {"mAP@5": float(np.mean(list(means.values()))), **means, "videos": len(curves)}

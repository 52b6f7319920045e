"""How much spans of time overlap. Spans are [N, 2] arrays of starts and ends in seconds."""

import numpy as np

from lavis.common.types import Floats


def intersection_over_union(spans: Floats, others: Floats) -> Floats:
    """Return [N, M] overlap of each span with each other one: 0 apart, 1 equal; two empty spans do not overlap."""
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

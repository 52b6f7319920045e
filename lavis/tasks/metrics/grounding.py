"""Grounded question answering on NExT-GQA: is the answer right, and was it found where it is to be seen?

Definitions of the benchmark (arXiv 2309.01327): IoP is the share of the predicted span that lies within a true one,
IoU the overlap over the union; of several true spans the best counts, for each of the two on its own. Acc@GQA counts
answers that are right with IoP of at least 0.5. A question without predicted span counts 0 here; the benchmark's own
script leaves it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavis.common.errors import UserError
from lavis.common.types import Floats, Span
from lavis.tasks.metrics.moment_retrieval import intersection_over_prediction, intersection_over_union

GROUNDED_IOP = 0.5


@dataclass(frozen=True, slots=True)
class GroundedAnswer:
    """One question: whether it was answered right, where from, and where the answer is to be seen.

    Attributes:
        predicted: None if there is no span, as for a video that could not be read.
        windows: the annotated spans; at least one.
    """

    id: str
    correct: bool
    predicted: Span | None
    windows: tuple[Span, ...]


def keyframe_span(times_s: Floats) -> Span:
    """Return the span from the first to the last keyframe, as the benchmark's authors read SeViLA's keyframes.

    Raises:
        UserError: there is no keyframe.
    """
    if not len(times_s):
        raise UserError("no keyframe to make a span of; give None as the predicted span")
    return Span(float(np.min(times_s)), float(np.max(times_s)))


def grounding_scores(answers: Sequence[GroundedAnswer]) -> dict[str, float]:
    """Return the benchmark's metrics in percent over all questions, and the number of "questions".

    Raises:
        UserError: there is no question, or one has no annotated window.
    """
    if not answers:
        raise UserError("no grounded question was evaluated; the figures need at least one")
    correct = np.array([answer.correct for answer in answers], dtype=bool)
    iop, iou = np.array([_best_overlaps(answer) for answer in answers]).T
    shares = {"Acc@QA": correct, "Acc@GQA": correct & (iop >= GROUNDED_IOP)}
    for name, overlaps in (("IoP", iop), ("IoU", iou)):
        shares |= {f"m{name}": overlaps, f"{name}@0.3": overlaps >= 0.3, f"{name}@0.5": overlaps >= 0.5}
    return {**{name: 100 * float(values.mean()) for name, values in shares.items()}, "questions": len(answers)}


def _best_overlaps(answer: GroundedAnswer) -> tuple[float, float]:
    if not answer.windows:
        raise UserError(f"question {answer.id!r} has no annotated window; grounding cannot be scored")
    if answer.predicted is None:
        return 0.0, 0.0
    predicted = np.array([(answer.predicted.start_s, answer.predicted.end_s)])
    windows = np.array([(window.start_s, window.end_s) for window in answer.windows])
    iop = intersection_over_prediction(predicted, windows).max()
    return float(iop), float(intersection_over_union(predicted, windows).max())

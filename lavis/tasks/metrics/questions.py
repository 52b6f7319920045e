"""Figures of a multiple-choice split: accuracy, the votes of single frames, and how answers are grounded.

Grounding as NExT-GQA defines it (arXiv 2309.01327): IoP is the share of the predicted span that lies within a true one,
IoU the overlap over the union; of several true spans the best counts, for each of the two on its own. Acc@GQA counts
answers that are right with IoP of at least 0.5. A question without predicted span counts 0 here; the benchmark's own
script leaves it out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.moments import find_moments
from lavis.common.types import Floats, Span
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.accuracy import DEFAULT_RESAMPLES, NEXTQA_GROUPS, Outcome, accuracy_report
from lavis.tasks.metrics.moment_retrieval import intersection_over_prediction, intersection_over_union
from lavis.tasks.metrics.moments import SpanRule, duration_of
from lavis.tasks.predictions import Prediction

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


TYPE_GROUPS: Mapping[str, Mapping[str, str]] = {"nextqa": NEXTQA_GROUPS}
"""Question types that are reported together, by dataset."""

Pair = tuple[Prediction, Annotation]


def question_metrics(
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    *,
    spans: SpanRule,
    groups: Mapping[str, str] | None = None,
    resamples: int = DEFAULT_RESAMPLES,
) -> dict[str, Any]:
    """Measure answers.

    Args:
        predictions: one for each of `annotations`, in the same order.
        spans: how the scores of frames become the span that an answer is grounded in.
        groups: question type -> group, such as `NEXTQA_GROUPS`.

    Returns:
        "questions", "unreadable", "without_answer", "cut", "unspelt" and "subtitles_cut" are counts. Under these names,
        each None where it does not apply: "accuracy" and "accuracy_by_video" (the same figures; their intervals
        resample questions, and videos with all their questions), "slices" (accuracy by each of the annotations'
        slices), "voting" (frames read alone: the vote, the mean frame, and any frame), "grounding".
    """
    pairs = list(zip(predictions, annotations, strict=True))
    known = [pair for pair in pairs if pair[0].answer is not None]
    metrics: dict[str, Any] = {
        "questions": len(pairs),
        "unreadable": sum(prediction.unreadable is not None for prediction in predictions),
        "without_answer": len(pairs) - len(known),
        "cut": sum(prediction.cut for prediction in predictions),
        "unspelt": sum(bool(prediction.unspelt) for prediction in predictions),
        "subtitles_cut": sum(bool(prediction.subtitles_cut) for prediction in predictions),
        "accuracy": None,
        "accuracy_by_video": None,
        "slices": None,
        "voting": None,
        "grounding": None,
    }
    if not known:
        return metrics
    report = partial(_report, known, groups=groups, resamples=resamples)
    right = [float(prediction.is_right) for prediction, _ in known]
    metrics["accuracy"] = report(right)
    metrics["accuracy_by_video"] = report(right, clusters=[prediction.video for prediction, _ in known])
    names = dict.fromkeys(name for _, row in known for name in row.slices)
    metrics["slices"] = {
        name: _report(known, right, by=partial(_slice, name=name), resamples=resamples)["by_type"] for name in names
    } or None
    if any(prediction.frame_choices for prediction in predictions):
        frames = [np.array(prediction.frame_choices) == prediction.answer for prediction, _ in known]
        metrics["voting"] = {
            "voting": metrics["accuracy"],
            "frame_mean": report([float(hits.mean()) if len(hits) else 0.0 for hits in frames]),
            "oracle": report([float(hits.any()) for hits in frames]),
        }
    metrics["grounding"] = _grounding(known, spans)
    return metrics


def _kind(row: Annotation) -> str | None:
    return row.question.kind


def _slice(row: Annotation, *, name: str) -> str | None:
    return row.slices.get(name)


def _report(
    pairs: Sequence[Pair], shares: Sequence[float], *, by: Callable[[Annotation], str | None] = _kind, **settings: Any
) -> dict[str, Any]:
    """Report on questions of which these shares, 0 to 1, are right; settings as for `accuracy_report`.

    Args:
        by: says which type a question is of.
    """
    outcomes = [
        Outcome(prediction.id, share, by(row), readable=prediction.unreadable is None)
        for share, (prediction, row) in zip(shares, pairs, strict=True)
    ]
    return asdict(accuracy_report(outcomes, **settings))


def _grounding(known: Sequence[Pair], spans: SpanRule) -> dict[str, Any] | None:
    """Measure how answers are grounded, once from their keyframes and once from the scores of all frames."""
    grounded = [(prediction, row) for prediction, row in known if row.question.windows]
    if not grounded:
        return None
    read = [np.array(prediction.keyframe_times_s) for prediction, _ in grounded]
    found = {"keyframes": [keyframe_span(times_s) if len(times_s) else None for times_s in read]}
    if any(prediction.frame_scores for prediction, _ in grounded):
        found["frame_scores"] = [_best_moment(prediction, row, spans) for prediction, row in grounded]
    return {
        name: grounding_scores(
            [
                GroundedAnswer(prediction.id, prediction.is_right, span, row.question.windows or ())
                for (prediction, row), span in zip(grounded, predicted, strict=True)
            ]
        )
        for name, predicted in found.items()
    }


def _best_moment(prediction: Prediction, row: Annotation, spans: SpanRule) -> Span | None:
    if not prediction.frame_scores:
        return None
    # The logit of "yes" alone has no natural zero, so that of `spans` does not count.
    rule = replace(spans, threshold=None)
    (best,) = find_moments(
        np.array(prediction.frame_times_s),
        np.array(prediction.frame_scores),
        duration_s=duration_of(row, prediction),
        **asdict(rule),
        at_least_one=True,
        max_moments=1,
    )
    return Span(best.start_s, best.end_s)

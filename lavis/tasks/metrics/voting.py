"""Figures of a model that answers from every frame alone: its vote, its mean frame, its best frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.types import Floats
from lavis.tasks.metrics.accuracy import AccuracyReport, Outcome, accuracy_report
from lavis.tasks.metrics.bootstrap import DEFAULT_RESAMPLES


@dataclass(frozen=True, slots=True)
class FrameAnswers:
    """The option scores of every frame for one question.

    Attributes:
        option_scores: [T, O]; no frame (T = 0) if the video could not be read.
        answer: index of the right option.
        kind: the question type.
    """

    id: str
    option_scores: Floats
    answer: int
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class VotingReport:
    """Three figures that must not be taken for each other.

    Attributes:
        voting: the majority of the frames is right ("BLIP-2 voting" of the paper's tables).
        frame_mean: a single frame is right, on average; every question counts the same.
        oracle: any frame is right: an upper bound, not a result. The published code reports this one.
    """

    voting: AccuracyReport
    frame_mean: AccuracyReport
    oracle: AccuracyReport

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name).as_dict() for name in ("voting", "frame_mean", "oracle")}


def majority_vote(option_scores: Floats) -> int:
    """Return the option that most of [T, O] frames score highest; ties go to the highest sum of scores.

    Raises:
        UserError: there is no frame to vote, or a score is nan.
    """
    if option_scores.ndim != 2 or not option_scores.size or np.isnan(option_scores).any():
        raise UserError(f"a vote needs a score for every frame and option, got {option_scores.tolist()}")
    votes = np.bincount(option_scores.argmax(axis=1), minlength=option_scores.shape[1])
    summed = np.where(votes == votes.max(), option_scores.sum(axis=0), -np.inf)
    return int(summed.argmax())


def voting_report(
    answers: Sequence[FrameAnswers],
    *,
    groups: Mapping[str, str] | None = None,
    clusters: Sequence[str] | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> VotingReport:
    """Measure answers given frame by frame; the optional arguments are those of `accuracy_report`."""
    shares = [_shares(answer) for answer in answers]

    def report(name: str) -> AccuracyReport:
        outcomes = [
            Outcome(answer.id, share[name], answer.kind, readable=len(answer.option_scores) > 0)
            for answer, share in zip(answers, shares, strict=True)
        ]
        return accuracy_report(outcomes, groups=groups, clusters=clusters, resamples=resamples, seed=seed)

    return VotingReport(report("voting"), report("frame_mean"), report("oracle"))


def _shares(answers: FrameAnswers) -> dict[str, float]:
    if not len(answers.option_scores):
        return {"voting": 0.0, "frame_mean": 0.0, "oracle": 0.0}
    voted = majority_vote(answers.option_scores)
    right = answers.option_scores.argmax(axis=1) == answers.answer
    return {"voting": float(voted == answers.answer), "frame_mean": float(right.mean()), "oracle": float(right.any())}

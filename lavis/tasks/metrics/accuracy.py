"""Accuracy of multiple-choice answers: overall, by question type, by groups of types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lavis.common.errors import UserError
from lavis.common.types import Floats
from lavis.tasks.metrics.bootstrap import DEFAULT_RESAMPLES, Estimate, interval, resampled_totals

NEXTQA_GROUPS = {
    "TN": "Tem",
    "TC": "Tem",
    "TP": "Tem",
    "CW": "Cau",
    "CH": "Cau",
    "DC": "Des",
    "DL": "Des",
    "DO": "Des",
}

_RIGHT, _READABLE, _ALL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question went.

    Attributes:
        correct: 1 if answered right, 0 if wrong or unreadable; between them for the share of frames that were right.
        kind: the question type; None leaves the question out of the figures by type.
        readable: False if the video could not be read, so that nothing was answered.
    """

    id: str
    correct: float
    kind: str | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """Accuracy in percent; unreadable questions count as wrong everywhere but in `readable_only`.

    Attributes:
        overall: over all questions, each counting the same (question-weighted, "micro").
        readable_only: over the questions whose video could be read; None if there are none.
        unreadable: number of questions whose video could not be read.
        by_type: per question type.
        by_group: per group of types, questions within a group counting the same; a type without group is its own.
        mean_of_types: mean over the types, each counting the same ("macro": STAR's published average); None without.
    """

    overall: Estimate
    readable_only: Estimate | None
    unreadable: int
    by_type: dict[str, Estimate]
    by_group: dict[str, Estimate]
    mean_of_types: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "overall": self.overall.as_dict(),
            "readable_only": self.readable_only.as_dict() if self.readable_only else None,
            "unreadable": self.unreadable,
            "by_type": {name: estimate.as_dict() for name, estimate in self.by_type.items()},
            "by_group": {name: estimate.as_dict() for name, estimate in self.by_group.items()},
            "mean_of_types": self.mean_of_types.as_dict() if self.mean_of_types else None,
        }


def question_type(question_id: str) -> str:
    """Return the type that a question id starts with: "CW_1000_0" is of type "CW"."""
    return question_id.partition("_")[0]


def accuracy_report(
    outcomes: Sequence[Outcome],
    *,
    groups: Mapping[str, str] | None = None,
    clusters: Sequence[str] | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> AccuracyReport:
    """Count right answers and bound what another draw of questions would have given.

    Args:
        outcomes: one per question.
        groups: question type -> group, such as `NEXTQA_GROUPS`.
        clusters: each outcome's video: questions of one video are then resampled together, which gives the honest,
            wider interval where they depend on each other. None resamples questions.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        UserError: there is no question, a question occurs twice, or an outcome cannot be.
    """
    _check(outcomes, clusters)
    kinds = sorted({outcome.kind for outcome in outcomes if outcome.kind is not None})
    column = {kind: index for index, kind in enumerate([*kinds, None])}
    labels = clusters if clusters is not None else range(len(outcomes))
    unit_of = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    units = np.zeros((len(unit_of), len(column), 3))
    for outcome, label in zip(outcomes, labels, strict=True):
        units[unit_of[label], column[outcome.kind]] += (outcome.correct, outcome.readable, 1)

    observed = units.sum(axis=0, keepdims=True)
    samples = resampled_totals(units.reshape(len(units), -1), resamples=resamples, seed=seed)
    counts = _Counts(observed, samples.reshape(-1, *observed.shape[1:]))
    unreadable = len(outcomes) - int(observed[..., _READABLE].sum())
    members: dict[str, list[int]] = {}
    for kind in kinds:
        members.setdefault((groups or {}).get(kind, kind), []).append(column[kind])
    everything = list(column.values())
    return AccuracyReport(
        overall=counts.share(everything, _ALL),
        readable_only=counts.share(everything, _READABLE) if unreadable < len(outcomes) else None,
        unreadable=unreadable,
        by_type={kind: counts.share([column[kind]], _ALL) for kind in kinds},
        by_group={group: counts.share(columns, _ALL) for group, columns in members.items()} if groups else {},
        mean_of_types=counts.mean_of_shares([column[kind] for kind in kinds]) if kinds else None,
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    """Right, readable and all questions by type: as observed [1, C, 3] and as resampled [B, C, 3]."""

    observed: Floats
    samples: Floats

    def share(self, columns: list[int], denominator: int) -> Estimate:
        shares = [_percent(totals[:, columns].sum(axis=1), denominator) for totals in (self.observed, self.samples)]
        return self._estimate(shares, int(self.observed[0, columns, denominator].sum()))

    def mean_of_shares(self, columns: list[int]) -> Estimate:
        shares = [_mean_of_defined(_percent(totals[:, columns], _ALL)) for totals in (self.observed, self.samples)]
        return self._estimate(shares, int(self.observed[0, columns, _ALL].sum()))

    @staticmethod
    def _estimate(shares: list[Floats], questions: int) -> Estimate:
        observed, samples = shares
        return Estimate(float(observed[0]), *interval(samples), questions)


def _percent(totals: Floats, denominator: int) -> Floats:
    right, out_of = totals[..., _RIGHT], totals[..., denominator]
    return np.divide(100 * right, out_of, out=np.full_like(right, np.nan), where=out_of > 0)


def _mean_of_defined(shares: Floats) -> Floats:
    # A rare type can be absent from a resample: that resample's mean is over the types it has.
    defined = ~np.isnan(shares)
    types = defined.sum(axis=1)
    return np.divide(shares.sum(axis=1, where=defined), types, out=np.full(len(shares), np.nan), where=types > 0)


def _check(outcomes: Sequence[Outcome], clusters: Sequence[str] | None) -> None:
    if not outcomes:
        raise UserError("no question was evaluated; accuracy needs at least one")
    if clusters is not None and len(clusters) != len(outcomes):
        raise UserError(f"{len(clusters)} videos for {len(outcomes)} questions; give the video of each question")
    seen: set[str] = set()
    for outcome in outcomes:
        if outcome.id in seen:
            raise UserError(f"question {outcome.id!r} is counted twice; every question counts once")
        seen.add(outcome.id)
        if not 0 <= outcome.correct <= outcome.readable:
            raise UserError(
                f"question {outcome.id!r}: correct is {outcome.correct}; it is 0 to 1, and 0 for an unreadable video"
            )

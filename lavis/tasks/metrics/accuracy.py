"""Accuracy of multiple-choice answers: overall, by question type and group of types, and of one run against another.

Confidence intervals come from resampling whole units: questions, or all questions of a video together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lavis.common.errors import ConfigError, UserError
from lavis.common.types import Floats

DEFAULT_RESAMPLES = 10_000

NEXTQA_GROUPS = {"TN": "Tem", "TC": "Tem", "TP": "Tem", "CW": "Cau", "CH": "Cau", "DC": "Des", "DL": "Des", "DO": "Des"}

_RIGHT, _READABLE, _ALL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question went.

    Attributes:
        correct: 1 if answered right, 0 if wrong or unreadable; between them for the share of frames that were right.
        kind: the question type; None leaves the question out of the metrics by type.
        readable: False if the video could not be read, so that nothing was answered.
    """

    id: str
    correct: float
    kind: str | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in percent with the borders of its 95 % interval and the number of questions it stands for."""

    percent: float
    low: float
    high: float
    questions: int


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
        groups: question type -> group, such as `NEXTQA_GROUPS`.
        clusters: each outcome's video: questions of one video are then resampled together, which gives the honest,
            wider interval where they depend on each other. None resamples questions.

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
        """Return the share of these types' questions, readable or all, that are right."""
        shares = [_percent(totals[:, columns].sum(axis=1), denominator) for totals in (self.observed, self.samples)]
        return self._estimate(shares, int(self.observed[0, columns, denominator].sum()))

    def mean_of_shares(self, columns: list[int]) -> Estimate:
        """Return the mean over these types of the share of questions that are right."""
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


def resampled_totals(units: Floats, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> Floats:
    """Draw as many units as there are, with replacement, and add them up: B `resamples`.

    Units with equal rows are interchangeable, so how often each distinct row is drawn follows a multinomial
    distribution: one draw of it replaces drawing every unit, and 5,000 questions cost no more than a few.

    Args:
        units: [U, C], what every unit adds to each of C totals.

    Returns:
        [B, C] totals.
    """
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; it must be 1 or more")
    rows, multiplicity = np.unique(units, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(units), multiplicity / len(units), size=resamples)
    return draws @ rows


def interval(samples: Floats) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles; samples in which the metric is not defined (nan) are left out."""
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two runs on the same questions.

    Attributes:
        both: questions that both runs answered right; the next three are counts in the same way.
        difference: accuracy of the first run minus that of the second, in percentage points.
        p_value: exact two-sided McNemar test; the chance of disagreements at least as lopsided if the runs were equal.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    p_value: float

    @property
    def questions(self) -> int:
        """Number of questions compared."""
        return self.both + self.only_first + self.only_second + self.neither

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"questions": self.questions}


def compare_runs(
    first: Mapping[str, bool], second: Mapping[str, bool], *, common_only: bool = False
) -> PairedComparison:
    """Compare which questions, by id, two runs answered right.

    Args:
        common_only: compare on the questions that both runs have, instead of refusing runs over different questions.

    Raises:
        UserError: the runs are over different questions, or have none in common.
    """
    common = first.keys() & second.keys()
    if not common:
        raise UserError("the two runs have no question in common; compare runs over the same questions")
    different = sorted(first.keys() ^ second.keys())
    if different and not common_only:
        raise UserError(
            f"{len(different)} questions are in one run only, such as {different[0]!r}; "
            "evaluate both runs on the same questions or compare the common ones"
        )
    only_first = sum(first[key] and not second[key] for key in common)
    only_second = sum(second[key] and not first[key] for key in common)
    both = sum(first[key] and second[key] for key in common)
    return PairedComparison(
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=len(common) - both - only_first - only_second,
        difference=100 * (only_first - only_second) / len(common),
        p_value=mcnemar_exact(only_first, only_second),
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of a fair coin falling `only_first` times on one side and the rest on the other."""
    disagreements = only_first + only_second
    term = tail = 1
    for chosen in range(min(only_first, only_second)):
        # Binomial coefficients by recurrence: whole numbers, so nothing underflows.
        term = term * (disagreements - chosen) // (chosen + 1)
        tail += term
    return min(1.0, 2 * tail / 2**disagreements)

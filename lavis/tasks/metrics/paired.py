"""Whether one run answered more questions right than another: on the same questions, only disagreements tell."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lavis.common.errors import UserError


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
    """Compare which questions two runs answered right.

    Args:
        first: question id -> answered right.
        second: likewise.
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

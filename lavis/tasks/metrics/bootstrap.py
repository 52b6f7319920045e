"""Confidence intervals by resampling whole units: questions, or all questions of a video together."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats

DEFAULT_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in percent with the borders of its 95 % interval and the number of questions it stands for."""

    percent: float
    low: float
    high: float
    questions: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def resampled_totals(units: Floats, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> Floats:
    """Draw as many units as there are, with replacement, and add them up; again and again.

    Units with equal rows are interchangeable, so how often each distinct row is drawn follows a multinomial
    distribution: one draw of it replaces drawing every unit, and 5,000 questions cost no more than a few.

    Args:
        units: [U, C], what every unit adds to each of C totals.
        resamples: number B of repetitions.
        seed: the same seed gives the same draws.

    Returns:
        [B, C] totals.
    """
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; it must be 1 or more")
    rows, multiplicity = np.unique(units, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(units), multiplicity / len(units), size=resamples)
    return draws @ rows


def interval(samples: Floats) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles; samples in which the figure is not defined (nan) are left out."""
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)

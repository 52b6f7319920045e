"""What a setting must be beside its type, declared where the setting is: `Annotated[int, COUNT]`.

`lavis.common.config.from_mapping` holds every value against the limits of its field, whatever reads the field later.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from lavis.common.naming import did_you_mean

# The longest time to wait that can be counted in microseconds everywhere: about four months.
MAX_WAIT_S = 1e7


@dataclass(frozen=True)
class Limit:
    """A condition on a value.

    Attributes:
        says: ends the sentence "it must be ...".
    """

    says: str
    holds: Callable[[Any], bool]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, to follow the setting's name; None if nothing is."""
        return None if self.holds(value) else f" is {value!r}; it must be {self.says}"


@dataclass(frozen=True)
class OneOf:
    """A choice between names.

    Attributes:
        names: asked when a value is checked, so that parts which are registered later count too.
    """

    names: Callable[[], Iterable[str]]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, to follow the setting's name; None if nothing is."""
        known = tuple(self.names())
        return None if value in known else f": unknown {value!r}; {did_you_mean(value, known)}"


def one_of(*names: str) -> OneOf:
    """Return a choice between names that are known now."""
    return OneOf(lambda: names)


def between(least: float, most: float) -> Limit:
    """Return the limit of a range, both ends included."""
    return Limit(f"from {least} to {most}", lambda value: least <= value <= most)


Count = Annotated[int, Limit("1 or more", lambda value: value >= 1)]
NotNegativeInt = Annotated[int, Limit("0 or more", lambda value: value >= 0)]
NotNegative = Annotated[float, Limit("0 or more", lambda value: value >= 0)]
Finite = Annotated[float, Limit("a finite number", math.isfinite)]
Positive = Annotated[float, Limit("above 0", lambda value: value > 0)]
Share = Annotated[float, between(0, 1)]
Decay = Annotated[float, Limit("from 0 to below 1", lambda value: 0 <= value < 1)]
Text = Annotated[str, Limit("some text", lambda value: bool(value.strip()))]

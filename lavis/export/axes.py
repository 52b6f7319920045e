"""Where the marks of an axis stand, and what is written there."""

import math

_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def time_ticks(start_s: float, end_s: float, *, most: int = 12) -> list[float]:
    """Return round times between two times, at most so many."""
    needed = (end_s - start_s) / most
    return _multiples(start_s, end_s, next((step for step in _STEPS_S if step >= needed), needed))


def value_ticks(low: float, high: float, *, most: int = 8) -> list[float]:
    """Return round numbers between two numbers."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * most >= high - low)
    return _multiples(low, high, step)


def time_label(time_s: float) -> str:
    """Return "5 s" or, from a minute on, "1:05"."""
    if time_s < 60:
        return f"{time_s:g} s"
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d}"


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounded, because 3 * 0.1 is no number to be read.
    return [round(index * step, 9) for index in range(first, last + 1)]

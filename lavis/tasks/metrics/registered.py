"""Metrics by name: whatever is registered is measured in every evaluation and validation.

A metric is given every question of a split once, however many processes asked them, and says one number of all.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Protocol

from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.datasets.annotations import Annotation
from lavis.tasks.predictions import Prediction

# What validation measures by itself.
ACCURACY, FRAME_AP, FRAME_ACCURACY = "accuracy", "frame_ap", "frame_accuracy"
_MEASURED_ANYWAY = (ACCURACY, FRAME_AP, FRAME_ACCURACY, "questions", "unreadable")


class Metric(Protocol):
    """Measures a split; a function or a class without arguments, by name in `registry.metrics`."""

    def __call__(self, predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> float | None:
        """Return a number, higher being better; None where the metric does not apply.

        Args:
            predictions: what was said about each question of the split; `unreadable` says why nothing was.
            annotations: the questions, in the same order.
        """
        ...


def metric_names() -> list[str]:
    """Return the names of all registered metrics.

    Raises:
        ConfigError: one has the name of one that is measured anyway.
    """
    names = registry.metrics.names()
    for name in names:
        if name in _MEASURED_ANYWAY:
            raise ConfigError(f"the metric {name!r} has the name of a metric of this package; give it another")
    return names


def measure_registered(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> dict[str, float]:
    """Return the values of all registered metrics that apply, by name.

    Raises:
        ConfigError: a metric has such a name, or says something that is no number.
    """
    found = {}
    for name in metric_names():
        metric = registry.metrics.get(name)
        value = (metric() if isinstance(metric, type) else metric)(predictions, annotations)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ConfigError(f"the metric {name!r} gave {value!r:.80}; it must be a finite number, or None")
        found[name] = float(value)
    return found

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.datasets.annotations import Annotation
from lavis.tasks.predictions import Metric, Prediction, measure_registered

PREDICTIONS = [Prediction(id="a", video="v", answer=1, choice=1), Prediction(id="b", video="v", unreadable="gone")]
ROWS = [Annotation(Question("What?", id=name, answer=1)) for name in "ab"]

pytestmark = pytest.mark.usefixtures("plugins")


def share_read(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> float | None:
    assert [row.question.id for row in annotations] == [one.id for one in predictions]
    return 100 * float(np.mean([one.unreadable is None for one in predictions], dtype=np.float32))


class NoWindows:
    def __call__(self, predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> float | None:
        return None if not any(row.question.windows for row in annotations) else 0.0


def test_every_registered_metric_that_applies_is_measured() -> None:
    assert measure_registered(PREDICTIONS, ROWS) == {}
    checked: dict[str, type[Metric] | Metric] = {"share_read": share_read, "windows": NoWindows}
    for name, metric in checked.items():
        registry.metrics.register(name)(metric)
    assert measure_registered(PREDICTIONS, ROWS) == {"share_read": 50.0}


@pytest.mark.parametrize("value", [float("nan"), True, "0.5", [1.0]])
def test_what_is_no_number_is_refused(value: Any) -> None:
    registry.metrics.register("odd")(lambda predictions, annotations: value)
    with pytest.raises(ConfigError, match=r"^the metric 'odd' gave .*; it must be a finite number, or None$"):
        measure_registered(PREDICTIONS, ROWS)


def test_a_metric_has_a_name_of_its_own() -> None:
    registry.metrics.register("accuracy")(share_read)
    with pytest.raises(ConfigError, match="the metric 'accuracy' has the name of a metric of this package"):
        measure_registered(PREDICTIONS, ROWS)

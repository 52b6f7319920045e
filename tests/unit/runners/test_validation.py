import numpy as np
import pytest

from lavis.runners.validation import average_precision


@pytest.mark.parametrize(
    ("scores", "relevant", "expected"),
    [
        ([3, 2, 1], [1, 0, 0], 1.0),
        ([1, 2, 3], [1, 0, 0], 1 / 3),
        ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([1, 1, 1, 1], [0, 1, 0, 1], (1 / 2 + 2 / 4) / 2),
    ],
)
def test_average_precision_of_a_ranking(scores: list[int], relevant: list[int], expected: float) -> None:
    assert average_precision(np.array(scores, float), np.array(relevant, bool)) == pytest.approx(expected)

from itertools import pairwise

import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.tasks.metrics.localization import localization_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth


def truth(qid: int, *windows: tuple[float, float]) -> QueryTruth:
    return QueryTruth(qid, "", "", 100.0, np.array(windows, dtype=float))


def prediction(qid: int, *windows: tuple[float, float, float]) -> QueryPrediction:
    return QueryPrediction(qid, "", "", np.array(windows, dtype=float).reshape(-1, 3))


def test_the_window_with_the_highest_score_counts_wherever_it_stands() -> None:
    truths = [truth(1, (0, 10)), truth(2, (0, 10)), truth(3, (0, 10), (50, 60)), truth(4, (0, 10))]
    predictions = [
        prediction(1, (50, 60, 0.1), (0, 7, 0.9)),  # IoU 0.7
        prediction(2, (0, 10, 0.1), (0, 3, 0.9)),  # IoU 0.3
        prediction(3, (50, 55, 0.5)),  # IoU 0.5 with the second
    ]
    assert localization_scores(predictions, truths) == {
        "R1@0.3": 75.0,
        "R1@0.5": 50.0,
        "R1@0.7": 25.0,
        "mIoU": pytest.approx(100 * (0.7 + 0.3 + 0.5) / 4),
        "queries": 4,
    }


def slow_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The time between neighbouring borders that both windows hold, of that which either holds."""
    borders = sorted({*a, *b})
    parts = [(end - start, (start + end) / 2) for start, end in pairwise(borders)]
    held = [(length, [one[0] < middle < one[1] for one in (a, b)]) for length, middle in parts]
    return sum(length for length, by in held if all(by)) / sum(length for length, by in held if any(by))


@pytest.mark.parametrize("seed", range(20))
def test_figures_equal_those_of_a_slow_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def spans(count: int) -> list[tuple[float, float]]:
        starts = rng.uniform(0, 80, count)
        return [(float(start), float(start + rng.uniform(1, 20))) for start in starts]

    truths = [truth(qid, *spans(int(rng.integers(1, 4)))) for qid in range(30)]
    found = {qid: [(*span, float(rng.normal())) for span in spans(int(rng.integers(0, 5)))] for qid in range(25)}
    scores = localization_scores([prediction(qid, *windows) for qid, windows in found.items()], truths)

    best = []
    for one in truths:
        windows = found.get(one.qid, [])
        first = sorted(windows, key=lambda window: -window[2])[:1]
        best.append(max((slow_iou(first[0][:2], tuple(true)) for true in one.windows), default=0.0) if first else 0.0)
    for threshold in (0.3, 0.5, 0.7):
        assert scores[f"R1@{threshold}"] == pytest.approx(100 * sum(iou >= threshold for iou in best) / 30)
    assert scores["mIoU"] == pytest.approx(100 * sum(best) / 30)


def test_predictions_of_another_split_are_refused() -> None:
    with pytest.raises(UserError, match="1 predicted queries have no ground truth, such as qid 2"):
        localization_scores([prediction(2, (0, 1, 1))], [truth(1, (0, 1))])

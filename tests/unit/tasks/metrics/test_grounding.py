import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.common.types import Span
from lavis.tasks.metrics.grounding import GroundedAnswer, grounding_scores, keyframe_span


def answer(correct, predicted, *windows, name="q"):
    return GroundedAnswer(name, correct, predicted, tuple(Span(*window) for window in windows))


def test_all_figures_of_three_questions():
    scores = grounding_scores(
        [
            answer(True, Span(0, 10), (0, 4)),  # IoP 0.4, IoU 0.4: right, not grounded
            answer(True, Span(10, 20), (10, 40)),  # IoP 1, IoU 1/3: right and grounded
            answer(False, Span(10, 20), (10, 20)),  # IoP 1, IoU 1: grounded, not right
            answer(True, None, (0, 4)),  # nothing predicted
        ]
    )
    assert scores == pytest.approx(
        {
            "Acc@QA": 75.0,
            "Acc@GQA": 25.0,
            "mIoP": 60.0,
            "IoP@0.3": 75.0,
            "IoP@0.5": 50.0,
            "mIoU": 100 * (0.4 + 1 / 3 + 1) / 4,
            "IoU@0.3": 75.0,
            "IoU@0.5": 25.0,
            "questions": 4,
        }
    )


def test_half_of_the_prediction_within_the_window_is_grounded():
    assert grounding_scores([answer(True, Span(0, 10), (5, 30))])["Acc@GQA"] == 100.0


def test_the_best_window_counts_for_iop_and_iou_each_on_its_own():
    scores = grounding_scores([answer(True, Span(10, 20), (0, 100), (12, 18))])
    assert (scores["mIoP"], scores["mIoU"]) == (100.0, 60.0)


def test_windows_apart_from_the_prediction_score_zero():
    scores = grounding_scores([answer(True, Span(10, 20), (30, 40))])
    assert (scores["mIoP"], scores["mIoU"], scores["Acc@GQA"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("window", "iop"), [((0, 10), 100.0), ((5, 5), 100.0), ((6, 10), 0.0)])
def test_a_single_keyframe_lies_within_or_outside(window, iop):
    scores = grounding_scores([answer(True, keyframe_span(np.array([5.0])), window)])
    assert (scores["mIoP"], scores["mIoU"]) == (iop, 0.0)


def test_keyframes_span_from_the_first_to_the_last():
    assert keyframe_span(np.array([7.0, 3.0, 5.0])) == Span(3.0, 7.0)


def test_what_cannot_be_scored_is_an_error():
    with pytest.raises(UserError, match="no keyframe"):
        keyframe_span(np.array([]))
    with pytest.raises(UserError, match="no grounded question"):
        grounding_scores([])
    with pytest.raises(UserError, match="question 'q' has no annotated window"):
        grounding_scores([answer(True, Span(0, 1))])

import dataclasses
import json

import pytest

from lavis.common.errors import UserError
from lavis.common.types import Cost, Question
from lavis.tasks.metrics.cost import cost_metrics
from lavis.tasks.predictions import Prediction

PREDICTION = Prediction(
    id="CW_1",
    video="v",
    answer=1,
    choice=0,
    option_scores=(0.1, 1 / 3),
    keyframe_idx=(3, 9),
    keyframe_times_s=(0.3, 0.9),
    frame_times_s=(0.0, 0.3, 0.9),
    frame_scores=(-1.0, 2.0, 1e-17),
    seconds=0.25,
    cost=Cost(frames_decoded=2.5, frames_scored=3, scorer_calls=0.5, seconds=0.25, frame_tokens=64),
)


def test_a_prediction_comes_back_from_its_line_exactly() -> None:
    line = json.dumps(PREDICTION.as_row())
    found = Prediction.from_row(json.loads(line), place="file")
    assert found == PREDICTION
    assert found.cost == PREDICTION.cost


def test_a_line_of_an_earlier_version_has_no_cost() -> None:
    row = {key: value for key, value in PREDICTION.as_row().items() if key != "cost"}
    found = Prediction.from_row(row, place="file")
    assert found == PREDICTION  # what it took is no part of what was said
    assert found.cost is None


def test_a_cost_that_is_no_number_is_refused() -> None:
    row = {**PREDICTION.as_row(), "cost": {"frames_decoded": 1, "frames_scored": 1, "scorer_calls": 1}}
    with pytest.raises(UserError, match="'seconds' is missing"):
        Prediction.from_row(row, place="file")


def test_costs_are_summed_over_the_questions_that_tell_them() -> None:
    without = dataclasses.replace(PREDICTION, cost=None)
    cheaper = dataclasses.replace(PREDICTION, cost=Cost(0, 1, 0.5, 0.75), keyframe_idx=(3,))
    assert cost_metrics([PREDICTION, without, cheaper]) == {
        "questions": 2,
        "frames_decoded": {"sum": 2.5, "mean": 1.25},
        "frames_scored": {"sum": 4, "mean": 2},
        "scorer_calls": {"sum": 1, "mean": 0.5},
        "seconds": {"sum": 1, "mean": 0.5},
        "frame_tokens": {"sum": 64, "mean": 64},
        "frames_read": {"sum": 3, "mean": 1.5},
    }
    assert cost_metrics([without]) == {"questions": 0}


@pytest.mark.parametrize("row", [{"id": "CW_1"}, {**PREDICTION.as_row(), "more": 1}])
def test_a_line_of_something_else_is_refused(row: dict) -> None:
    with pytest.raises(UserError, match="file is not a prediction of this version"):
        Prediction.from_row(row, place="file")


@pytest.mark.parametrize(
    ("answer", "choice", "right"), [(1, 1, True), (1, 0, False), (0, None, False), (None, None, False)]
)
def test_only_the_annotated_option_is_right(answer: int | None, choice: int | None, right: bool) -> None:
    assert Prediction(id="q", video="v", answer=answer, choice=choice).is_right is right


@pytest.mark.parametrize(
    ("options", "choice", "scores", "misfit"),
    [
        (("a", "b"), 1, (0.5, 1.0), None),
        (("a", "b"), 1, (), None),
        ((), None, (), None),
        (("a", "b"), 1, (0.5,), "it chose 1 of 1 options, and there are 2"),
        (("a", "b"), 2, (), "it chose 2 of 0 options, and there are 2"),
        (("a", "b"), None, (), "it chose None of 0 options, and there are 2"),
        (("a", "b"), None, (0.5, 1.0), "it chose None of 2 options, and there are 2"),
        ((), 0, (), "it chose 0 of 0 options, and there are 0"),
    ],
)
def test_a_choice_fits_its_question_with_all_scores_or_none(
    options: tuple[str, ...], choice: int | None, scores: tuple[float, ...], misfit: str | None
) -> None:
    said = Prediction(id="q", video="v", choice=choice, option_scores=scores)
    assert said.misfit(Question("what?", options, id="q", video="v")) == misfit

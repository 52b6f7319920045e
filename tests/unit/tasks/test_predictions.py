import json

import pytest

from lavis.common.errors import UserError
from lavis.common.types import Question
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
)


def test_a_prediction_comes_back_from_its_line_exactly() -> None:
    line = json.dumps(PREDICTION.as_row())
    assert Prediction.from_row(json.loads(line), place="file") == PREDICTION


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

import json

import pytest

from lavis.common.errors import UserError
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

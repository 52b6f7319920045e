import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.tasks.metrics.voting import FrameAnswers, majority_vote, voting_report


@pytest.mark.parametrize(
    ("scores", "voted"),
    [
        ([[3, 1, 0], [2, 1, 0], [0, 9, 0]], 0),  # most frames, not the highest sum
        ([[3, 1, 0], [0, 9, 0]], 1),  # a tie of votes goes to the higher sum
        ([[3, 0, 2.9], [0, 3, 2.9]], 0),  # an option without votes wins no tie, whatever its sum
        ([[1, 1, 1]], 0),
        ([[-5.0, -2.0], [-1.0, -9.0]], 0),
    ],
)
def test_majority_vote(scores, voted):
    assert majority_vote(np.array(scores, dtype=float)) == voted


@pytest.mark.parametrize("scores", [np.empty((0, 4)), np.array([[np.nan, 1.0]])])
def test_a_vote_without_scores_is_an_error(scores):
    with pytest.raises(UserError, match="a vote needs a score for every frame and option"):
        majority_vote(scores)


def test_voting_frame_mean_and_oracle_are_three_numbers():
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    answers = [
        FrameAnswers("a", np.array([right, right, wrong]), 0, "CW"),
        FrameAnswers("b", np.array([wrong, wrong, right]), 0, "TN"),
        FrameAnswers("c", np.array([wrong, wrong, wrong]), 0, "TN"),
    ]
    report = voting_report(answers)
    assert report.voting.overall.percent == pytest.approx(100 / 3)
    assert report.frame_mean.overall.percent == pytest.approx(100 / 3)
    assert report.oracle.overall.percent == pytest.approx(200 / 3)
    assert report.frame_mean.by_type["TN"].percent == pytest.approx(50 / 3)
    assert list(report.as_dict()) == ["voting", "frame_mean", "oracle"]


def test_a_question_without_frames_is_unreadable_and_wrong():
    report = voting_report([FrameAnswers("a", np.array([[1.0, 0.0]]), 0), FrameAnswers("b", np.empty((0, 2)), 0)])
    for figures in (report.voting, report.frame_mean, report.oracle):
        assert (figures.overall.percent, figures.readable_only.percent, figures.unreadable) == (50.0, 100.0, 1)

import numpy as np
import pytest

from lavis.common.errors import ConfigError, UserError
from lavis.common.moments import find_moments, frame_edges, inside_windows
from lavis.common.types import Moment, Span

TIMES = np.arange(75) * 2.0 + 1.0  # QVHighlights: 150 s at 0.5 frames a second, in the middle of 2 s clips


def curve(*yes_frames: int, yes: float = 1.0, no: float = -1.0) -> np.ndarray:
    scores = np.full(75, no)
    scores[list(yes_frames)] = yes
    return scores


def spans(moments):
    return [(moment.start_s, moment.end_s) for moment in moments]


def test_one_run_of_yes_frames_is_one_moment_of_their_clips():
    moments = find_moments(TIMES, curve(5, 6, 7), duration_s=150.0, threshold=0.0)
    assert moments == (Moment(10.0, 16.0, 1.0),)


@pytest.mark.parametrize(
    ("second", "expected"),
    [(17, [(20.0, 36.0)]), (18, [(20.0, 22.0), (36.0, 38.0)])],
    ids=["six no frames are bridged", "seven no frames split"],
)
def test_the_papers_span_threshold_bridges_up_to_six_no_frames(second, expected):
    assert spans(find_moments(TIMES, curve(10, second), duration_s=150.0, threshold=0.0)) == expected


def test_gap_of_zero_frames_joins_neighbours_only():
    moments = find_moments(TIMES, curve(1, 2, 4), duration_s=150.0, threshold=0.0, max_gap_frames=0)
    assert spans(moments) == [(2.0, 6.0), (8.0, 10.0)]


def test_moments_come_best_first_and_equal_ones_in_time_order():
    scores = curve(3, 40)
    scores[20] = 2.0
    assert spans(find_moments(TIMES, scores, duration_s=150.0, threshold=0.0)) == [(40, 42), (6, 8), (80, 82)]
    assert spans(find_moments(TIMES, scores, duration_s=150.0, threshold=0.0, max_moments=1)) == [(40, 42)]


@pytest.mark.parametrize(("span_score", "expected"), [("mean", 1.0), ("max", 3.0)])
def test_a_moments_score_counts_the_frames_of_its_gaps(span_score, expected):
    scores = curve(10, no=-2.0)
    scores[12] = 3.0
    scores[11] = -1.0
    (moment,) = find_moments(TIMES, scores, duration_s=150.0, threshold=0.0, span_score=span_score)
    assert moment == Moment(20.0, 26.0, expected)


def test_a_frame_at_the_threshold_matches():
    assert spans(find_moments(TIMES, curve(7, yes=0.0), duration_s=150.0, threshold=0.0)) == [(14.0, 16.0)]


def test_nothing_above_the_threshold_is_no_moment():
    assert find_moments(TIMES, curve(), duration_s=150.0, threshold=0.0) == ()


def test_without_threshold_the_middle_of_the_scores_decides_wherever_they_lie():
    scores = curve(5, yes=-7.0, no=-9.0)
    assert spans(find_moments(TIMES, scores, duration_s=150.0)) == [(10.0, 12.0)]


@pytest.mark.parametrize("value", [0.0, -3.7, 0.1, 1e308, 5e-324])
def test_equal_scores_without_threshold_are_one_moment_of_all_frames(value):
    (moment,) = find_moments(TIMES, np.full(75, value), duration_s=150.0, span_score="max")
    assert moment == Moment(0.0, 150.0, value)


def test_one_frame_stands_for_the_whole_video():
    assert find_moments(np.array([3.0]), np.array([-5.0]), duration_s=8.0) == (Moment(0.0, 8.0, -5.0),)


def test_frames_reach_to_the_middle_between_neighbours_and_not_beyond_the_video():
    edges = frame_edges(np.array([0.0, 2.0, 6.0, 7.0]), duration_s=7.2)
    assert edges.tolist() == [0.0, 1.0, 4.0, 6.5, 7.2]


def test_frames_of_a_clip_do_not_reach_far_before_it():
    assert frame_edges(np.array([20.0, 24.0]), duration_s=100.0).tolist() == [18.0, 22.0, 26.0]


def test_short_moments_are_dropped_after_joining():
    moments = find_moments(TIMES, curve(1, 30, 32), duration_s=150.0, threshold=0.0, min_length_s=6.0)
    assert spans(moments) == [(60.0, 66.0)]


@pytest.mark.parametrize("out_of_reach", [{"threshold": 5.0}, {"threshold": 0.0, "min_length_s": 9.0}])
def test_the_best_moment_is_kept_on_request_whatever_it_misses(out_of_reach):
    scores = curve(10, 40)
    scores[40] = 2.0
    assert find_moments(TIMES, scores, duration_s=150.0, **out_of_reach) == ()
    kept = find_moments(TIMES, scores, duration_s=150.0, at_least_one=True, **out_of_reach)
    assert kept == (Moment(80.0, 82.0, 2.0),)


@pytest.mark.parametrize(
    ("times_s", "scores", "message"),
    [
        ([1.0, 2.0], [0.0, np.nan], "frame score at position 1 is nan"),
        ([1.0, np.inf], [0.0, 1.0], "frame time at position 1 is inf"),
        ([2.0, 1.0], [0.0, 1.0], "frame times must ascend, got 2.0 s before 1.0 s at position 0"),
        ([1.0], [0.0, 1.0], r"got \(1,\) and \(2,\)"),
        ([], [], "at least one frame"),
    ],
)
def test_a_curve_that_cannot_be_is_an_error(times_s, scores, message):
    with pytest.raises(UserError, match=message):
        find_moments(np.array(times_s), np.array(scores), duration_s=10.0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"duration_s": 0.0}, "duration_s is 0.0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"max_gap_frames": -1}, "max_gap_frames is -1"),
        ({"min_length_s": -1.0}, "min_length_s is -1.0"),
        ({"max_moments": 0}, "max_moments is 0"),
        ({"span_score": "men"}, "did you mean 'mean'"),
    ],
)
def test_a_parameter_that_cannot_be_is_an_error(parameters, message):
    with pytest.raises(ConfigError, match=message):
        find_moments(np.array([1.0]), np.array([0.0]), **({"duration_s": 10.0} | parameters))


def test_frames_at_both_ends_of_a_window_are_inside():
    windows = [Span(1.0, 2.0), Span(4.0, 5.0)]
    assert inside_windows([0.9, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 5.1], windows).tolist() == [
        False, True, True, True, False, True, True, False,
    ]  # fmt: skip


def test_no_frame_is_inside_where_there_is_no_window():
    assert inside_windows([0.0, 1.0], []).tolist() == [False, False]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavis.common.errors import UserError
from lavis.tasks.metrics.moment_retrieval import (
    IOU_THRESHOLDS,
    MomentScores,
    corrected_highlight_scores,
    corrected_moment_scores,
    intersection_over_prediction,
    intersection_over_union,
    published_highlight_scores,
    published_moment_scores,
    shared_queries,
)
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth

PROTOCOLS = [published_moment_scores, corrected_moment_scores]


def truth(*windows, qid=1):
    return QueryTruth(qid, "", "", 150.0, np.array(windows, dtype=float), np.zeros((75, 3)))


def prediction(*windows, qid=1):
    return QueryPrediction(qid, "", "", np.array(windows, dtype=float).reshape(-1, 3))


def test_thresholds_are_those_of_the_benchmark():
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_perfect_windows_score_100(protocol):
    full = protocol([prediction([0, 20, 2], [40, 60, 1])], [truth([0, 20], [40, 60])])["full"]
    assert set(full.average_precision.values()) == set(full.recall_at_1.values()) == {100.0}
    assert (full.mean_average_precision, full.queries) == (100.0, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_of_two_windows_found_second_is_a_quarter(protocol):
    # Right at rank 2: precision 1/2 over a recall of 1/2.
    full = protocol([prediction([100, 110, 2], [0, 20, 1])], [truth([0, 20], [40, 60])])["full"]
    assert full.mean_average_precision == 25.0
    assert full.recall_at_1[0.5] == 0.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_true_window_is_found_once(protocol):
    full = protocol([prediction([0, 20, 3], [0, 20, 2], [40, 60, 1])], [truth([0, 20], [40, 60])])["full"]
    assert full.mean_average_precision == pytest.approx(100 * (1 / 2 + 2 / 3 / 2), abs=0.005)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_overlap_at_the_threshold_counts(protocol):
    full = protocol([prediction([0, 15, 1])], [truth([0, 20])])["full"]  # IoU 0.75
    assert [full.recall_at_1[threshold] for threshold in (0.7, 0.75, 0.8)] == [100.0, 100.0, 0.0]
    assert full.average_precision[0.75] == 100.0
    assert full.mean_average_precision == 60.0


def test_first_listed_window_decides_as_published_and_the_best_score_when_corrected():
    predictions, truths = [prediction([100, 110, 0.1], [0, 20, 0.9])], [truth([0, 20])]
    published, corrected = (protocol(predictions, truths)["full"] for protocol in PROTOCOLS)
    assert (published.recall_at_1[0.5], corrected.recall_at_1[0.5]) == (0.0, 100.0)
    assert published.mean_average_precision == corrected.mean_average_precision == 100.0  # mAP ranks by score in both


def test_the_first_ten_windows_count_as_published_and_the_best_ten_when_corrected():
    wrong = [[100 + index, 101 + index, 0.1] for index in range(10)]
    predictions, truths = [prediction(*wrong, [0, 20, 0.9])], [truth([0, 20])]
    published, corrected = (protocol(predictions, truths)["full"] for protocol in PROTOCOLS)
    assert (published.mean_average_precision, corrected.mean_average_precision) == (0.0, 100.0)


def test_a_query_without_window_cannot_be_scored_as_published_and_is_zero_when_corrected():
    predictions, truths = [prediction([0, 20, 1]), prediction(qid=2)], [truth([0, 20]), truth([0, 20], qid=2)]
    with pytest.raises(UserError, match="query 2 has no predicted window; the published evaluator cannot score it"):
        published_moment_scores(predictions, truths)
    full = corrected_moment_scores(predictions, truths)["full"]
    assert (full.mean_average_precision, full.recall_at_1[0.5], full.queries) == (50.0, 50.0, 2)
    assert corrected_moment_scores(predictions[:1], truths)["full"] == full


def test_a_window_found_at_another_length_is_a_false_alarm_as_published_and_left_out_when_corrected():
    predictions = [prediction([0, 60, 3], [70, 78, 2])]
    truths = [truth([0, 60], [70, 78])]
    published, corrected = (protocol(predictions, truths) for protocol in PROTOCOLS)
    assert (published["short"].mean_average_precision, corrected["short"].mean_average_precision) == (50.0, 100.0)
    assert (published["short"].recall_at_1[0.5], corrected["short"].recall_at_1[0.5]) == (0.0, 100.0)
    assert published["long"] == MomentScores(
        dict.fromkeys(IOU_THRESHOLDS, 100.0), dict.fromkeys(IOU_THRESHOLDS, 100.0), 100.0, 1
    )


def test_a_false_alarm_of_the_same_length_counts_when_corrected():
    scores = corrected_moment_scores([prediction([100, 105, 3], [70, 78, 2])], [truth([70, 78])])
    assert (scores["short"].mean_average_precision, scores["short"].recall_at_1[0.5]) == (50.0, 0.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("length", "name"), [(2, "short"), (10, "short"), (10.5, "middle"), (30, "middle"), (32, "long"), (150, "long")]
)
def test_lengths_are_above_the_lower_border_and_up_to_the_upper(protocol, length, name):
    assert set(protocol([prediction([0, length, 1])], [truth([0, length])])) == {name, "full"}


def test_published_figures_are_rounded_and_corrected_ones_are_not():
    predictions = [prediction([0, 20, 1]), prediction([0, 20, 1], qid=2), prediction([0, 20, 1], qid=3)]
    truths = [truth([0, 20]), truth([0, 20], qid=2), truth([40, 60], qid=3)]
    published, corrected = (protocol(predictions, truths)["full"] for protocol in PROTOCOLS)
    assert published.mean_average_precision == 66.67
    assert corrected.mean_average_precision == pytest.approx(200 / 3, abs=1e-12)


def test_names_are_those_of_the_published_evaluator():
    written = corrected_moment_scores([prediction([0, 20, 1])], [truth([0, 20])])["full"].as_dict()
    assert list(written) == ["MR-mAP", "MR-R1"]
    assert list(written["MR-mAP"]) == [*map(str, IOU_THRESHOLDS), "average"]
    assert list(written["MR-R1"]) == list(map(str, IOU_THRESHOLDS))


def test_queries_in_common():
    predictions, truths = shared_queries(
        [prediction([0, 1, 1], qid=1), prediction([0, 1, 1], qid=2)], [truth([0, 1], qid=2), truth([0, 1], qid=3)]
    )
    assert ([row.qid for row in predictions], [row.qid for row in truths]) == ([2], [2])
    with pytest.raises(UserError, match="no predicted query has ground truth"):
        shared_queries([prediction([0, 1, 1], qid=1)], [truth([0, 1], qid="1")])


def test_overlaps():
    spans = np.array([[0.0, 10.0], [5.0, 5.0], [30.0, 40.0]])
    truths = np.array([[0.0, 20.0], [5.0, 10.0], [50.0, 60.0]])
    assert intersection_over_union(spans, truths).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert intersection_over_prediction(spans, truths).tolist() == [[1.0, 0.5, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_two_equal_spans_of_no_length_do_not_overlap():
    point = np.array([[5.0, 5.0]])
    assert intersection_over_union(point, point).tolist() == [[0.0]]


bounds = st.tuples(st.floats(0, 150), st.floats(0, 150)).map(sorted)


@given(bounds, bounds)
def test_the_hull_of_the_published_evaluator_decides_as_the_union_does(span, other):
    shared = max(0.0, min(span[1], other[1]) - max(span[0], other[0]))
    hull = max(span[1], other[1]) - min(span[0], other[0])
    over_hull = shared / hull if hull else 0.0
    assert intersection_over_union(np.array([span]), np.array([other]))[0, 0] == pytest.approx(over_hull, abs=1e-9)


OF_HIGHLIGHTS = [published_highlight_scores, corrected_highlight_scores]


def rated(*ratings, qid=1):
    """Ratings of the clips, either one for all three annotators or one each."""
    saliency = np.array([np.broadcast_to(rating, 3) for rating in ratings], dtype=float)
    return QueryTruth(qid, "", "", 2.0 * len(ratings), np.array([[0.0, 2.0]]), saliency)


def curve(*saliency, qid=1):
    return QueryPrediction(qid, "", "", np.empty((0, 3)), np.array(saliency, dtype=float))


@pytest.mark.parametrize("protocol", OF_HIGHLIGHTS)
def test_a_curve_that_ranks_highlights_first_scores_100(protocol):
    scores = protocol([curve(3, 2, 1, 0)], [rated(4, 4, 0, 0)])
    assert scores == {key: {"HL-mAP": 100.0, "HL-Hit1": 100.0} for key in ["Fair", "Good", "VeryGood"]}


@pytest.mark.parametrize("protocol", OF_HIGHLIGHTS)
def test_least_ratings_are_two_three_and_four(protocol):
    scores = protocol([curve(4, 3, 2, 1)], [rated(1, 2, 3, 4)])
    # Highlights at ranks 2, 3, 4; at 3, 4; at 4: interpolated precision is that of the last one, 3/4, 2/4, 1/4.
    assert [scores[name]["HL-mAP"] for name in scores] == [75.0, 50.0, 25.0]
    assert [scores[name]["HL-Hit1"] for name in scores] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("protocol", OF_HIGHLIGHTS)
def test_the_highest_clip_hits_if_one_annotator_says_so(protocol):
    scores = protocol([curve(1, 0)], [rated([0, 4, 0], [4, 4, 4])])
    assert scores["VeryGood"]["HL-Hit1"] == 100.0
    # Two annotators see it at rank 2 (1/2), one sees both (1).
    assert scores["VeryGood"]["HL-mAP"] == pytest.approx(100 * (0.5 + 1 + 0.5) / 3, abs=0.005)


def test_an_annotator_without_highlight_is_zero_as_published_and_left_out_when_corrected():
    predictions, truths = [curve(1, 0)], [rated([4, 4, 0], 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in OF_HIGHLIGHTS)
    assert (published["HL-mAP"], corrected["HL-mAP"]) == (66.67, 100.0)


def test_a_query_without_highlight_is_a_miss_as_published_and_left_out_when_corrected():
    predictions, truths = [curve(1, 0), curve(1, 0, qid=2)], [rated(4, 0), rated(3, 0, qid=2)]
    published, corrected = (protocol(predictions, truths)["VeryGood"] for protocol in OF_HIGHLIGHTS)
    assert published == {"HL-mAP": 50.0, "HL-Hit1": 50.0}
    assert corrected == {"HL-mAP": 100.0, "HL-Hit1": 100.0}


def test_a_rating_that_never_occurs_has_no_corrected_figure():
    assert list(corrected_highlight_scores([curve(1, 0)], [rated(3, 0)])) == ["Fair", "Good"]


def test_equal_scores_weigh_once_as_published_and_by_highlights_when_corrected():
    # One highlight alone on top (precision 1), then two highlights among three equal clips (precision 3/4).
    predictions, truths = [curve(2, 1, 1, 1)], [rated(4, 4, 4, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in OF_HIGHLIGHTS)
    assert published["HL-mAP"] == 87.5
    assert corrected["HL-mAP"] == pytest.approx(100 * (1 + 2 * 0.75) / 3)


def test_a_flat_curve_hits_by_its_first_clip_as_published_and_by_chance_when_corrected():
    predictions, truths = [curve(1, 1, 1, 1)], [rated(4, 0, 0, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in OF_HIGHLIGHTS)
    assert (published["HL-Hit1"], corrected["HL-Hit1"]) == (100.0, 25.0)


def test_a_short_curve_is_filled_with_zero_as_published_and_ranks_missing_clips_last_when_corrected():
    predictions, truths = [curve(-1, -2)], [rated(4, 0, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in OF_HIGHLIGHTS)
    assert (published["HL-mAP"], corrected["HL-mAP"]) == (50.0, 100.0)


def test_a_long_curve_is_cut_and_its_highest_clip_beyond_the_video_is_a_miss_as_published():
    predictions, truths = [curve(2, 1, 3)], [rated(4, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in OF_HIGHLIGHTS)
    assert published == {"HL-mAP": 100.0, "HL-Hit1": 0.0}
    assert corrected == {"HL-mAP": 100.0, "HL-Hit1": 100.0}


def test_a_missing_prediction_is_refused_as_published_and_zero_when_corrected():
    predictions, truths = [curve(1, 0)], [rated(4, 0), rated(4, 0, qid=2)]
    with pytest.raises(UserError, match="1 queries have no prediction, such as qid 2"):
        published_highlight_scores(predictions, truths)
    assert corrected_highlight_scores(predictions, truths)["Fair"] == {"HL-mAP": 50.0, "HL-Hit1": 50.0}


@pytest.mark.parametrize("protocol", OF_HIGHLIGHTS)
def test_predictions_without_curve_are_refused(protocol):
    without = QueryPrediction(7, "", "", np.empty((0, 3)))
    with pytest.raises(UserError, match="query 7 has no saliency scores"):
        protocol([without], [rated(4, qid=7)])

import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.tasks.metrics.qvhighlights import corrected_highlight_scores, published_highlight_scores
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth

PROTOCOLS = [published_highlight_scores, corrected_highlight_scores]


def truth(*ratings, qid=1):
    """Ratings of the clips, either one for all three annotators or one each."""
    saliency = np.array([np.broadcast_to(rating, 3) for rating in ratings], dtype=float)
    return QueryTruth(qid, "", "", 2.0 * len(ratings), np.array([[0.0, 2.0]]), saliency)


def prediction(*saliency, qid=1):
    return QueryPrediction(qid, "", "", np.empty((0, 3)), np.array(saliency, dtype=float))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_curve_that_ranks_highlights_first_scores_100(protocol):
    scores = protocol([prediction(3, 2, 1, 0)], [truth(4, 4, 0, 0)])
    assert scores == {key: {"HL-mAP": 100.0, "HL-Hit1": 100.0} for key in ["Fair", "Good", "VeryGood"]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_least_ratings_are_two_three_and_four(protocol):
    scores = protocol([prediction(4, 3, 2, 1)], [truth(1, 2, 3, 4)])
    # Highlights at ranks 2, 3, 4; at 3, 4; at 4: interpolated precision is that of the last one, 3/4, 2/4, 1/4.
    assert [scores[name]["HL-mAP"] for name in scores] == [75.0, 50.0, 25.0]
    assert [scores[name]["HL-Hit1"] for name in scores] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_highest_clip_hits_if_one_annotator_says_so(protocol):
    scores = protocol([prediction(1, 0)], [truth([0, 4, 0], [4, 4, 4])])
    assert scores["VeryGood"]["HL-Hit1"] == 100.0
    # Two annotators see it at rank 2 (1/2), one sees both (1).
    assert scores["VeryGood"]["HL-mAP"] == pytest.approx(100 * (0.5 + 1 + 0.5) / 3, abs=0.005)


def test_an_annotator_without_highlight_is_zero_as_published_and_left_out_when_corrected():
    predictions, truths = [prediction(1, 0)], [truth([4, 4, 0], 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in PROTOCOLS)
    assert (published["HL-mAP"], corrected["HL-mAP"]) == (66.67, 100.0)


def test_a_query_without_highlight_is_a_miss_as_published_and_left_out_when_corrected():
    predictions, truths = [prediction(1, 0), prediction(1, 0, qid=2)], [truth(4, 0), truth(3, 0, qid=2)]
    published, corrected = (protocol(predictions, truths)["VeryGood"] for protocol in PROTOCOLS)
    assert published == {"HL-mAP": 50.0, "HL-Hit1": 50.0}
    assert corrected == {"HL-mAP": 100.0, "HL-Hit1": 100.0}


def test_a_rating_that_never_occurs_has_no_corrected_figure():
    assert list(corrected_highlight_scores([prediction(1, 0)], [truth(3, 0)])) == ["Fair", "Good"]


def test_equal_scores_weigh_once_as_published_and_by_highlights_when_corrected():
    # One highlight alone on top (precision 1), then two highlights among three equal clips (precision 3/4).
    predictions, truths = [prediction(2, 1, 1, 1)], [truth(4, 4, 4, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in PROTOCOLS)
    assert published["HL-mAP"] == 87.5
    assert corrected["HL-mAP"] == pytest.approx(100 * (1 + 2 * 0.75) / 3)


def test_a_flat_curve_hits_by_its_first_clip_as_published_and_by_chance_when_corrected():
    predictions, truths = [prediction(1, 1, 1, 1)], [truth(4, 0, 0, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in PROTOCOLS)
    assert (published["HL-Hit1"], corrected["HL-Hit1"]) == (100.0, 25.0)


def test_a_short_curve_is_filled_with_zero_as_published_and_ranks_missing_clips_last_when_corrected():
    predictions, truths = [prediction(-1, -2)], [truth(4, 0, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in PROTOCOLS)
    assert (published["HL-mAP"], corrected["HL-mAP"]) == (50.0, 100.0)


def test_a_long_curve_is_cut_and_its_highest_clip_beyond_the_video_is_a_miss_as_published():
    predictions, truths = [prediction(2, 1, 3)], [truth(4, 0)]
    published, corrected = (protocol(predictions, truths)["Fair"] for protocol in PROTOCOLS)
    assert published == {"HL-mAP": 100.0, "HL-Hit1": 0.0}
    assert corrected == {"HL-mAP": 100.0, "HL-Hit1": 100.0}


def test_a_missing_prediction_is_refused_as_published_and_zero_when_corrected():
    predictions, truths = [prediction(1, 0)], [truth(4, 0), truth(4, 0, qid=2)]
    with pytest.raises(UserError, match="1 queries have no prediction, such as qid 2"):
        published_highlight_scores(predictions, truths)
    assert corrected_highlight_scores(predictions, truths)["Fair"] == {"HL-mAP": 50.0, "HL-Hit1": 50.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_predictions_without_curve_are_refused(protocol):
    without = QueryPrediction(7, "", "", np.empty((0, 3)))
    with pytest.raises(UserError, match="query 7 has no saliency scores"):
        protocol([without], [truth(4, qid=7)])

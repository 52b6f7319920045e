from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.moments import (
    MomentParameters,
    SpanRule,
    duration_of,
    fit_moment_parameters,
    fit_spans,
    moment_metrics,
    moment_predictions,
    query_id,
)
from lavis.tasks.metrics.submission import QueryTruth
from lavis.tasks.predictions import Prediction
from tests.timing import cpu_seconds_at_most

TIMES = np.arange(75) * 2.0 + 1.0


def curve_of(qid, *windows, holes=()):
    """A query whose frames score 1 within its windows and -1 elsewhere, and in holes."""
    within = [any(start <= time <= end for start, end in windows) and time not in holes for time in TIMES]
    scores = np.where(within, 1.0, -1.0)
    truth = QueryTruth(qid, "", "", 150.0, np.array(windows, dtype=float), np.zeros((75, 3)))
    return (TIMES, scores), truth


def test_the_gap_that_the_windows_have_is_found():
    # Holes of two frames within a window, windows three frames apart.
    curves, truths = zip(
        curve_of(1, (10, 30), (36, 60), holes=(15, 17)),
        curve_of(2, (0, 20), holes=(5, 7)),
        curve_of(3, (40, 60)),
        strict=True,
    )
    fitted = fit_moment_parameters(curves, truths, thresholds=[0.0, 2.0], max_gap_frames=[0, 1, 2, 3])
    assert fitted == MomentParameters(0.0, 2, "mean", 100.0)


def test_the_threshold_between_low_and_high_scores_is_found_among_the_quantiles():
    curve, truth = curve_of(1, (10, 60))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 75)
    fitted = fit_moment_parameters([(TIMES, 10 + curve[1] + noise)], [truth], max_gap_frames=[0])
    assert fitted.mean_average_precision == 100.0


def test_without_threshold_each_query_is_cut_in_the_middle_of_its_own_scores():
    low, high = curve_of(1, (10, 60)), curve_of(2, (20, 40))
    curves = [low[0], (TIMES, high[0][1] + 100)]
    fitted = fit_moment_parameters(curves, [low[1], high[1]], max_gap_frames=[0])
    assert fitted == MomentParameters(None, 0, "mean", 100.0)


@pytest.mark.parametrize("num_truths", [0, 2])
def test_anything_but_one_curve_for_each_query_is_an_error(num_truths):
    curve, truth = curve_of(1, (10, 60))
    curves = [curve] if num_truths else []
    with pytest.raises(UserError, match=f"{len(curves)} score curves for {num_truths} queries"):
        fit_moment_parameters(curves, [truth] * num_truths)


TIMES_S = tuple(1.0 + 2 * step for step in range(10))
WINDOWS = (Span(4.0, 8.0),)
FOUND = tuple(5.0 if 4 <= time_s <= 8 else -5.0 for time_s in TIMES_S)
NOT_FOUND = tuple(5.0 if time_s > 14 else -5.0 for time_s in TIMES_S)


def query(
    number: int,
    scores: tuple[float, ...] | None,
    *,
    windows: tuple[Span, ...] | None = WINDOWS,
    saliency: dict[int, tuple[int, ...]] | None = None,
) -> tuple[Prediction, Annotation]:
    qid = f"QVHighlight_{number}"
    question = Question("a dog", id=qid, video=f"v{number}", windows=windows)
    said: dict[str, Any] = {"unreadable": "damaged"} if scores is None else {}
    if scores is not None:
        said = {"frame_times_s": TIMES_S, "frame_scores": scores}
    return Prediction(id=qid, video=f"v{number}", **said), Annotation(question, 20.0, None, saliency)


def measured(*pairs: tuple[Prediction, Annotation], spans: SpanRule | None = None) -> dict[str, Any]:
    predictions, rows = zip(*pairs, strict=True)
    return moment_metrics(predictions, rows, spans=spans or SpanRule(max_gap_frames=0))


def brief(metrics: dict[str, Any], protocol: str, name: str) -> float:
    return metrics["moments"][protocol]["brief"][name]


def test_frames_that_match_become_windows_with_scores_and_a_curve_of_clips() -> None:
    (row,) = moment_predictions(*[[one] for one in query(7, FOUND)], spans=SpanRule(max_gap_frames=0))
    assert (row.qid, row.query, row.vid) == (7, "a dog", "v7")
    assert row.windows.tolist() == [[4.0, 8.0, 5.0]]
    assert row.saliency is not None
    assert row.saliency.tolist() == list(FOUND)


def test_the_rule_of_the_configuration_is_used() -> None:
    scores = tuple(5.0 if time_s in (5.0, 9.0) else -5.0 for time_s in TIMES_S)
    prediction, annotation = query(1, scores)

    def windows(rule: SpanRule) -> list[list[float]]:
        return moment_predictions([prediction], [annotation], spans=rule)[0].windows.tolist()

    assert windows(SpanRule(max_gap_frames=0)) == [[4.0, 6.0, 5.0], [8.0, 10.0, 5.0]]
    assert windows(SpanRule(max_gap_frames=1, span_score="max")) == [[4.0, 10.0, 5.0]]
    assert windows(SpanRule(threshold=-9.0)) == [[0.0, 20.0, -3.0]]


def test_both_protocols_are_named() -> None:
    found = measured(query(1, FOUND), query(2, NOT_FOUND))
    for protocol in ("corrected", "published", "corrected_readable_only"):
        assert brief(found, protocol, "MR-full-R1@0.5") == 50
        assert brief(found, protocol, "MR-full-mAP") == 50


def test_an_unreadable_video_counts_as_not_found_and_the_published_evaluator_has_no_figure() -> None:
    found = measured(query(1, FOUND), query(2, None))
    assert found["unreadable"] == 1
    assert brief(found, "corrected", "MR-full-R1@0.7") == 50
    assert brief(found, "corrected_readable_only", "MR-full-R1@0.7") == 100
    assert found["moments"]["published"] is None


def test_queries_without_windows_are_submitted_and_not_measured() -> None:
    found = measured(query(1, FOUND, windows=None))
    assert (found["without_answer"], found["moments"]) == (1, None)
    found = measured(query(1, FOUND, windows=None), query(2, FOUND))
    assert (found["without_answer"], brief(found, "published", "MR-full-R1@0.5")) == (1, 100)


def test_highlights_are_measured_where_people_rated_them() -> None:
    assert not any(name.startswith("HL") for name in measured(query(1, FOUND))["moments"]["corrected"]["brief"])
    found = measured(query(1, FOUND, saliency={2: (4, 4, 4), 3: (2, 2, 2)}))
    assert brief(found, "corrected", "HL-min-Fair-mAP") == 100
    assert brief(found, "corrected", "HL-min-VeryGood-Hit1") == 50


def test_the_rule_is_fitted_on_val_alone() -> None:
    prediction, row = query(1, tuple(score + 7 for score in FOUND))
    fitted = fit_spans([prediction], [row], split="val")
    assert fitted.mean_average_precision == 100
    for split in ("test", "train"):
        with pytest.raises(UserError, match=f"fitted on the split val, never on '{split}'"):
            fit_spans([prediction], [row], split=split)


def test_fitting_needs_a_query_that_was_read() -> None:
    prediction, row = query(1, None)
    with pytest.raises(UserError, match="no query with annotated windows was read"):
        fit_spans([prediction], [row], split="val")


@pytest.mark.parametrize(
    ("qid", "official"), [("QVHighlight_2579", 2579), ("QVHighlight_train_3", 3), ("mine_7", "mine_7"), ("x", "x")]
)
def test_ids_are_the_official_ones_again(qid: str, official: int | str) -> None:
    assert query_id(Question("q", id=qid)) == official


@pytest.mark.parametrize(
    ("annotated", "times_s", "expected"),
    [(30.0, (1.0, 3.0), 30.0), (None, (1.0, 3.0), 4.0), (None, (2.5,), 2.5), (None, (), 1e-3)],
)
def test_a_video_lasts_as_annotated_or_as_its_frames_tell(
    annotated: float | None, times_s: tuple[float, ...], expected: float
) -> None:
    row = Annotation(Question("q"), annotated)
    assert duration_of(row, Prediction(id="q", video="v", frame_times_s=times_s)) == pytest.approx(expected)


def test_a_video_shorter_than_a_clip_has_one_saliency_score() -> None:
    prediction = Prediction(id="q", video="v", frame_times_s=(0.5, 1.0), frame_scores=(1.0, 2.0))
    (row,) = moment_predictions([prediction], [Annotation(Question("q", id="q"), 1.5)], spans=SpanRule())
    assert np.shape(row.saliency) == (1,)


def test_a_whole_validation_split_is_measured() -> None:
    times_s = tuple(1.0 + 2 * step for step in range(75))
    curves = np.random.default_rng(0).normal(size=(1550, 75))
    pairs = [
        (
            Prediction(id=f"QVHighlight_{n}", video="v", frame_times_s=times_s, frame_scores=tuple(curve.tolist())),
            Annotation(Question("q", id=f"QVHighlight_{n}", video="v", windows=WINDOWS), 150.0, None, {2: (4, 4, 4)}),
        )
        for n, curve in enumerate(curves)
    ]
    assert measured(*pairs)["questions"] == 1550


@pytest.mark.slow
def test_a_whole_validation_split_is_measured_in_seconds() -> None:
    with cpu_seconds_at_most(20):
        test_a_whole_validation_split_is_measured()


def search(qid, scores, *, windows=None, unreadable=None):
    times = tuple(float(time) for time in np.arange(len(scores)) * 2.0 + 1.0)
    row = Annotation(Question("a kite", id=qid, video="v", windows=windows), duration_s=2.0 * len(scores))
    if unreadable:
        return Prediction(id=qid, video="v", unreadable=unreadable), row
    return Prediction(id=qid, video="v", frame_times_s=times, frame_scores=tuple(scores)), row


def test_the_best_window_is_measured_for_every_split_with_windows():
    pairs = [
        search("CharadesSTA_test_0", [-1.0, 1, 1, 1, -1], windows=(Span(2, 8),)),
        search("CharadesSTA_test_1", [-1.0, -1, -1, -1, -1], windows=(Span(0, 2),), unreadable="gone"),
    ]
    metrics = moment_metrics(*zip(*pairs, strict=True), spans=SpanRule(max_gap_frames=0))
    assert metrics["localization"] == {"R1@0.3": 50.0, "R1@0.5": 50.0, "R1@0.7": 50.0, "mIoU": 50.0, "queries": 2}
    assert metrics["highlights"] is None


def test_queries_with_ratings_alone_are_measured_by_their_highlights():
    ratings = {clip: (1, 1) if clip < 6 else (5, 4) for clip in range(8)}
    pairs = [search("TVSum_a", [0.0, 1, 2, 3, 4, 5, 6, 7]), search("TVSum_b", [0.0] * 8, unreadable="gone")]
    found = [one for one, _ in pairs]
    rows = [
        replace(row, question=replace(row.question, kind=kind), saliency=ratings)
        for (_, row), kind in zip(pairs, ("VT", "BK"), strict=True)
    ]
    metrics = moment_metrics(found, rows, spans=SpanRule())
    assert metrics["highlights"] == {"mAP@5": 50.0, "BK": 0.0, "VT": 100.0, "videos": 2}
    assert (metrics["moments"], metrics["localization"], metrics["without_answer"]) == (None, None, 0)

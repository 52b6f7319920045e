import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.tasks.metrics.fit_moments import FrameCurve, MomentParameters, fit_moment_parameters
from lavis.tasks.metrics.submission import QueryTruth

TIMES = np.arange(75) * 2.0 + 1.0


def query(qid, *windows, holes=()):
    """A query whose frames score 1 within its windows and -1 elsewhere, and in holes."""
    within = [any(start <= time <= end for start, end in windows) and time not in holes for time in TIMES]
    scores = np.where(within, 1.0, -1.0)
    truth = QueryTruth(qid, "", "", 150.0, np.array(windows, dtype=float), np.zeros((75, 3)))
    return FrameCurve(TIMES, scores), truth


def test_the_gap_that_the_windows_have_is_found():
    # Holes of two frames within a window, windows three frames apart.
    curves, truths = zip(
        query(1, (10, 30), (36, 60), holes=(15, 17)), query(2, (0, 20), holes=(5, 7)), query(3, (40, 60)), strict=True
    )
    fitted = fit_moment_parameters(curves, truths, thresholds=[0.0, 2.0], max_gap_frames=[0, 1, 2, 3])
    assert fitted == MomentParameters(0.0, 2, "mean", 100.0)
    assert fitted.as_dict()["mean_average_precision"] == 100.0


def test_the_threshold_between_low_and_high_scores_is_found_among_the_quantiles():
    curve, truth = query(1, (10, 60))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 75)
    fitted = fit_moment_parameters([FrameCurve(TIMES, 10 + curve.scores + noise)], [truth], max_gap_frames=[0])
    assert fitted.mean_average_precision == 100.0


def test_without_threshold_each_query_is_cut_in_the_middle_of_its_own_scores():
    low, high = query(1, (10, 60)), query(2, (20, 40))
    curves = [low[0], FrameCurve(TIMES, high[0].scores + 100)]
    fitted = fit_moment_parameters(curves, [low[1], high[1]], max_gap_frames=[0])
    assert fitted == MomentParameters(None, 0, "mean", 100.0)


@pytest.mark.parametrize("num_truths", [0, 2])
def test_anything_but_one_curve_for_each_query_is_an_error(num_truths):
    curve, truth = query(1, (10, 60))
    curves = [curve] if num_truths else []
    with pytest.raises(UserError, match=f"{len(curves)} score curves for {num_truths} queries"):
        fit_moment_parameters(curves, [truth] * num_truths)

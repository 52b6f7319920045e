import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from lavis.common.errors import ConfigError, UserError
from lavis.tasks.metrics.accuracy import (
    NEXTQA_GROUPS,
    Outcome,
    PairedComparison,
    accuracy_report,
    compare_runs,
    interval,
    mcnemar_exact,
    resampled_totals,
)


def make(**right_by_kind):
    return [
        Outcome(f"{kind}_{index}", right, kind)
        for kind, answers in right_by_kind.items()
        for index, right in enumerate(answers)
    ]


def percents(estimates):
    return {name: estimate.percent for name, estimate in estimates.items()}


def test_overall_weighs_questions_and_mean_of_types_weighs_types():
    report = accuracy_report(make(Interaction=[1, 1, 1], Sequence=[0]))
    assert (report.overall.percent, report.mean_of_types.percent) == (75.0, 50.0)
    assert percents(report.by_type) == {"Interaction": 100.0, "Sequence": 0.0}


def test_nextqa_groups_weigh_questions():
    report = accuracy_report(
        make(TN=[1, 1], TC=[0], TP=[0], CW=[1], CH=[0], DC=[1], DL=[1], DO=[1, 0]), groups=NEXTQA_GROUPS
    )
    assert percents(report.by_group) == {"Cau": 50.0, "Des": 75.0, "Tem": 50.0}
    assert report.by_group["Tem"].questions == 4


def test_a_type_without_group_is_its_own_group():
    report = accuracy_report(make(TN=[1], XX=[0]), groups=NEXTQA_GROUPS)
    assert percents(report.by_group) == {"Tem": 100.0, "XX": 0.0}


def test_unreadable_questions_are_wrong_in_the_headline_and_left_out_of_the_second_number():
    outcomes = [Outcome("a", 1), Outcome("b", 0), Outcome("c", 0, readable=False), Outcome("d", 0, readable=False)]
    report = accuracy_report(outcomes)
    assert (report.overall.percent, report.overall.questions) == (25.0, 4)
    assert (report.readable_only.percent, report.readable_only.questions) == (50.0, 2)
    assert report.unreadable == 2


def test_nothing_readable_has_no_second_number():
    report = accuracy_report([Outcome("a", 0, "CW", readable=False)])
    assert report.readable_only is None
    assert report.overall.percent == 0.0


def test_questions_without_type_have_no_figures_by_type():
    report = accuracy_report([Outcome("a", 1), Outcome("b", 0)])
    assert (report.by_type, report.by_group, report.mean_of_types) == ({}, {}, None)


def test_the_interval_is_that_of_the_binomial_distribution():
    outcomes = [Outcome(str(index), index < 60) for index in range(100)]
    overall = accuracy_report(outcomes, resamples=200_000).overall
    assert (overall.percent, overall.low, overall.high) == (60.0, 50.0, 69.0)  # quantiles of Binomial(100, 0.6)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    outcomes = make(CW=[1, 0, 1] * 300, TN=[0, 1] * 300)
    assert accuracy_report(outcomes, seed=3) == accuracy_report(outcomes, seed=3)
    assert accuracy_report(outcomes, seed=3, resamples=50) != accuracy_report(outcomes, seed=4, resamples=50)


def test_resampling_videos_widens_the_interval_of_dependent_questions():
    outcomes = [Outcome(str(index), (index // 10) % 2) for index in range(1000)]
    videos = [f"video{index // 10}" for index in range(1000)]
    by_question, by_video = accuracy_report(outcomes).overall, accuracy_report(outcomes, clusters=videos).overall
    assert by_question.percent == by_video.percent == 50.0
    # Ten equal questions per video are worth one: the standard error grows by the square root of ten.
    ratio = (by_video.high - by_video.low) / (by_question.high - by_question.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)


def test_resampling_videos_of_one_question_each_is_resampling_questions():
    outcomes = make(CW=[1, 0, 1, 1], TN=[0, 1])
    assert accuracy_report(outcomes, clusters=list("abcdef")) == accuracy_report(outcomes)


def test_resampled_totals_have_the_moments_of_drawing_units_one_by_one():
    units = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 5.0], [4.0, 1.0]])
    totals = resampled_totals(units, resamples=100_000, seed=0)
    assert totals.shape == (100_000, 2)
    assert totals.mean(axis=0) == pytest.approx(units.sum(axis=0), rel=0.01)
    assert np.cov(totals.T) == pytest.approx(len(units) * np.cov(units.T, bias=True), rel=0.03)


def test_an_interval_leaves_out_samples_that_are_not_defined():
    assert interval(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)


def test_a_type_absent_from_resamples_leaves_the_mean_of_types_defined():
    report = accuracy_report([*make(CW=[1] * 30, TN=[0]), Outcome("untyped", 1)])
    assert (report.mean_of_types.percent, report.mean_of_types.low, report.mean_of_types.high) == (50.0, 50.0, 100.0)


def test_a_report_is_plain_json():
    written = json.loads(json.dumps(asdict(accuracy_report(make(CW=[1, 0]), groups=NEXTQA_GROUPS)), allow_nan=False))
    assert written == {
        "overall": {"percent": 50.0, "low": 0.0, "high": 100.0, "questions": 2},
        "readable_only": {"percent": 50.0, "low": 0.0, "high": 100.0, "questions": 2},
        "unreadable": 0,
        "by_type": {"CW": {"percent": 50.0, "low": 0.0, "high": 100.0, "questions": 2}},
        "by_group": {"Cau": {"percent": 50.0, "low": 0.0, "high": 100.0, "questions": 2}},
        "mean_of_types": {"percent": 50.0, "low": 0.0, "high": 100.0, "questions": 2},
    }


@pytest.mark.parametrize(
    ("outcomes", "clusters", "message"),
    [
        ([], None, "no question was evaluated"),
        ([Outcome("a", 1), Outcome("a", 0)], None, "question 'a' is counted twice"),
        ([Outcome("a", 1, readable=False)], None, "question 'a': correct is 1"),
        ([Outcome("a", float("nan"))], None, "question 'a': correct is nan"),
        ([Outcome("a", 1)], ["v", "w"], "2 videos for 1 questions"),
    ],
)
def test_outcomes_that_cannot_be_are_an_error(outcomes, clusters, message):
    with pytest.raises(UserError, match=message):
        accuracy_report(outcomes, clusters=clusters)


def test_no_resample_is_an_error():
    with pytest.raises(ConfigError, match="resamples is 0"):
        accuracy_report([Outcome("a", 1)], resamples=0)


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (1, 0, 1.0),
        (6, 0, 2 / 2**6),
        (3, 10, 2 * (1 + 13 + 78 + 286) / 2**13),
    ],
)
def test_mcnemar_is_the_two_sided_binomial_test(only_first, only_second, expected):
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-15)
    assert mcnemar_exact(only_second, only_first) == pytest.approx(expected, rel=1e-15)


def test_thousands_of_disagreements_do_not_underflow():
    # The normal approximation with continuity correction holds at this size.
    assert mcnemar_exact(2500, 2300) == pytest.approx(math.erfc(199 / math.sqrt(2 * 4800)), rel=0.01)


def test_runs_are_compared_question_by_question():
    first = {"a": True, "b": True, "c": False, "d": False, "e": True}
    second = {"e": False, "a": True, "b": False, "c": True, "d": False}
    comparison = compare_runs(first, second)
    assert comparison == PairedComparison(1, 2, 1, 1, 20.0, 1.0)
    assert comparison.as_dict() == {
        "both": 1,
        "only_first": 2,
        "only_second": 1,
        "neither": 1,
        "difference": 20.0,
        "p_value": 1.0,
        "questions": 5,
    }


def test_runs_over_different_questions_are_refused():
    with pytest.raises(UserError, match="2 questions are in one run only, such as 'b'"):
        compare_runs({"a": True, "b": True}, {"a": True, "c": True})


def test_common_questions_are_compared_on_request():
    comparison = compare_runs({"a": True, "b": True}, {"a": False, "c": True}, common_only=True)
    assert comparison == PairedComparison(0, 1, 0, 0, 100.0, 1.0)


def test_runs_without_common_question_are_refused_always():
    with pytest.raises(UserError, match="no question in common"):
        compare_runs({"a": True}, {"b": True}, common_only=True)

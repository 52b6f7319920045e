import math

import pytest

from lavis.common.errors import UserError
from lavis.tasks.metrics.paired import PairedComparison, compare_runs, mcnemar_exact


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

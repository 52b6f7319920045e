"""A benchmark of 5,000 questions must not make anyone wait."""

from collections.abc import Callable

import numpy as np
import pytest

from lavis.tasks.metrics.accuracy import NEXTQA_GROUPS, Outcome, accuracy_report
from lavis.tasks.metrics.moment_retrieval import published_report
from lavis.tasks.metrics.submission import QueryPrediction, QueryTruth
from tests.timing import cpu_seconds_at_most

QUESTIONS = 5000
# CPU seconds: several times what is needed, and a small part of what a loop over resamples would take.
PATIENCE_S = 15.0


def test_bootstrap_of_5000_questions_over_10000_resamples():
    random = np.random.default_rng(0)
    kinds = random.choice(list(NEXTQA_GROUPS), QUESTIONS)
    outcomes = [Outcome(f"q{index}", bool(random.random() < 0.7), str(kinds[index])) for index in range(QUESTIONS)]
    videos = [f"v{index // 9}" for index in range(QUESTIONS)]
    by_question = accuracy_report(outcomes, groups=NEXTQA_GROUPS, resamples=10_000).overall
    by_video = accuracy_report(outcomes, groups=NEXTQA_GROUPS, clusters=videos, resamples=10_000).overall
    assert by_question.percent == by_video.percent
    # Half of a 95 % interval is 1.96 standard errors.
    error = 100 * np.sqrt(0.7 * 0.3 / QUESTIONS)
    for estimate in (by_question, by_video):
        np.testing.assert_allclose((estimate.high - estimate.low) / 2, 1.96 * error, rtol=0.1)


def test_report_of_5000_queries():
    random = np.random.default_rng(0)
    predictions, truths = [], []
    for qid in range(QUESTIONS):
        starts = random.uniform(0, 100, 11)
        windows = np.stack([starts, starts + random.uniform(2, 50, 11), random.random(11)], axis=1)
        predictions.append(QueryPrediction(qid, "", "", windows[:10], random.random(75)))
        truths.append(QueryTruth(qid, "", "", 150.0, windows[10:, :2], random.integers(0, 5, (75, 3)).astype(float)))
    report = published_report(predictions, truths)
    assert 0 < report["brief"]["MR-full-mAP"] < 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "run",
    [test_bootstrap_of_5000_questions_over_10000_resamples, test_report_of_5000_queries],
    ids=["bootstrap", "report"],
)
def test_nobody_waits_long(run: Callable[[], None]) -> None:
    with cpu_seconds_at_most(PATIENCE_S):
        run()

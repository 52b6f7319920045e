"""The figures that the published code computes from its result lists, where its formula is right."""

import json
from pathlib import Path

import pytest

from lavis.common.types import Question
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.accuracy import Outcome, accuracy_report
from lavis.tasks.metrics.moments import SpanRule
from lavis.tasks.metrics.questions import question_metrics
from lavis.tasks.predictions import Prediction

GOLDEN = Path(__file__).parent / "golden" / "multiple_choice.jsonl"
REPORTS = {report["name"]: report for report in map(json.loads, GOLDEN.read_text(encoding="utf-8").splitlines())}


def outcomes(name):
    return [
        Outcome(qid, qid_prediction == target, qid.partition("_")[0]) for qid, qid_prediction, target in results(name)
    ]


def results(name):
    return REPORTS[name]["results"]


def by_type(report):
    return {kind: estimate.percent for kind, estimate in report.by_type.items()}


@pytest.mark.parametrize("name", ["nextqa", "how2qa", "tvqa", "vlep"])
def test_accuracy_by_type_and_overall(name):
    metrics = dict(REPORTS[name]["metrics"])
    overall, total = 100 * metrics.pop("agg_metrics"), metrics.pop("total")  # published as a fraction, here percent
    report = accuracy_report(outcomes(name))
    assert by_type(report) == pytest.approx(metrics, abs=1e-12)
    assert report.overall.percent == pytest.approx(overall, abs=1e-12)
    assert report.overall.questions == total


def test_star_is_published_as_the_mean_of_its_four_types():
    metrics = dict(REPORTS["star"]["metrics"])
    mean, total = metrics.pop("agg_metrics"), metrics.pop("total")
    report = accuracy_report(outcomes("star"))
    assert by_type(report) == pytest.approx(metrics, abs=1e-12)
    assert report.mean_of_types.percent == pytest.approx(mean, abs=1e-12)
    assert report.mean_of_types.questions == total == 40
    right = sum(prediction == target for _, prediction, target in results("star"))
    assert report.overall.percent == pytest.approx(100 * right / 40)


def test_a_type_without_a_right_answer_is_zero_where_the_published_code_fails():
    assert REPORTS["nextqa_a_type_with_no_correct_answer"]["metrics"] == {"error": "KeyError: 'DO'"}
    assert by_type(accuracy_report(outcomes("nextqa_a_type_with_no_correct_answer")))["DO"] == 0.0


def test_answers_by_frame_name_the_frame_mean_and_the_oracle():
    metrics = REPORTS["frameqa"]["metrics"]
    frames: dict[str, list[int]] = {}
    answers = {}
    for qid, prediction, target in results("frameqa"):
        frames.setdefault(qid, []).append(prediction)
        answers[qid] = target
    predictions = [
        Prediction(id=qid, video=qid, answer=answers[qid], choice=seen[0], frame_choices=tuple(seen))
        for qid, seen in frames.items()
    ]
    rows = [Annotation(Question("?", id=qid, kind=qid[0], answer=answers[qid])) for qid in frames]
    report = question_metrics(predictions, rows, spans=SpanRule(), resamples=10)["voting"]
    assert report["oracle"]["overall"]["percent"] == pytest.approx(100 * metrics["agg_metrics"])
    assert report["oracle"]["overall"]["questions"] == metrics["num"]
    assert report["frame_mean"]["overall"]["percent"] == pytest.approx(metrics["avg_acc"])
    by_letter = {letter: figures["percent"] for letter, figures in report["frame_mean"]["by_type"].items()}
    assert by_letter == pytest.approx({letter: metrics[letter] for letter in "CTD"})


def test_frame_judgements_of_moment_retrieval():
    metrics = REPORTS["mr"]["metrics"]
    report = accuracy_report([Outcome(qid, prediction == target) for qid, prediction, target in results("mr")])
    assert report.overall.percent == pytest.approx(100 * metrics["agg_metrics"])
    assert report.overall.questions == metrics["total"]

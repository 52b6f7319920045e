"""Every figure of the published QVHighlights evaluator on synthetic submissions of 50 queries."""

import json
from pathlib import Path

import pytest

from lavis.common.errors import UserError
from lavis.tasks.metrics.moment_retrieval import corrected_report, published_report, shared_queries
from lavis.tasks.metrics.submission import read_ground_truth, read_submission, write_submission

GOLDEN = Path(__file__).parent / "golden" / "qvhighlights"


@pytest.fixture(scope="module")
def truths():
    return read_ground_truth(GOLDEN / "synthetic_gt.jsonl")


@pytest.fixture(scope="module")
def submission():
    return read_submission(GOLDEN / "synthetic_submission.jsonl")


@pytest.fixture(scope="module")
def partial():
    return read_submission(GOLDEN / "synthetic_submission_partial.jsonl")


def figures(name):
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def test_windows_and_saliency(submission, truths):
    assert published_report(submission, truths) == figures("synthetic_metrics.json")


def test_windows_only(submission, truths, tmp_path):
    path = tmp_path / "windows.jsonl"
    rows = (GOLDEN / "synthetic_submission.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [{key: value for key, value in json.loads(row).items() if key != "pred_saliency_scores"} for row in rows]
    path.write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    assert published_report(read_submission(path), truths) == figures("synthetic_metrics_windows_only.json")


def test_queries_that_both_files_have(partial, truths):
    expected = figures("synthetic_metrics_partial_match_number_false.json")
    assert published_report(*shared_queries(partial, truths)) == expected


def test_other_queries_than_the_ground_truth_are_refused_as_published(partial, submission, truths):
    with pytest.raises(UserError, match="1 predicted queries have no ground truth, such as qid 999999"):
        published_report(partial, truths)
    with pytest.raises(UserError, match="1 queries have no prediction, such as qid 317; the published evaluator"):
        published_report(submission[1:], truths)


def test_the_corrected_protocol_counts_missing_predictions(partial, truths):
    predictions, shared = shared_queries(partial, truths)
    over_shared, over_all = (corrected_report(predictions, rows)["full"] for rows in (shared, truths))
    share = len(shared) / len(truths)
    assert over_all["MR-mAP"]["average"] == pytest.approx(over_shared["MR-mAP"]["average"] * share)
    assert over_all["MR-R1"]["0.5"] == pytest.approx(over_shared["MR-R1"]["0.5"] * share)


def test_both_protocols_name_the_same_figures(submission, truths):
    published, corrected = published_report(submission, truths), corrected_report(submission, truths)
    assert published.keys() == corrected.keys()
    assert published["brief"].keys() == corrected["brief"].keys()


def test_what_is_written_is_read_again(submission, truths, tmp_path):
    write_submission(tmp_path / "again.jsonl", submission)
    original = (GOLDEN / "synthetic_submission.jsonl").read_text(encoding="utf-8").splitlines()
    written = (tmp_path / "again.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row) for row in written] == [json.loads(row) for row in original]

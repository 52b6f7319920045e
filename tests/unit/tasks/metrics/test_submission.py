import json

import numpy as np
import pytest

from lavis.common.errors import AnnotationError
from lavis.common.types import Moment
from lavis.tasks.metrics.submission import (
    QueryPrediction,
    clip_saliency,
    read_ground_truth,
    read_submission,
    windows_of,
    write_submission,
)

PREDICTION = {
    "qid": 1,
    "query": "a dog",
    "vid": "v_0.0_150.0",
    "pred_relevant_windows": [[0, 10, 0.5]],
    "pred_saliency_scores": [0.1, -0.2],
}
TRUTH = {
    "qid": 1,
    "query": "a dog",
    "duration": 6,
    "vid": "v",
    "relevant_windows": [[2, 6]],
    "relevant_clip_ids": [1, 2],
    "saliency_scores": [[4, 3, 2], [0, 1, 1]],
}


def write(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def without(row, field):
    return {key: value for key, value in row.items() if key != field}


def test_a_submission_is_written_in_the_official_format(tmp_path):
    moments = [Moment(0.0, 2.0, -1.5), Moment(4.0, 8.0, 2.5)]
    prediction = QueryPrediction(7, "ein Hund läuft", "v_0.0_150.0", windows_of(moments), np.array([0.5, -1.0]))
    write_submission(tmp_path / "submission.jsonl", [prediction, prediction])
    line = (
        '{"qid": 7, "query": "ein Hund läuft", "vid": "v_0.0_150.0", '
        '"pred_relevant_windows": [[4.0, 8.0, 2.5], [0.0, 2.0, -1.5]], "pred_saliency_scores": [0.5, -1.0]}\n'
    )
    assert (tmp_path / "submission.jsonl").read_text(encoding="utf-8") == 2 * line


def test_no_moment_and_no_curve_are_written_and_read(tmp_path):
    write_submission(tmp_path / "submission.jsonl", [QueryPrediction("a", "", "", windows_of([]))])
    (prediction,) = read_submission(tmp_path / "submission.jsonl")
    assert (prediction.qid, prediction.windows.shape, prediction.saliency) == ("a", (0, 3), None)


def test_what_is_not_finite_is_not_written(tmp_path):
    prediction = QueryPrediction(7, "", "", np.array([[0.0, 1.0, np.nan]]))
    with pytest.raises(AnnotationError, match="query 7: a predicted window or score is not finite"):
        write_submission(tmp_path / "submission.jsonl", [prediction])
    assert list(tmp_path.iterdir()) == []


def test_a_curve_of_frames_is_read_in_the_middle_of_clips():
    saliency = clip_saliency(np.array([0.0, 4.0]), np.array([0.0, 4.0]), duration_s=7.0)
    assert saliency.tolist() == [1.0, 3.0, 4.0]


def test_ground_truth_rates_clips_that_are_not_relevant_zero(tmp_path):
    (truth,) = read_ground_truth(write(tmp_path / "gt.jsonl", TRUTH))
    assert truth.saliency.tolist() == [[0, 0, 0], [4, 3, 2], [0, 1, 1]]
    assert (truth.windows.tolist(), truth.duration_s, truth.query) == ([[2.0, 6.0]], 6.0, "a dog")


def test_empty_lines_are_skipped_and_counted(tmp_path):
    path = write(tmp_path / "s.jsonl", "\n", PREDICTION, "\n", PREDICTION)
    with pytest.raises(AnnotationError) as caught:
        read_submission(path)
    assert str(caught.value) == f"{path}, line 4, field 'qid': 1 occurs before; every query has one row"


def test_unusual_line_breaks_within_a_query_do_not_end_a_row(tmp_path):
    row = json.dumps(PREDICTION | {"query": "a\u2028dog\x85"}, ensure_ascii=False) + "\n"
    assert read_submission(write(tmp_path / "s.jsonl", row))[0].query == "a\u2028dog\x85"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            without(PREDICTION, "qid"),
            ":qid: is missing; every row of this kind needs it, this one has 'query', 'vid', 'pred_relevant_windows', "
            "'pred_saliency_scores'",
        ),
        (PREDICTION | {"qid": 1.5}, ":qid: 1.5 is not text; put it in quotes"),
        (PREDICTION | {"qid": True}, ":qid: True is not text; put it in quotes"),
        (
            without(PREDICTION, "pred_relevant_windows"),
            ":pred_relevant_windows: is missing; every row of this kind needs it, this one has 'qid', 'query', 'vid', "
            "'pred_saliency_scores'",
        ),
        (
            PREDICTION | {"pred_relevant_windows": [[0, 10]]},
            ":pred_relevant_windows: must be a list of [start, end, score]",
        ),
        (
            PREDICTION | {"pred_relevant_windows": [[0, 10, 1], [0]]},
            ":pred_relevant_windows: must be a list of [start, end, score]",
        ),
        (PREDICTION | {"pred_relevant_windows": "x"}, ":pred_relevant_windows: must be a list of [start, end, score]"),
        (
            PREDICTION | {"pred_relevant_windows": [[0, None, 1]]},
            ":pred_relevant_windows: holds a value that is not a finite number",
        ),
        (
            PREDICTION | {"pred_relevant_windows": [[9, 3, 1]]},
            ":pred_relevant_windows: window [9.0, 3.0] ends before it starts",
        ),
        (
            PREDICTION | {"pred_saliency_scores": [float("nan")]},
            ":pred_saliency_scores: holds a value that is not a finite number",
        ),
        (PREDICTION | {"pred_saliency_scores": []}, ":pred_saliency_scores: is empty; one score per clip"),
        (PREDICTION | {"pred_saliency_scores": 3}, ":pred_saliency_scores: must be a list of one score per clip"),
    ],
)
def test_a_bad_submission_row_is_named_by_file_line_and_field(tmp_path, row, problem):
    path = write(tmp_path / "s.jsonl", PREDICTION | {"qid": 0}, row)
    with pytest.raises(AnnotationError) as caught:
        read_submission(path)
    field, said = problem[1:].split(": ", 1)
    assert str(caught.value) == f"{path}, line 2, field {field!r}: {said}"


@pytest.mark.parametrize(
    ("written", "read"), [(7, 7), ("7", 7), (7.0, 7), ("7.0", 7), ("007", "007"), ("q7", "q7"), ("7.5", "7.5"), (0, 0)]
)
def test_ids_of_the_same_number_are_the_same_id(tmp_path, written, read):
    submission = write(tmp_path / "s.jsonl", PREDICTION | {"qid": written})
    truths = write(tmp_path / "gt.jsonl", TRUTH | {"qid": written})
    ids = [read_submission(submission)[0].qid, read_ground_truth(truths)[0].qid]
    assert [(value, type(value)) for value in ids] == [(read, type(read))] * 2


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([PREDICTION, PREDICTION | {"qid": 2}]).encode(),
        ("\ufeff" + json.dumps(PREDICTION) + "\r\n" + json.dumps(PREDICTION | {"qid": 2}) + "\r\n\r\n").encode(),
        (json.dumps(PREDICTION) + "\n" + json.dumps(PREDICTION | {"qid": 2})).encode("utf-16"),
    ],
    ids=["a list", "from windows", "utf-16"],
)
def test_a_submission_may_be_written_as_other_tools_do(tmp_path, content):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    assert [prediction.qid for prediction in read_submission(path)] == [1, 2]


def charades(**change):
    """A row of Charades-STA in the common layout: times with decimals, no clips and no ratings."""
    return {
        "qid": 3,
        "query": "a person sits",
        "vid": "AO8RW",
        "duration": 30.96,
        "relevant_windows": [[24.3, 30.4]],
    } | change


def test_ground_truth_without_clips_has_windows_only(tmp_path, caplog):
    (truth,) = read_ground_truth(write(tmp_path / "gt.jsonl", charades()))
    assert (truth.windows.tolist(), truth.duration_s, truth.saliency) == ([[24.3, 30.4]], 30.96, None)
    assert caplog.records == []


def test_without_ratings_a_length_is_not_needed(tmp_path):
    (truth,) = read_ground_truth(write(tmp_path / "gt.jsonl", without(charades(), "duration")))
    assert (truth.windows.tolist(), truth.duration_s) == ([[24.3, 30.4]], 30.4)


def test_windows_that_go_on_after_the_video_are_cut_at_its_end_and_counted_once(tmp_path, caplog):
    rows = [charades(), charades(qid=4, relevant_windows=[[1.5, 31.7], [3, 31]]), charades(qid=5, duration=30)]
    path = write(tmp_path / "gt.jsonl", *rows)
    windows = [truth.windows.tolist() for truth in read_ground_truth(path)]
    assert windows == [[[24.3, 30.4]], [[1.5, 30.96], [3, 30.96]], [[24.3, 30]]]
    assert caplog.messages == [f"{path}: 2 of 3 queries have a window that ends after the video: cut there"]


def test_a_window_after_the_video_is_named(tmp_path):
    path = write(tmp_path / "gt.jsonl", charades(duration=20))
    with pytest.raises(AnnotationError) as caught:
        read_ground_truth(path)
    assert (
        str(caught.value)
        == f"{path}, line 1, field 'relevant_windows': window [24.3, 30.4] lies after the video's end at 20 s"
    )


def test_ratings_of_some_queries_only_are_named(tmp_path):
    path = write(tmp_path / "gt.jsonl", TRUTH, charades())
    with pytest.raises(AnnotationError) as caught:
        read_ground_truth(path)
    assert str(caught.value) == f"{path}, line 2, field 'saliency_scores': is missing while other rows have it"


def test_the_shorter_clip_at_the_end_of_a_video_may_be_rated(tmp_path):
    (truth,) = read_ground_truth(write(tmp_path / "gt.jsonl", TRUTH | {"duration": 4.6}))
    assert truth.saliency.tolist() == [[0, 0, 0], [4, 3, 2], [0, 1, 1]]


def test_a_curve_for_some_queries_only_is_named(tmp_path):
    path = write(tmp_path / "s.jsonl", PREDICTION, "\n", without(PREDICTION, "pred_saliency_scores") | {"qid": 2})
    with pytest.raises(AnnotationError) as caught:
        read_submission(path)
    assert str(caught.value) == f"{path}, line 3, field 'pred_saliency_scores': is missing while other rows have it"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"duration": 0}, "duration: is 0; it must be a positive number of seconds"),
        ({"duration": "long"}, "duration: 'long' is not a finite number; write it as one"),
        ({"relevant_windows": []}, "relevant_windows: is empty; a query needs one to be scored"),
        ({"relevant_windows": [[2, 6, 1]]}, "relevant_windows: must be a list of [start, end]"),
        ({"relevant_clip_ids": [1]}, "saliency_scores: 2 ratings for 1 relevant_clip_ids"),
        ({"relevant_clip_ids": [1, 3]}, "relevant_clip_ids: clips of 6 s are numbered 0 to 2"),
        ({"saliency_scores": [[4, 3, 2], [0, 1, 5]]}, "saliency_scores: ratings are 0 to 4"),
        ({"saliency_scores": [[4, 3], [0, 1]]}, "saliency_scores: must be a list of three ratings"),
    ],
)
def test_a_bad_ground_truth_row_is_named_by_file_line_and_field(tmp_path, change, problem):
    path = write(tmp_path / "gt.jsonl", TRUTH | change)
    with pytest.raises(AnnotationError) as caught:
        read_ground_truth(path)
    field, said = problem.split(": ", 1)
    assert str(caught.value) == f"{path}, line 1, field {field!r}: {said}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b"\n", "{path} has no rows"),
        (b"\xff\xff", "{path} is not UTF-8 text"),
        (b"\n{oops\n", "{path}, line 2 is not valid JSON: Expecting property name enclosed in double quotes"),
        (b"\n3\n", r"{path}, line 2 is 3, not an object with named fields"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, problem):
    path = tmp_path / "s.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnnotationError, match=problem.format(path=path)):
        read_submission(path)

"""`sevila evaluate moments` on files of any system."""

import json
from pathlib import Path

import pytest

from lavis.cli.main import main

GOLDEN = Path(__file__).parents[1] / "parity" / "metrics" / "golden" / "qvhighlights"
PARTIAL, TRUTHS = GOLDEN / "synthetic_submission_partial.jsonl", GOLDEN / "synthetic_gt.jsonl"
CHARADES = [
    {"qid": 0, "query": "a person sits", "vid": "AO8RW", "duration": 30.96, "relevant_windows": [[0.0, 6.9]]},
    {"qid": 1, "query": "a person eats", "vid": "Y6R7T", "duration": 20.8, "relevant_windows": [[12.3, 21.9]]},
]


def score(submission: Path, truths: Path, *options: str, out: Path | None = None) -> int:
    saved = ["--out", str(out)] if out else []
    return main(["evaluate", "moments", "--submission", str(submission), "--gt", str(truths), *options, *saved])


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def predicted(qid: object, *windows: list[float]) -> dict:
    return {"qid": qid, "pred_relevant_windows": list(windows), "pred_saliency_scores": [0.5, 0.25]}


def test_a_part_of_the_queries_is_scored_as_the_published_evaluator_does_where_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    assert score(PARTIAL, TRUTHS, "--published", "--partial", out=out) == 0
    figures = json.loads(out.read_text())
    expected = json.loads((GOLDEN / "synthetic_metrics_partial_match_number_false.json").read_text())
    ids = [{json.loads(row)["qid"] for row in file.read_text().splitlines()} for file in (PARTIAL, TRUTHS)]
    counts = {
        "scored": len(ids[0] & ids[1]),
        "without_prediction": len(ids[1] - ids[0]),
        "without_ground_truth": len(ids[0] - ids[1]),
    }
    assert figures == {"protocol": "published", "queries": counts, **expected}
    assert capsys.readouterr().out.splitlines()[1] == (
        f"queries: {counts['scored']} scored, {counts['without_prediction']} without prediction (left out), "
        f"{counts['without_ground_truth']} without ground truth (left out)"
    )


@pytest.mark.parametrize("protocol", [[], ["--published"]])
def test_other_queries_are_refused_by_default_with_the_way_out(
    protocol: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(PARTIAL, TRUTHS, *protocol) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 predicted queries have no ground truth, such as qid 999999" in line
    assert line.endswith("or score the queries that both have (--partial)")


def test_the_corrected_protocol_says_how_many_queries_count_as_not_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truths, half = lines(tmp_path / "gt.jsonl", CHARADES), [predicted(0, [0.0, 6.9, 1.0])]
    submission = lines(tmp_path / "s.jsonl", half)
    assert score(submission, truths) == 0
    printed = capsys.readouterr().out
    assert "queries: 2 scored, 1 without prediction (counted as not found; --partial leaves them out), 0 w" in printed
    assert "MR-full-R1@0.7 50.00" in printed
    assert score(submission, truths, "--partial") == 0
    assert "MR-full-R1@0.7 100.00" in capsys.readouterr().out
    assert score(submission, truths, "--published") == 2
    assert "1 queries have no prediction" in (told := capsys.readouterr().err)
    assert "--partial" in told


def test_no_query_in_common_is_a_mistake_either_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = lines(tmp_path / "s.jsonl", [predicted("other", [0, 1, 1])]), lines(tmp_path / "gt.jsonl", CHARADES)
    assert score(*files, "--partial") == 2
    assert "no predicted query has ground truth" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", [[], ["--published"]])
def test_ground_truth_of_charades_sta_gives_moments_but_no_highlights(
    protocol: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    truths = lines(tmp_path / "gt.jsonl", CHARADES)
    # The window of the second query is cut at 20.8 s: 8.5 of 8.5 s are found, where 8.5 of 9.6 s would be without.
    submission = lines(tmp_path / "s.jsonl", [predicted("0", [0.0, 6.9, 1.0]), predicted(1.0, [12.3, 20.8, 1.0])])
    assert score(submission, truths, *protocol, out=tmp_path / "out.json") == 0
    printed = capsys.readouterr().out
    assert "highlights are not scored: the ground truth rates no clips" in printed
    assert "MR-full-mAP 100.00" in printed
    assert "HL-" not in printed
    assert "1 of 2 queries have a window that ends after the video: cut there" in caplog.text
    assert json.loads((tmp_path / "out.json").read_text())["full"]["MR-R1"]["0.95"] == 100

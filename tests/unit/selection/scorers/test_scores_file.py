"""Files of scores in each layout: what is read of them, and what is said of those that cannot be read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.types import Floats, Question
from lavis.models.chain import Selector, check_selector
from lavis.models.frames import FrameSource
from lavis.runners.evaluation.results import described
from lavis.selection.policies.plain import TopK
from lavis.selection.scorers.scores_file import ScoresFile

OURS = {"question_id": "q1", "times_s": [0, 1, 2, 3], "scores": [0.5, 0.1, 0.9, 0.4]}


def frames(*times_s: float, fps: float = 25) -> FrameSource:
    times = np.array(times_s)
    return FrameSource((times * fps).astype(np.int64), times)


def written(path: Path, content: Any) -> Path:
    lines = isinstance(content, list) and path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, content)) if lines else json.dumps(content))
    return path


def scores(path: Path, question: Question, source: FrameSource, **settings: Any) -> list[float]:
    found: Floats = ScoresFile(path=str(path), **settings).score(source, [question]).scores[0]
    return found.tolist()


def test_a_frame_gets_the_score_of_the_nearest_time(tmp_path: Path) -> None:
    file = written(tmp_path / "scores.jsonl", [OURS, {**OURS, "question_id": "q2", "scores": [4, 3, 2, 1]}])
    assert scores(file, Question("", id="q1"), frames(0, 0.4, 0.5, 1.8, 3.9)) == [0.5, 0.5, 0.1, 0.9, 0.4]
    assert scores(file, Question("", id="q2"), frames(0, 3)) == [4, 1]


def test_indices_are_those_of_the_source_video_in_any_order_and_null_was_not_scored(tmp_path: Path) -> None:
    row = {"question_id": "q1", "frame_idx": [50, 0, 25], "scores": [0.5, None, 0.1]}
    found = scores(written(tmp_path / "scores.json", [row]), Question("", id="q1"), frames(0, 1, 2))
    np.testing.assert_array_equal(found, [np.nan, 0.1, 0.5])


def test_what_was_scored_is_read_beside_chosen_frames(tmp_path: Path) -> None:
    row = {
        "schema": "sevila.frames/1",
        **{"question_id": "q1", "frame_idx": [25], "times_s": [1.0], "scores": [0.9]},
        "candidates": {"frame_idx": [0, 25, 50], "scores": [0.1, 0.9, 0.2]},
    }
    file = written(tmp_path / "frames.jsonl", [row])
    assert scores(file, Question("", id="q1"), frames(0, 1, 2)) == [0.1, 0.9, 0.2]


def test_where_only_some_frames_are_asked_about_the_others_have_no_score(tmp_path: Path) -> None:
    scorer = ScoresFile(path=str(written(tmp_path / "scores.jsonl", [OURS])))
    where = np.array([[True, False, True]])
    found = scorer.score(frames(0, 1, 2), [Question("", id="q1")], where=where)
    np.testing.assert_array_equal(found.scores, [[0.5, np.nan, 0.9]])


AKS_SCORES, AKS_FRAMES = [[0.1, 0.7, 0.3], [0.9, 0.2, 0.4]], [[0, 30, 60]] * 2
AKS_ROWS = [{"question_id": "601-1", "question": "Who?"}, {"id": 7, "question": "What?"}]


def aks_folder(folder: Path, rows: Any = AKS_ROWS, indices: Any = AKS_FRAMES) -> Path:
    folder.mkdir(exist_ok=True)
    written(folder / "scores.json", AKS_SCORES)
    written(folder / "frames.json", indices)
    return written(folder / "label.json", rows)


def test_aks_rows_belong_to_the_rows_of_the_annotation(tmp_path: Path) -> None:
    label = aks_folder(tmp_path / "blip")
    for question, expected in ((Question("", id="601-1"), [0.1, 0.7, 0.3]), (Question("", id="7"), [0.9, 0.2, 0.4])):
        for path in (tmp_path / "blip", tmp_path / "blip/scores.json"):
            assert scores(path, question, frames(0, 1, 2, fps=30), questions=str(label)) == expected


def test_lighthouse_scores_clips_of_two_seconds(tmp_path: Path) -> None:
    row = {"qid": 9, "query": "a man", "vid": "abc_60.0_210.0", "pred_relevant_windows": [[0, 2, 0.9]]}
    file = written(tmp_path / "hl_val.jsonl", [{**row, "pred_saliency_scores": [-0.5, 0.25, 1.5]}])
    by_id, by_text = Question("", id="9"), Question("a man", id="QVHighlight_9", video="videos/abc_60.0_210.0.mp4")
    for question in (by_id, by_text):
        assert scores(file, question, frames(0, 1.9, 2, 3.9, 4, 5.9)) == [-0.5, -0.5, 0.25, 0.25, 1.5, 1.5]
    assert scores(file, by_id, frames(0, 1, 2), clip_s=1.0) == [-0.5, 0.25, 1.5]


def test_bolts_chosen_seconds_score_one(tmp_path: Path) -> None:
    rows = [{"question_id": "1", "question": "Who?", "frames": [1.0, 1.0, 3.2]}]
    file = written(tmp_path / "bolt.json", {"v1": rows, "v2": [{**rows[0], "frames": [0.0]}]})
    asked = Question("Who?", ("a", "b"), id="TN_v1_1", video="v1.mp4")
    assert scores(file, asked, frames(0, 1, 2, 3, 4)) == [0, 1, 0, 1, 0]
    with pytest.raises(QuestionError, match="has several rows that question '1' may mean; give its id there"):
        scores(file, Question("Who?", id="1"), frames(0, 1))


def test_a_text_alone_tells_a_question_only_where_neither_side_knows_more(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", [{**OURS, "question": "Who?", "video": "one"}])
    assert scores(file, Question("Who?"), frames(0, 1)) == [0.5, 0.1]
    for other in (Question("Who?", id="q7"), Question("Who?", video="two.mp4")):
        with pytest.raises(QuestionError, match=r"has no scores of question .*; it has 1, such as 'q1'"):
            scores(file, other, frames(0, 1))
    plain = {key: value for key, value in OURS.items() if key != "question_id"}
    bare = written(tmp_path / "b.jsonl", [{**plain, "question": "Who?"}])
    assert scores(bare, Question("Who?", id="q7", video="two.mp4"), frames(0, 1)) == [0.5, 0.1]


def test_scores_of_a_shorter_video_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "scores.jsonl", [OURS])
    assert scores(file, Question("", id="q1"), frames(0, 4))[1] == 0.4  # a step beyond its last time
    with pytest.raises(QuestionError, match="is about another video than question 'q1': frames reach from 0 to"):
        scores(file, Question("", id="q1"), frames(0, 4.1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is empty; give one with a row for each question"),
        ([{**OURS, "scores": [1, 2]}], r"row 1 \(question 'q1'\): it has 2 scores of 4 frames"),
        ([OURS, {**OURS, "scores": "high"}], r"row 2 \(question 'q1'\): its scores are no list of finite numbers"),
        ([{**OURS, "scores": [1, 2, 3, float("nan")]}], "its scores are no list of finite numbers"),
        ([{**OURS, "times_s": [0, 1, 1, 2]}], "it scores a frame twice"),
        ([{"question_id": "q1", "scores": [1]}], "it has neither times_s nor frame_idx"),
        ([{"scores": [1], "times_s": [0]}], "row 1: it names no question; give question_id"),
        ([OURS, OURS], r"row 2 \(question 'q1'\): it is there twice; keep one row"),
        ([OURS, 3], "row 2 is int; give a mapping with question_id, scores and times_s"),
        ({"v1": [{"question_id": "1", "frames": []}]}, r"video 'v1' \(question '1'\): its frames are no list"),
        ({"v1": [3]}, "video 'v1' has no list of question_id and frames"),
        (AKS_SCORES, "does not say whose its 2 rows are; give the annotation file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_row_and_question(tmp_path: Path, content: Any, message: str) -> None:
    file = written(tmp_path / "scores.json", content)
    with pytest.raises(ConfigError, match=message) as caught:
        ScoresFile(path=str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_were_not_made_together_are_refused(tmp_path: Path) -> None:
    label = aks_folder(tmp_path / "a", rows=AKS_ROWS[:1])
    with pytest.raises(ConfigError, match=r"has 2 rows and .*label\.json 1; give those that were made together"):
        ScoresFile(path=str(tmp_path / "a"), questions=str(label))
    label = aks_folder(tmp_path / "b", indices=[[0, 30], [0, 30, 60]])
    with pytest.raises(ConfigError, match=r"row 1 \(question '601-1'\): it has 3 scores of 2 frames"):
        ScoresFile(path=str(tmp_path / "b"), questions=str(label))


def test_a_line_that_is_no_json_and_a_file_that_is_not_there_are_named(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text(json.dumps(OURS) + "\n{broken\n")
    with pytest.raises(ConfigError, match="cannot be read: line 2 is no JSON"):
        ScoresFile(path=str(file))
    with pytest.raises(ConfigError, match=r"cannot be read: there is no file .*gone\.jsonl"):
        check_selector({"scorer": {"name": "scores_file", "path": str(tmp_path / "gone.jsonl")}})


def test_what_is_in_the_file_is_among_the_facts_of_a_selector(tmp_path: Path) -> None:
    facts = []
    for value in (1, 1, 2):
        file = written(tmp_path / "scores.jsonl", [{**OURS, "scores": [value] * 4}])
        facts.append(described(Selector(TopK(), ScoresFile(path=str(file)))))
    assert facts[0] == facts[1] != facts[2]

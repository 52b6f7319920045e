"""Files of chosen frames: what is read, what is refused, and how a question is found."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lavis.common.errors import ConfigError, QuestionError, VideoError
from lavis.selection.frames_file import (
    CandidateFrames,
    ChosenFrames,
    SelectionCost,
    iterate_frames,
    read_frames,
    to_line,
    write_frames,
)

ROW = {
    **{"schema": "sevila.frames/1", "task": "videomme", "split": "test", "doc_id": 0, "question_id": "001-1"},
    **{"video": "a.mp4", "fps": 29.97, "num_frames": 2171, "frame_idx": [29, 58], "times_s": [0.97, 1.94]},
    **{"scores": [0.8, None], "method": "aks", "candidates": {"frame_idx": [0, 29, 58], "scores": [0.1, 0.8, None]}},
}
CHOSEN = ChosenFrames(
    **{"task": "videomme", "split": "test", "doc_id": 0, "question_id": "001-1", "video": "a.mp4", "fps": 29.97},
    **{"num_frames": 2171, "frame_idx": (29, 58), "times_s": (0.97, 1.94), "scores": (0.8, None), "method": "aks"},
    candidates=CandidateFrames(frame_idx=(0, 29, 58), scores=(0.1, 0.8, None)),
)


def written(folder: Path, *rows: Any) -> Path:
    file = folder / "frames.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def test_a_row_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    file = written(tmp_path, ROW)
    assert read_frames(file).rows == (CHOSEN,)
    assert json.loads(to_line(CHOSEN)) == ROW
    cost = SelectionCost(questions=3, frames_decoded=8, frames_scored=4, scorer_calls=2, seconds=0.25)
    more = replace(CHOSEN, question_id="2", doc_id=1, cost=cost, sizes=(0.5, 1.0), question="Où ?")
    lost = ChosenFrames(question_id="3", unreadable="no such video")
    assert write_frames(tmp_path / "again.jsonl", [CHOSEN, more, lost]) == 3
    assert read_frames(tmp_path / "again.jsonl").rows == (CHOSEN, more, lost)
    assert [number for number, _ in iterate_frames(tmp_path / "again.jsonl")] == [1, 2, 3]


def test_one_of_indices_and_seconds_is_enough(tmp_path: Path) -> None:
    rows = [{"schema": "sevila.frames/1", "question_id": "q", "frame_idx": [3, 3, 7]}]
    rows += [{"schema": "sevila.frames/1", "doc_id": 4, "times_s": [0, 1.5]}]
    found = read_frames(written(tmp_path, *rows))
    assert [(one.frame_idx, one.times_s, len(one)) for one in found.rows] == [((3, 3, 7), None, 3), (None, (0, 1.5), 2)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "sevila.frames/2"}, "this version reads 'sevila.frames/1'; update it"),
        ({"schema": "coco"}, "unknown schema 'coco'; known: sevila.frames/1"),
        ({"schema": None}, "it has no schema; give rows of 'sevila.frames/1'"),
        ({"frame_ids": [1]}, "unknown key 'frame_ids'; did you mean 'frame_idx'?"),
        ({"frame_idx": [-1, 2]}, "frame_idx has -1, which is no index below 2171"),
        ({"frame_idx": [1, 2171]}, "frame_idx has 2171, which is no index below 2171"),
        ({"frame_idx": [1, 10**400]}, "frame_idx has 10000000000000000000, which is no index"),
        ({"frame_idx": [58, 29]}, "frame_idx is not in time order"),
        ({"frame_idx": [1.0, 2.0]}, "frame_idx: int is needed, not 1.0"),
        ({"frame_idx": [True, False]}, "frame_idx: int is needed, not True"),
        ({"frame_idx": [1]}, "it has 1 frame_idx and 2 times_s"),
        ({"times_s": [0.5, float("nan")]}, "times_s has nan"),
        ({"times_s": [0.5, 10**400]}, "times_s has inf"),
        ({"times_s": [-0.1, 1]}, "times_s has -0.1"),
        ({"times_s": [2, 1]}, "times_s is not in time order"),
        ({"scores": [1]}, "it has 1 scores of 2 frames"),
        ({"scores": [1, float("inf")]}, "scores has what is no finite number"),
        ({"sizes": [1, 0]}, "sizes are no numbers above 0"),
        ({"fps": 0}, "fps is 0.0; it must be above 0"),
        ({"doc_id": -1}, "doc_id is -1; it must be 0 or more"),
        ({"question_id": 7}, "question_id: str is needed, not 7"),
        ({"question_id": None, "doc_id": None}, "it names no question"),
        ({"frame_idx": [], "times_s": []}, "it has no frames"),
        ({"unreadable": "no video"}, "it has frames, and its video could not be read"),
        ({"candidates": {}}, "candidates: neither frame_idx nor times_s is there"),
        ({"candidates": {"frame_idx": [0, 1], "scores": [1]}}, "candidates: it has 1 scores of 2 frames"),
    ],
)
def test_what_no_row_holds_is_refused_with_file_and_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    file = written(tmp_path, {**ROW, "question_id": "first", "doc_id": 9}, "", {**ROW, **change})
    with pytest.raises(ConfigError) as error:
        read_frames(file)
    assert str(error.value).startswith(f"{file}:3: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (json.dumps(ROW)[:80], ":1: the line is no JSON"),
        ("[" * 100_000, ":1: the line is no JSON: it is nested too deeply"),
        ("[1, 2]", ":1: a mapping is needed, not [1, 2]"),
        ('{"question_id": "q", "index": [1]}', ":1: it has no schema; give rows"),
        ("", " holds no rows"),
    ],
)
def test_what_is_no_row_at_all_is_refused(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_frames(written(tmp_path, line))
    assert f"frames.jsonl{says}" in str(error.value)


def test_a_last_line_that_is_cut_off_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "frames.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW)[:50])
    with pytest.raises(ConfigError, match=r"frames.jsonl:2: the line is no JSON: it is the last one, and may be cut"):
        read_frames(file)
    file.write_bytes(b"\xff\n")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        read_frames(file)
    with pytest.raises(ConfigError, match="there is no file"):
        read_frames(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"doc_id": 1}, "question '001-1' of 'videomme': this question is in line 1 too"),
        ({"question_id": "x"}, "question 'x' of 'videomme': this doc_id 0 is in line 1 too"),
    ],
)
def test_a_question_has_one_row(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"frames.jsonl:2: {says}"):
        read_frames(written(tmp_path, ROW, {**ROW, **change}))


def found_video(path: Path, **question: Any) -> str | None:
    return read_frames(path).find(**question).video


def test_a_question_is_found_by_its_id_and_by_its_place_only_without(tmp_path: Path) -> None:
    rows = [
        {**ROW, "video": "1"},
        {**ROW, "task": "mlvu", "doc_id": 7, "video": "2"},
        {**ROW, "task": None, "question_id": "5", "doc_id": 8, "video": "3"},
        {**ROW, "question_id": None, "doc_id": 9, "video": "4"},
        {**ROW, "question_id": None, "split": "val", "doc_id": 9, "video": "5"},
    ]
    file = written(tmp_path, *rows)
    assert found_video(file, task="videomme", question_id="001-1") == "1"
    assert found_video(file, task="mlvu", question_id="001-1") == "2"
    assert found_video(file, task="anything", question_id=5) == "3"
    assert found_video(file, task="videomme", doc_id=0) == "1"
    assert found_video(file, task="videomme", question_id="unknown", doc_id=9, split="test") == "4"
    assert found_video(file, doc_id=9, split="val") == "5"
    for question, says in (
        ({"question_id": "001-1"}, "has 2 rows that question '001-1' may mean"),
        ({"doc_id": 9}, "has 2 rows that doc_id 9 may mean"),
        ({"task": "star", "question_id": "001-1"}, "it has this question for the task 'mlvu', 'videomme'"),
        ({"question_id": "002-1"}, "has no frames for question '002-1'; it has 5 rows, such as question '001-1'"),
        # Its place is that of another question, so the file was made of another split or order.
        ({"task": "videomme", "question_id": "002-1", "doc_id": 0}, "has no frames for question '002-1' of 'videomme'"),
        ({}, "has no frames for"),
    ):
        with pytest.raises(QuestionError) as error:
            read_frames(file).find(**question)
        assert says in str(error.value)


def test_a_question_whose_video_could_not_be_read_has_no_frames(tmp_path: Path) -> None:
    file = written(tmp_path, {"schema": "sevila.frames/1", "question_id": "q", "unreadable": "no video a.mp4"})
    with pytest.raises(VideoError, match="has no frames for question 'q': no video a"):
        read_frames(file).find(question_id="q")


def test_what_is_no_row_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the frames of question 'q' cannot be written: .*times_s has nan"):
        write_frames(tmp_path / "frames.jsonl", [CHOSEN, ChosenFrames(question_id="q", times_s=(float("nan"),))])
    assert list(tmp_path.iterdir()) == []


def test_frames_are_read_without_torch() -> None:
    code = "import sys, lavis.selection.frames_file; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

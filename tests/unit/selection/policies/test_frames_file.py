"""Frames of a file among those that are watched: which are read, and what is said of those that are not."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError, QuestionError, VideoError
from lavis.common.types import Question
from lavis.models.base import Selection
from lavis.models.chain import Selector, check_selector
from lavis.models.frames import FrameSource
from lavis.runners.evaluation.results import described
from lavis.selection.policies.frames_file import FromFile

ROW = {"schema": "sevila.frames/1", "question_id": "q"}
QUESTION = Question("", id="q")


def written(folder: Path, *rows: Any) -> Path:
    file = folder / "frames.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def chosen(file: Path, *times_s: float, k: int = 1, question: Question = QUESTION, **args: Any) -> Selection:
    times = np.array(times_s)
    frames = FrameSource((times * 10).astype(np.int64), times)
    (found,) = Selector(FromFile(path=str(file), **args)).select(frames, [question], k=k)
    return found


def test_the_frames_of_the_file_are_read_however_many_are_asked_for(tmp_path: Path) -> None:
    file = written(tmp_path, {**ROW, "times_s": [0.9, 2.1, 4], "scores": [0.5, None, 0.25], "sizes": [1, 0.5, 1]})
    found = chosen(file, 0, 1, 2, 3, 4)
    assert found.positions.tolist() == [1, 2, 4]
    np.testing.assert_array_equal(found.scores, [np.nan, 0.5, np.nan, np.nan, 0.25])
    assert found.sizes.tolist() == [1, 0.5, 1]
    assert found.unread.notes == ()
    assert found.cost is not None
    assert (found.cost.scorer_calls, found.cost.frames_decoded) == (0, 0)


def test_seconds_decide_and_indices_where_there_are_none(tmp_path: Path) -> None:
    both = written(tmp_path, {**ROW, "times_s": [3], "frame_idx": [0]})
    assert chosen(both, 0, 1, 2, 3).positions.tolist() == [3]
    indices = written(tmp_path, {**ROW, "frame_idx": [11, 20]})
    assert chosen(indices, 0, 1, 2, 3).positions.tolist() == [1, 2]


def test_the_best_are_read_where_a_row_has_more_than_asked_for(tmp_path: Path) -> None:
    file = written(tmp_path, {**ROW, "times_s": [0, 1, 2, 3], "scores": [0.5, None, 0.9, 0.7], "sizes": [1, 1, 0.5, 1]})
    found = chosen(file, 0, 1, 2, 3, k=2, best=True)
    assert (found.positions.tolist(), found.sizes.tolist()) == ([2, 3], [0.5, 1])
    assert chosen(file, 0, 1, 2, 3, k=3, best=True).positions.tolist() == [0, 2, 3]
    assert chosen(file, 0, 1, 2, 3, k=9, best=True).positions.tolist() == [0, 1, 2, 3]
    with pytest.raises(QuestionError, match=r"has no scores of question 'q' to choose 1 of its 2 frames by"):
        chosen(written(tmp_path, {**ROW, "times_s": [0, 1]}), 0, 1, best=True)


def test_a_frame_that_is_there_twice_is_read_twice_and_two_frames_in_one_place_once(tmp_path: Path) -> None:
    found = chosen(written(tmp_path, {**ROW, "times_s": [0, 1, 1, 3], "scores": [1, 2, 2, 3]}), 0, 1, 2, 3)
    assert (found.positions.tolist(), found.unread.notes) == ([0, 1, 1, 3], ())
    file = written(tmp_path, {**ROW, "times_s": [0.9, 1, 1.2, 3], "scores": [1, 2, 3, 4]})
    found = chosen(file, 0, 1, 2, 3)
    assert found.positions.tolist() == [1, 3]
    assert found.unread.notes == (f"2 of 4 frames of {file} have no watched frame of their own; watch more frames",)


def test_frames_off_the_watched_ones_are_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, {**ROW, "times_s": [0.5, 1.6, 5]})
    found = chosen(file, 1, 2, 3)
    assert found.positions.tolist() == [0, 1, 2]
    (note,) = found.unread.notes
    assert note == f"1 of 3 frames of {file} are more than half a step off any watched frame"
    with caplog.at_level(logging.WARNING):
        frames = FrameSource(np.arange(3), np.array([1.0, 2.0, 3.0]))
        caplog.clear()
        FromFile(path=str(file)).choose(frames, [Question("", id="q")] * 9, k=1, scorer=None)
    assert [record.message.rpartition("; ")[2] for record in caplog.records] == [
        "1 question so far",
        *(f"{count} questions so far" for count in (2, 4, 8)),
    ]


def test_a_row_about_another_clip_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {**ROW, "times_s": [50, 60]})
    with pytest.raises(QuestionError, match=r"another video or clip than question 'q': no frame of it is watched"):
        chosen(file, 1, 2, 3)


def test_a_question_without_a_row_is_refused_and_one_without_frames_has_the_reason(tmp_path: Path) -> None:
    file = written(tmp_path, {**ROW, "unreadable": "no video a.mp4"})
    with pytest.raises(VideoError, match=r"has no frames for question 'q': no video a.mp4"):
        chosen(file, 1, 2)
    with pytest.raises(QuestionError, match=r"has no frames of question 'other'; it has 1, such as 'q'"):
        chosen(file, 1, 2, question=Question("", id="other"))
    with pytest.raises(QuestionError, match="other"):
        FromFile(path=str(file)).check_questions([Question("", id="q"), Question("", id="other")])


def test_a_question_is_found_by_video_and_text_where_it_has_no_id(tmp_path: Path) -> None:
    rows = [{**ROW, "question_id": f"{n}", "question": "What?", "video": f"{n}.mp4", "times_s": [n]} for n in (0, 1, 2)]
    file = written(tmp_path, *rows)
    assert chosen(file, 0, 1, 2, question=Question("What?", video="videos/1.mp4")).positions.tolist() == [1]
    with pytest.raises(QuestionError, match="several rows"):
        chosen(file, 0, 1, 2, question=Question("What?"))


def test_tasks_are_told_apart(tmp_path: Path) -> None:
    file = written(tmp_path, *({**ROW, "task": name, "times_s": [n]} for n, name in enumerate(("one", "two"))))
    assert chosen(file, 0, 1, task="two").positions.tolist() == [1]
    with pytest.raises(
        QuestionError, match="several rows that question 'q' may mean; give its id there, or the task here"
    ):
        chosen(file, 0, 1)
    with pytest.raises(ConfigError, match="has no row with a question_id or text"):
        chosen(file, 0, 1, task="three")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([[10], [20, 30]], [2, 3]),
        ([{"question_id": "p", "frame_idx": [10]}, {"question_id": "q", "frame_idx": [0.0]}], [0]),
        ({"a": [{"question_id": "q", "question": "", "frames": [1.0, 3.0]}]}, [1, 3]),
        ([{"doc_id": 1, "index": [30, 10], "logits": [0.9, 0.1]}], [1, 3]),
    ],
)
def test_files_of_other_repositories_are_selectors_too(tmp_path: Path, content: Any, expected: list[int]) -> None:
    (tmp_path / "q.json").write_text(
        json.dumps([{"question_id": "p", "video": "a"}, {"question_id": "q", "video": "a"}])
    )
    (tmp_path / "frames.json").write_text(json.dumps(content))
    found = chosen(tmp_path / "frames.json", 0, 1, 2, 3, questions=str(tmp_path / "q.json"))
    assert found.positions.tolist() == expected


def test_it_is_a_selector_by_name_and_known_by_what_the_file_holds(tmp_path: Path) -> None:
    file = written(tmp_path, {**ROW, "times_s": [1]})
    check_selector({"policy": {"name": "frames_file", "path": str(file)}})
    for path, says in (("gone.jsonl", "gone.jsonl cannot be read: No such file"), (str(tmp_path), "cannot be read")):
        with pytest.raises(ConfigError, match=says):
            check_selector({"policy": {"name": "frames_file", "path": path}})
    first, same = (described(FromFile(path=str(file))) for _ in range(2))
    written(tmp_path, {**ROW, "times_s": [2]})
    assert first == same != described(FromFile(path=str(file)))
    assert chosen(file, 0, 1, 2).positions.tolist() == [2]

"""Chosen frames for other harnesses' questions: from a file, by a selector, and as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError, QuestionError, UserError, VideoError
from lavis.selection.frames_file import ChosenFrames, write_frames
from lavis.selection.harness import Asked, BySelector, Fields, FromFile, chosen_pictures, frame_chooser
from tests.videos import shown_numbers, write_video

ROW = {"question_id": "q1", "question": "What is shown?", "choices": ["a cat", "a dog"]}


def asked(doc_id: int = 0, task: str = "quiz", **row: Any) -> Asked:
    return Asked({**ROW, **row}, task, doc_id, "test")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", num_frames=40, fps=10)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [
        ChosenFrames(task="quiz", question_id="q1", frame_idx=(3, 7)),
        ChosenFrames(task="quiz", question_id="q2", doc_id=1, frame_idx=(9,)),
        ChosenFrames(task="quiz", doc_id=5, video="folder/clip.avi", frame_idx=(11,)),
    ]
    write_frames(tmp_path / "frames.jsonl", rows)
    return tmp_path / "frames.jsonl"


def numbers(video: Path, chosen: ChosenFrames) -> list[int]:
    return shown_numbers(np.stack([np.asarray(picture) for picture in chosen_pictures(video, chosen)]))


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (asked(), (3, 7)),
        (asked(doc_id=1, question_id="q1"), (3, 7)),  # the id decides, not the place
        (asked(doc_id=5, question_id=None), (11,)),
        (asked(doc_id=5, question_id="q9"), (11,)),  # that row has no id
    ],
)
def test_a_file_is_searched_by_id_and_then_by_place(file: Path, video: Path, question: Asked, found: Any) -> None:
    chooser = FromFile(file)
    chooser.check(question)
    assert chooser.choose(question, video).frame_idx == found


def test_a_row_found_by_its_place_is_of_the_same_video(file: Path, video: Path) -> None:
    with pytest.raises(QuestionError, match=r"doc_id 5 .* is about folder/clip.avi in .*, and about other.mp4 here"):
        FromFile(file).choose(asked(doc_id=5, question_id=None), Path("other.mp4"))


def test_the_file_may_call_the_task_and_the_id_otherwise(file: Path, video: Path) -> None:
    chooser = FromFile(file, task="quiz", fields=Fields(id="qid"))
    assert chooser.choose(Asked({"qid": "q2"}, "quiz_mc", 0), video).frame_idx == (9,)
    with pytest.raises(QuestionError, match=r"no frames for question 'q1' of 'other'; it has .* task 'quiz'"):
        FromFile(file).check(asked(task="other"))


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ({"frame_idx": (3, 7)}, [3, 7]),
        ({"times_s": (0.3, 0.74)}, [3, 7]),
        ({"times_s": (0.76, 3.97)}, [8, 39]),
        ({"frame_idx": (30,), "times_s": (0.5,)}, [5]),  # seconds decide
        ({"frame_idx": (3, 3), "num_frames": 40}, [3, 3]),
    ],
)
def test_pictures_are_the_frames_nearest_in_time_or_of_the_index(video: Path, chosen: Any, shown: list[int]) -> None:
    assert numbers(video, ChosenFrames(question_id="q", **chosen)) == shown


def test_sizes_are_parts_of_the_videos_own(video: Path) -> None:
    first, second = chosen_pictures(video, ChosenFrames(question_id="q", frame_idx=(1, 2), sizes=(1.0, 0.25)))
    assert (first.size, second.size) == ((96, 64), (24, 16))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"frame_idx": (3,), "num_frames": 41}, r"has 40 frames; those of question 'q' are of one with 41"),
        ({"frame_idx": (40,)}, r"has no frame 40; it has 40"),
        ({"times_s": (5.1,)}, r"ends at 4\.00 s; question 'q' has a frame at 5\.10 s"),
    ],
)
def test_frames_of_another_video_are_refused(video: Path, chosen: Any, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        chosen_pictures(video, ChosenFrames(question_id="q", **chosen))


def test_a_selector_chooses_when_a_question_is_asked(video: Path) -> None:
    chooser = BySelector("{policy: uniform}", k=3, num_frames=12)
    chosen = chooser.choose(asked(), video)
    assert chosen.num_frames == 40
    assert chosen.times_s == pytest.approx([index / 10 for index in chosen.frame_idx or ()])
    assert numbers(video, chosen) == list(chosen.frame_idx or ())
    assert len(chosen) == 3


def test_the_models_localizer_chooses_as_it_does_for_ask(video: Path) -> None:
    import lavis

    chooser = BySelector("localizer", k=2, num_frames=8, fields=Fields(options="choices"))
    answer = lavis.load_model("sevila", "tiny").watch(video, num_frames=8)
    expected = answer.ask(ROW["question"], ROW["choices"], num_keyframes=2).keyframes.frame_idx  # type: ignore[arg-type]
    assert chooser.choose(asked(), video).frame_idx == tuple(expected.tolist())


def test_a_field_that_a_row_does_not_have_is_named() -> None:
    with pytest.raises(QuestionError, match=r"row 4 of 'quiz' has no field 'options'; known: choices, question"):
        BySelector("uniform", fields=Fields(options="options")).check(asked(doc_id=4))


def test_a_little_beyond_the_end_is_the_last_frame_and_is_said(video: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert numbers(video, ChosenFrames(question_id="q", times_s=(0.5, 4.9))) == [5, 39]
    assert "it ends at 4.00 s, before frames of question 'q': its last one is shown" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of frames"),
        ({"frames": "f.jsonl", "selector": "uniform"}, "give one of frames"),
        ({"frames": "f.jsonl", "k": 3, "model": None}, r"no use for k"),
        ({"frames": "f.jsonl"}, "there is no file f.jsonl"),
        ({"selector": "unifrom"}, "did you mean 'uniform'"),
        ({"selector": "uniform", "k": 33}, "cannot choose 33 of 32 frames"),
    ],
)
def test_mistakes_are_told_before_anything_runs(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        frame_chooser(**given)


def test_a_missing_row_is_a_users_mistake(file: Path) -> None:
    with pytest.raises(UserError, match=r"has no frames for question 'q7' of 'quiz'; it has 3 rows"):
        FromFile(file).check(asked(question_id="q7"))

"""Files of other repositories' kinds, to ours and back, by the command; and what is said of those that cannot be."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.cli.main import main
from lavis.common.errors import EXIT_USER_ERROR
from lavis.selection.frames_file import ChosenFrames, read_frames, write_frames
from tests.videos import write_video

NUM_ROWS = 2700
FPS = 29.97


def written(path: Path, content: Any) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(json.dumps(content))
    return path


def converted(file: Path, kind: str, out: Path, *arguments: str | Path) -> int:
    return main(["frames", "convert", str(file), "--to", kind, "--out", str(out), *map(str, arguments)])


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    """Rows as Video-MME's, three questions a video, some of which are asked of many videos."""
    return [
        {"video_id": f"{n // 3 + 1:03}", "videoID": f"v{n // 3}", "question_id": f"{n // 3 + 1:03}-{n % 3 + 1}"}
        | {"question": "What is the video mainly about?" if n % 3 == 0 else f"What is thing {n}?", "answer": "C"}
        for n in range(NUM_ROWS)
    ]


@pytest.fixture(scope="module")
def rows(questions: list[dict[str, Any]]) -> list[ChosenFrames]:
    """What could have been chosen: 11 to 64 frames of each."""
    draw = np.random.default_rng(0)
    made = []
    for place, question in enumerate(questions):
        index = np.sort(draw.choice(3000, draw.integers(11, 65), replace=False)).tolist()
        about = {"question_id": question["question_id"], "question": question["question"], "video": question["videoID"]}
        made.append(
            ChosenFrames(
                **about,
                **{"task": "videomme", "split": "test", "doc_id": place, "fps": FPS, "num_frames": 3000},
                frame_idx=tuple(index),
                times_s=tuple(one / FPS for one in index),
                scores=tuple(draw.permutation(len(index)).astype(float).tolist()),
                method="aks",
            )
        )
    return made


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, rows: list[ChosenFrames], questions: list[dict[str, Any]]) -> Path:
    folder = tmp_path_factory.mktemp("exchange")
    written(folder / "annotation.json", questions)
    write_frames(folder / "frames.jsonl", rows)
    return folder / "frames.jsonl"


@pytest.mark.parametrize("kind", ["aks", "focus", "annotation", "tspo", "bolt", "videoitg"])
def test_a_large_file_goes_there_and_back(
    ours: Path, rows: list[ChosenFrames], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation, there, back = ours.with_name("annotation.json"), tmp_path / "there.json", tmp_path / "back.jsonl"
    started = time.perf_counter()
    assert converted(ours, kind, there, "--annotations", annotation) == 0
    said = capsys.readouterr().out
    assert converted(there, "sevila", back, "--annotations", annotation, "--task", "videomme") == 0
    assert time.perf_counter() - started < 60
    found = read_frames(back).rows
    about = [(row.task, row.question_id, row.doc_id, row.question, row.video) for row in rows]
    assert [(row.task, row.question_id, row.doc_id, row.question, row.video) for row in found] == about
    if kind == "bolt":
        assert [row.times_s for row in found] == [row.times_s for row in rows]
    else:
        assert [row.frame_idx for row in found] == [row.frame_idx for row in rows]
    if kind == "videoitg":
        assert [row.scores for row in found] == [row.scores for row in rows]
    else:
        assert f"{NUM_ROWS} rows of which {kind} does not hold the scores" in said
    assert f"{NUM_ROWS} rows of the kind sevila -> {there}, of the kind {kind}" in said


def test_the_files_are_laid_out_as_the_repositories_write_them(tmp_path: Path) -> None:
    about: dict[str, Any] = {"question_id": "001-1", "video": "a.mp4", "question": "What?"}
    annotation = written(tmp_path / "a.json", [{**about, "answer": "C"}])
    row = ChosenFrames(**about, doc_id=0, frame_idx=(30, 60), times_s=(1.0, 2.0), scores=(0.2, 0.9))
    write_frames(tmp_path / "frames.jsonl", [row])
    expected: dict[str, Any] = {
        "aks": [[30, 60]],
        "focus": [[30, 60]],
        "annotation": [{**about, "answer": "C", "frame_idx": [30, 60]}],
        "tspo": [{**about, "answer": "C", "frame_idx": [30.0, 60.0]}],
        "bolt": {"a.mp4": [{"question_id": "001-1", "question": "What?", "frames": [1.0, 2.0]}]},
        "videoitg": {
            **{"doc_id": 0, "video_path": "a.mp4", "contexts": "What?"},
            **{"index": [60, 30], "logits": [0.9, 0.2]},
        },
    }
    for kind, content in expected.items():
        out = tmp_path / f"{kind}.json"
        assert converted(tmp_path / "frames.jsonl", kind, out, "--annotations", annotation) == 0
        assert json.loads(out.read_text()) == content
        assert repr(json.loads(out.read_text())) == repr(content)  # 30 is not 30.0


def test_files_as_the_repositories_have_them_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Indices that are no whole numbers, or not in time order; ids that are numbers; videos in folders."""
    annotation = written(tmp_path / "a.jsonl", [{"id": 7, "video_path": "x/a.mp4", "question": "What?"}])
    files = {
        written(tmp_path / "aks.json", [[60.0, 29.97]]): (29, 60),
        written(tmp_path / "tspo.json", [{"id": 7, "question": "What?", "frame_idx": [0.0, 30.0]}]): (0, 30),
        written(tmp_path / "itg.jsonl", [{"doc_id": 0, "index": [9, 0, 5, 0], "logits": [4, 3, 2, 1]}]): (0, 5, 9),
        written(tmp_path / "bare.jsonl", [{"doc_id": 0, "index": [9, 0]}]): (0, 9),
    }
    for file, expected in files.items():
        out = tmp_path / f"{file.stem}.out"
        assert converted(file, "sevila", out, "--annotations", annotation) == 0
        (row,) = read_frames(out).rows
        assert (row.question_id, row.doc_id, row.video, row.frame_idx) == ("7", 0, "x/a.mp4", expected)
        assert row.scores == ((3, 2, 4) if file.stem == "itg" else ())
    said = capsys.readouterr().out
    assert "1 rows with indices that were no whole numbers: rounded down" in said
    assert "1 rows that were not in time order: sorted" in said
    assert "1 rows that rank a frame twice: the better place counts" in said


def test_the_best_frames_of_a_ranking_are_kept(tmp_path: Path) -> None:
    ranked = {"doc_id": 3, "index": [90, 10, 50], "logits": [0.9, 0.8, 0.1]}
    for name, row in (("scored", ranked), ("bare", {"doc_id": 3, "index": [90, 10, 50]})):
        file, out = written(tmp_path / f"{name}.jsonl", [row]), tmp_path / f"{name}.out"
        assert converted(file, "sevila", out, "-k", "2") == 0
        assert read_frames(out).rows[0].frame_idx == (10, 90)


def test_questions_that_are_counted_within_a_video_are_told_by_video_and_text(tmp_path: Path) -> None:
    asked = [{"id": f"{video}_{n}", "video": f"{video}.mp4", "question": f"What {n}?"} for video in "ab" for n in "01"]
    annotation = written(tmp_path / "a.json", asked)
    content = {
        video: [{"question_id": n, "question": f"What {n}?", "frames": [n + 0.5, 3.25]} for n in (0, 1)]
        for video in ("a", "b")
    }
    file = written(tmp_path / "bolt.json", content)
    assert converted(file, "sevila", tmp_path / "frames.jsonl", "--annotations", annotation) == 0
    found = {row.question_id: row.times_s for row in read_frames(tmp_path / "frames.jsonl").rows}
    assert found == {"a_0": (0.5, 3.25), "a_1": (1.5, 3.25), "b_0": (0.5, 3.25), "b_1": (1.5, 3.25)}
    assert converted(file, "sevila", tmp_path / "other.jsonl") == EXIT_USER_ERROR


def test_seconds_and_indices_are_told_apart_by_the_video_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", num_frames=40, fps=8)
    annotation = written(tmp_path / "a.json", [{"question_id": "q", "video": "a", "question": "What?"}])
    bolt = written(
        tmp_path / "bolt.json", {"a": [{"question_id": "q", "question": "What?", "frames": [1.0, 2.12, 5.0]}]}
    )
    where = ("--annotations", annotation, "--videos", tmp_path / "videos")
    assert converted(bolt, "sevila", tmp_path / "frames.jsonl", *where) == 0
    (row,) = read_frames(tmp_path / "frames.jsonl").rows
    assert (row.fps, row.num_frames, row.frame_idx, row.times_s) == (8.0, 40, (8, 17, 39), (1.0, 2.12, 5.0))
    assert converted(bolt, "aks", tmp_path / "aks.json", *where) == 0
    assert json.loads((tmp_path / "aks.json").read_text()) == [[8, 17, 39]]
    assert converted(tmp_path / "aks.json", "bolt", tmp_path / "again.json", *where) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == {"a": [{"question_id": "q", "question": "What?", "frames": [1.0, 2.125, 4.875]}]}
    capsys.readouterr()
    for content, says in (([[40]], "has frame 40 of 'a', which has 40"), ([[8]], None)):
        file = written(tmp_path / "late.json", content)
        code = converted(file, "bolt", tmp_path / "late.out", *where)
        assert (code == EXIT_USER_ERROR) == (says is not None)
        assert (says or "") in capsys.readouterr().err
    late = written(tmp_path / "late.json", {"a": [{"question_id": "q", "question": "What?", "frames": [1, 90]}]})
    assert converted(late, "aks", tmp_path / "late.aks", *where) == EXIT_USER_ERROR
    assert "has a frame at 90 s of 'a', which ends at 4.875 s" in capsys.readouterr().err


def test_without_the_video_the_rate_of_the_row_tells_and_else_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation = written(tmp_path / "a.json", [{"question_id": "q", "video": "a", "question": "What?"}])
    row = ChosenFrames(question_id="q", times_s=(0.47, 1.04), fps=25.0, num_frames=27)
    for given, expected in (
        (row, [[12, 26]]),
        (ChosenFrames(question_id="q", times_s=(0.48, 1.04), fps=25.0), [[12, 26]]),
    ):
        write_frames(tmp_path / "frames.jsonl", [given])
        out = tmp_path / "aks.json"
        assert converted(tmp_path / "frames.jsonl", "aks", out, "--annotations", annotation, "--force") == 0
        assert json.loads(out.read_text()) == expected
        assert "1 rows whose seconds or indices are by the frame rate" in capsys.readouterr().out
    write_frames(tmp_path / "frames.jsonl", [ChosenFrames(question_id="q", times_s=(0.5,))])
    assert (
        converted(tmp_path / "frames.jsonl", "aks", tmp_path / "b.json", "--annotations", annotation) == EXIT_USER_ERROR
    )
    said = capsys.readouterr().err
    assert "question 'q' has seconds alone, and neither its fps nor its video is known to tell indices" in said


def test_rows_without_frames_stay_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [{"question_id": name, "video": "a", "question": f"What {name}?"} for name in "pq"]
    annotation = written(tmp_path / "a.json", asked)
    write_frames(
        tmp_path / "frames.jsonl",
        [
            ChosenFrames(question_id="p", unreadable="no video"),
            ChosenFrames(question_id="q", frame_idx=(3,), times_s=(1,)),
        ],
    )
    for kind in ("aks", "tspo", "bolt", "videoitg"):
        there, back = tmp_path / f"{kind}.json", tmp_path / f"{kind}.back"
        assert converted(tmp_path / "frames.jsonl", kind, there, "--annotations", annotation) == 0
        assert "1 rows without frames, since their video could not be read" in capsys.readouterr().out
        assert converted(there, "sevila", back, "--annotations", annotation) == 0
        assert [row.unreadable for row in read_frames(back).rows] == ["the file has no frames for it", None]


def test_of_several_tasks_one_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ChosenFrames(task=task, question_id="q", frame_idx=(n,)) for n, task in enumerate(("one", "two"))]
    write_frames(tmp_path / "frames.jsonl", [*rows, ChosenFrames(question_id="r", frame_idx=(7,))])
    assert converted(tmp_path / "frames.jsonl", "sevila", tmp_path / "two.jsonl", "--task", "two") == 0
    found = [(row.task, row.question_id, row.frame_idx) for row in read_frames(tmp_path / "two.jsonl").rows]
    assert found == [("two", "q", (1,)), ("two", "r", (7,))]
    annotation = written(tmp_path / "a.json", [{"question_id": "r"}, {"question_id": "q"}])
    assert (
        converted(tmp_path / "frames.jsonl", "aks", tmp_path / "o", "--task", "one", "--annotations", annotation) == 0
    )
    assert json.loads((tmp_path / "o").read_text()) == [[7], [0]]
    write_frames(tmp_path / "frames.jsonl", rows)
    assert converted(tmp_path / "frames.jsonl", "sevila", tmp_path / "p", "--task", "three") == EXIT_USER_ERROR
    assert "has no row of the task 'three'; its rows say 'one'" in capsys.readouterr().err


ANNOTATION = [{"question_id": name, "video": "a", "question": f"What {name}?"} for name in "pq"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.json", [[1]], "has 1 row and the annotation 2; give those made together"),
        ("f.json", [[1], [-1]], "row 2 (question 'q'): its frames hold -1, which is no index"),
        ("f.json", [[1], [float("nan")]], "row 2 (question 'q'): its frames are no list of finite numbers"),
        ("f.json", [[1], [10**400]], "row 2 (question 'q'): its frames are no list of finite numbers"),
        ("f.json", [[1], [2.0**60]], "row 2 (question 'q'): its frames hold 1.15292e+18, which is no index"),
        ("f.json", [[1], ["2"]], "row 2 (question 'q'): its frames are no list of finite numbers"),
        ("f.json", [[1], [True]], "row 2 (question 'q'): its frames are no list of finite numbers"),
        ("f.json", [], "is of no known kind; known: sevila, aks"),
        ("f.json", [[1], {"a": 1}], "is of no known kind; known: sevila, aks"),
        ("f.json", [{"a": 1}], "is of no known kind: its first row has no schema, frame_idx or index"),
        ("f.json", [{"frame_idx": [1]}], "row 1: it has no question_id, qid, id"),
        ("f.json", [{"id": "x", "frame_idx": [1]}], "row 1 (question 'x'): the annotation has no such question"),
        ("f.json", [{"id": "p", "frame_idx": [1]}] * 2, "f.json:2: question 'p': this question is in line 1 too"),
        ("f.json", {"a": [{"question_id": "x", "frames": [1]}]}, "has no such row of question 'x'"),
        ("f.json", {"a": 3}, "video 'a' has no list of question_id and frames"),
        ("f.json", {"a": [{"question_id": "p", "frames": [-1]}]}, "its frames hold -1 s"),
        ("f.jsonl", [{"doc_id": 2, "index": [1]}], "(question 'doc_id 2'): the annotation has 2 rows only"),
        ("f.jsonl", [{"doc_id": "0", "index": [1]}], "doc_id is '0'; it must be a place in the annotation"),
        ("f.jsonl", [{"doc_id": 0, "index": [1, 2], "logits": [1]}], "it has 1 logits of 2 frames"),
        ("f.jsonl", [{"doc_id": 0, "index": [1]}] * 2, "f.jsonl:2: question 'p': this question is in line 1 too"),
        ("f.jsonl", [{"schema": "sevila.frames/9"}], "f.jsonl:1: the schema is 'sevila.frames/9'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: Any, says: str
) -> None:
    annotation = written(tmp_path / "a.json", ANNOTATION)
    file = written(tmp_path / name, content)
    assert converted(file, "sevila", tmp_path / "out.jsonl", "--annotations", annotation) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "aks"], "a file of the kind aks is about the rows of an annotation file; give it"),
        (["--to", "qframe"], "unknown kind of frames file 'qframe'"),
        (["--to", "bolt"], "question 'p' has no question_id, question and video, which bolt needs"),
        (["--to", "videoitg"], "question 'p' has no doc_id, which videoitg needs"),
        (["--to", "sevila", "-k", "0"], "-k is 0; it must be 1 or more"),
        (["--to", "sevila", "-k", "1"], "question 'p' has 2 frames and no scores to choose the best 1 by"),
        (["--to", "sevila", "--videos", "nowhere"], "--videos: there is no folder nowhere"),
        (["--to", "aks", "--annotations", "gone.json"], "annotation file gone.json cannot be read"),
        (["--to", "aks", "--annotations", "ANNOTATION"], "has no frames for question 'q'; it has 1 row, such as"),
        (["--to", "aks", "--annotations", "DOUBLE"], "DOUBLE, row 2: 'p' is there twice"),
        (["--to", "aks", "--annotations", "NAMELESS"], "NAMELESS, row 1 has no question_id, qid or id"),
    ],
)
def test_what_a_kind_needs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "ANNOTATION", ANNOTATION)
    written(tmp_path / "DOUBLE", [ANNOTATION[0]] * 2)
    written(tmp_path / "NAMELESS", [{"video": "a"}])
    write_frames(tmp_path / "f.jsonl", [ChosenFrames(question_id="p", frame_idx=(1, 2), times_s=(0.1, 0.2))])
    assert main(["frames", "convert", "f.jsonl", "--out", "out", *arguments]) == EXIT_USER_ERROR
    assert says in capsys.readouterr().err


def test_a_cut_off_file_is_refused_and_a_finished_one_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation = written(tmp_path / "a.json", ANNOTATION)
    (tmp_path / "f.json").write_text(json.dumps([[1, 2], [3]])[:-4])
    assert converted(tmp_path / "f.json", "sevila", tmp_path / "out", "--annotations", annotation) == EXIT_USER_ERROR
    assert f"frames file {tmp_path / 'f.json'} cannot be read: line 1 is no JSON" in capsys.readouterr().err
    written(tmp_path / "f.json", [[1, 2], [3]])
    (tmp_path / "out").write_text("mine")
    assert converted(tmp_path / "f.json", "sevila", tmp_path / "out", "--annotations", annotation) == EXIT_USER_ERROR
    assert "is already there; choose another --out, or replace it with --force" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"
    assert converted(tmp_path / "gone", "sevila", tmp_path / "o", "--annotations", annotation) == EXIT_USER_ERROR
    assert "gone cannot be read: No such file" in capsys.readouterr().err

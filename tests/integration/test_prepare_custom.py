"""People's own videos and questions through `sevila prepare custom`."""

import json
from pathlib import Path

import pytest

from lavis.cli.main import build_parser
from lavis.common.errors import AnnotationError
from lavis.common.types import Span
from lavis.datasets.annotations import read_annotations


def run(*arguments: object) -> int:
    args = build_parser().parse_args(["prepare", *map(str, arguments)])
    return int(args.run(args))


def custom_raw(folder: Path) -> Path:
    for name in ("a.mp4", "day 1/b.webm", "c.mp4", "c.mkv", "frames/d/0001.jpg", "frames/w/1.webp", "._a.mp4"):
        (folder / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "videos" / name).touch()
    return folder


CUSTOM_CSV = """video,question,a0,a1,a2,answer,type,start,end
a,What now?,jump,run,,run,,,
a.mp4,What then?,jump,run,swim,C,order,0.5,2
day 1/b,Who?,Ann,Bob,,1,,,
frames/d,Where?,here,there,,,,,
c.mkv,When?,now,later,,A,,,
frames/w,Where?,here,there,,,,,
"""


def test_custom_questions_in_csv(tmp_path: Path) -> None:
    raw = custom_raw(tmp_path / "raw")
    (raw / "questions.csv").write_text(CUSTOM_CSV)
    run("custom", "--raw", raw, "--out", tmp_path)
    questions = read_annotations(tmp_path / "custom" / "val.json").questions
    assert [(q.id, q.video, q.options, q.answer, q.kind, q.clip) for q in questions] == [
        ("CUSTOM_val_0", "a", ("jump", "run"), 1, "CUSTOM", None),
        ("order_val_1", "a", ("jump", "run", "swim"), 2, "order", Span(0.5, 2.0)),
        ("CUSTOM_val_2", "day 1/b", ("Ann", "Bob"), 1, "CUSTOM", None),
        ("CUSTOM_val_3", "frames/d", ("here", "there"), None, "CUSTOM", None),
        ("CUSTOM_val_4", "c.mkv", ("now", "later"), 0, "CUSTOM", None),
        ("CUSTOM_val_5", "frames/w", ("here", "there"), None, "CUSTOM", None),
    ]


@pytest.mark.parametrize(("name", "layout"), [("test.json", "[{},{}]"), ("test.jsonl", "{}\n{}\n")])
def test_custom_questions_in_json(tmp_path: Path, name: str, layout: str) -> None:
    rows = [
        {"video": "a", "qid": 5, "question": "How many?", "options": [2, 3, 4], "answer": 0},
        {"video": "a", "query": "a dog", "relevant_windows": [[0, 1]]},
    ]
    raw = custom_raw(tmp_path / "raw")
    (raw / name).write_text(layout.format(*map(json.dumps, rows)))
    run("custom", "--raw", raw, "--out", tmp_path)
    count, search = read_annotations(tmp_path / "custom" / "test.json").questions
    assert (count.id, count.options, count.answer) == ("5", ("2", "3", "4"), 0)
    assert (search.id, search.text, search.windows) == ("CUSTOM_test_1", "a dog", (Span(0.0, 1.0),))


def test_missing_custom_videos_are_all_named(tmp_path: Path) -> None:
    raw = custom_raw(tmp_path / "raw")
    (raw / "questions.csv").write_text("video,question,a0,a1\nx,Who?,A,B\na,Who?,A,B\ny.mp4,Who?,A,B\n")
    with pytest.raises(AnnotationError) as raised:
        run("custom", "--raw", raw, "--out", tmp_path)
    assert str(raised.value) == (
        f"{raw}/questions.csv, line 2, field 'video': there is no video 'x' in {raw}/videos; add it or leave its "
        f"questions out; {raw}/questions.csv, line 4, field 'video': there is no video 'y.mp4' in {raw}/videos; add it "
        "or leave its questions out; or leave bad rows out with --skip-bad of sevila prepare"
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("c,Who?,Ann,Bob,A", "field 'video': 'c' may be c.mkv or c.mp4; write it with its ending"),
        ("a,Who?,Ann,Bob,C", "field 'answer': 'C' is none of the options; give an index from 0, a letter from A, or"),
        (
            "a,How many?,1,2,1",
            "field 'answer': '1' may mean several options: '1' by its text or '2' by its number from 0; no o",
        ),
        ("a,Who?,Ann,,0", "field 'num_option': 1 option; give 2 to 26"),
    ],
)
def test_an_unclear_custom_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    raw = custom_raw(tmp_path / "raw")
    (raw / "val.csv").write_text(f"video,question,a0,a1,answer\n{row}\n")
    with pytest.raises(AnnotationError) as raised:
        run("custom", "--raw", raw, "--out", tmp_path)
    assert f"{raw}/val.csv, line 2, {problem}" in str(raised.value)


def test_custom_videos_may_lie_elsewhere(tmp_path: Path) -> None:
    videos = custom_raw(tmp_path / "elsewhere") / "videos"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "val.csv").write_text(f"video,question,a0,a1\n{videos}/a.mp4,Who?,A,B\n")
    run("custom", "--raw", tmp_path / "raw", "--videos", videos, "--out", tmp_path)
    assert [question.video for question in read_annotations(tmp_path / "custom" / "val.json").questions] == ["a"]
    with pytest.raises(AnnotationError, match=r"there is no folder of videos .*nowhere; name it with --videos"):
        run("custom", "--raw", tmp_path / "raw", "--videos", tmp_path / "nowhere", "--out", tmp_path, "--force")

"""Files of questions as spreadsheets and pandas write them, through `sevila prepare`."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lavis.cli.main import main

ASKED = [
    {"video": "garden", "question": "What?", "num_option": 3, "a0": "red", "a1": "blue", "a2": "green", "answer": 1},
    {"video": "kitchen", "question": "Who,\nthen?", "num_option": 2, "a0": "Ann", "a1": "Bob", "answer": 0},
]
FILES = {
    "pandas' index": (
        "questions.csv",
        ',video,question,a0,a1,a2,answer\n0,garden,What?,red,blue,green,1\n1,kitchen,"Who,\nthen?",Ann,Bob,,0\n',
    ),
    "numbers with a point": (
        "val.csv",
        'video,question,a0,a1,a2,answer\ngarden,What?,red,blue,green,1.0\nkitchen,"Who,\nthen?",Ann,Bob,,0.0\n',
    ),
    "letters with signs": (
        "questions.csv",
        'Video,Question,Option A,Option B,Option C,Answer\n'
        'garden,What?,red,blue,green,B.\nkitchen.mp4,"Who,\nthen?",Ann,Bob,,(a)\n',
    ),
    "semicolons from a spreadsheet": (
        "questions.csv",
        '\ufeffVIDEO;QUESTION;A;B;C;ANSWER;\r\ngarden;What?;red;blue;green;b;\r\nkitchen;"Who,\nthen?";Ann;Bob;;A;\r\n'
        ";;;;;;\r\n",
    ),
    "tabs in utf-16": (
        "questions.tsv",
        'video\tquestion\tchoice1\tchoice2\tchoice3\tanswer\n'
        'garden\tWhat?\tred\tblue\tgreen\tblue\nkitchen\t"Who,\nthen?"\tAnn\tBob\t\tann\n',
    ),
    "json of pandas": (
        "questions.json",
        '{"video": {"0": "garden", "1": "kitchen"}, "question": {"0": "What?", "1": "Who,\\nthen?"}, '
        '"choices": {"0": ["red", "blue", "green"], "1": ["Ann", "Bob"]}, "label": {"0": 1.0, "1": 0.0}}',
    ),
}  # fmt: skip


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("garden.mp4", "kitchen.mp4", "7.mp4"):
        (folder / name).touch()
    return folder


def prepared(folder: Path, name: str, content: str, *options: str, encoding: str = "utf-8") -> list[dict]:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / name).write_bytes(content.encode(encoding))
    command = ["prepare", "custom", "--raw", folder / "raw", "--videos", folder / "videos", "--out", folder / "out"]
    assert main([*map(str, command), *options]) == 0
    return json.loads((folder / "out" / "custom" / "val.json").read_text())


@pytest.mark.parametrize("kind", FILES)
def test_the_same_questions_are_read_from_every_file(kind: str, videos: Path) -> None:
    name, content = FILES[kind]
    rows = prepared(videos.parent, name, content, encoding="utf-16" if "utf-16" in kind else "utf-8")
    assert [{field: value for field, value in row.items() if field not in ("qid", "type")} for row in rows] == ASKED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("questions.csv", "video,question,a0,a1,qid\n7,Who?,x,y,7\n7.0,Who?,x,y,8.0\n"),
        ("questions.json", '[{"video": 7, "question": "Who?", "options": ["x", "y"], "id": "7"},'
         ' {"video": 7.0, "question": "Who?", "options": ["x", "y"], "id": 8.0}]'),
    ],
)  # fmt: skip
def test_numbers_are_names_and_ids_however_they_are_written(name: str, content: str, videos: Path) -> None:
    rows = prepared(videos.parent, name, content)
    assert [(row["video"], row["qid"]) for row in rows] == [("7", "7"), ("7", "8")]


def test_numbers_of_parquet_that_became_floats_beside_empty_cells_are_numbers(videos: Path) -> None:
    (videos.parent / "raw").mkdir()
    rows = [{"video": 7.0, "question": f"{at}?", "a0": "x", "a1": "y", "qid": at, "answer": at} for at in (1.0, None)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), videos.parent / "raw" / "val.parquet")
    made = prepared(videos.parent, "notes.md", "")
    assert [(row["video"], row["qid"], row.get("answer")) for row in made] == [
        ("7", "1", 1),
        ("7", "CUSTOM_val_1", None),
    ]


def test_star_ids_may_be_numbers(tmp_path: Path) -> None:
    choices = [{"choice_id": at, "choice": text} for at, text in ((0.0, "a box."), ("1", "a bed."))]
    row = {"video_id": "001YG", "question": "What?", "choices": choices, "answer": "a bed.", "start": 1, "end": 2}
    (tmp_path / "STAR_val.json").write_text(json.dumps([{**row, "question_id": 7.0}, {**row, "question_id": "7"}]))
    assert main(["prepare", "star", "--raw", str(tmp_path), "--out", str(tmp_path / "out"), "--skip-bad"]) == 0
    (made,) = json.loads((tmp_path / "out" / "star" / "val.json").read_text())
    assert (made["qid"], made["a1"], made["answer"]) == ("7", "a bed.", 1)


def test_the_same_id_written_in_two_ways_is_one_that_repeats(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = prepared(videos.parent, "val.csv", "video,question,a0,a1,qid\n7,Who?,x,y,7\n7,Why?,x,y,7.0\n", "--skip-bad")
    assert len(rows) == 1
    assert "'7' is the id of an earlier row" in capsys.readouterr().out


def test_questions_without_answer_are_counted(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = prepared(videos.parent, "val.csv", "video,question,a0,a1,answer\ngarden,A?,x,y,1.0\ngarden,B?,x,y,\n")
    assert [row.get("answer") for row in rows] == [1, None]
    assert "1 x no answer given: the question can be asked but not measured" in capsys.readouterr().out


@pytest.mark.parametrize(("answers", "told"), [((1, 2), 2), ((0, 1), 0)])
def test_numbers_that_count_from_1_are_told_of(
    answers: tuple[int, int], told: int, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"garden,{at}?,x,y,{answer}\n" for at, answer in enumerate(answers))
    rows = prepared(videos.parent, "val.csv", f"video,question,choice1,choice2,answer\n{lines}")
    assert [row["answer"] for row in rows] == [0, 1]
    note = f"{told} x the answer is a number that counts from 1, as the columns of options do"
    assert (note in capsys.readouterr().out) == bool(told)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "clip,prompt,a0,a1\ngarden,Who?,x,y\n",
            "val.csv has no column for video: it has 'clip', 'prompt', 'a0', 'a1'; looked for 'video', 'videoid', ",
        ),
        (
            "video,question,first,second\ngarden,Who?,x,y\n",
            "val.csv has no column for options or query: it has 'video', 'question', 'first', 'second'; looked for ",
        ),
        (
            "video,question,a0,a1,anwser\n" + "garden,Who?,x,y,0\n" * 5,
            "val.csv has a column 'anwser' of no known meaning; rename it 'answer' if it is that, or leave it out",
        ),
        ("video,question,a0,a1,answer\ngarden,How many?,1,2,1\n", "'1' may mean several options: '1' by its text or "),
        ("video,question,a0,a1,answer\ngarden,Who?,x,y,2\n", "'2' is the number of options, and no answer is 0: do "),
    ],
)
def test_what_cannot_be_understood_is_told_in_one_line_and_nothing_is_written(
    content: str, message: str, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = videos.parent / "raw"
    raw.mkdir()
    (raw / "val.csv").write_text(content)
    command = ["prepare", "custom", "--raw", raw, "--videos", videos, "--out", videos.parent / "out", "--skip-bad"]
    assert main(list(map(str, command))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (videos.parent / "out").exists()


def test_a_second_file_for_a_split_is_told_of(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (videos.parent / "raw").mkdir()
    (videos.parent / "raw" / "questions.csv").write_text("video,question,a0,a1\ngarden,A?,x,y\n")
    rows = prepared(videos.parent, "val.csv", "video,question,a0,a1\ngarden,B?,x,y\n")
    assert [row["question"] for row in rows] == ["B?"]
    assert "1 x val.csv is read for this split, and not questions.csv" in capsys.readouterr().out


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_nextqa_is_read_as_a_spreadsheet_or_pandas_saves_it_again(tmp_path: Path, index: bool, end: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "map_vid_vidorID.json").write_text('{"401": "1100/401"}', encoding="utf-8-sig")
    header = ["Video", "frame_count", "Question", "Answer", "qid", "type", "a0", "a1", "a2", "a3", "a4"]
    row = ["401.0", "8", "why is it red", "1.0", "3.0", "CW", "rust", "paint", "light", "blood", "wine"]
    lines = [
        ";".join(([""] if index else []) + header),
        ";".join((["0"] if index else []) + row),
        ";" * len(header),
        "",
    ]
    (raw / "val.csv").write_bytes(end.join(lines).encode("utf-8-sig"))
    assert main(["prepare", "nextqa", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 0
    (made,) = json.loads((tmp_path / "out" / "nextqa" / "val.json").read_text())
    assert (made["video"], made["qid"], made["answer"], made["a1"]) == ("1100/401", "CW_401_3", 1, "paint.")


def test_nextgqa_s_answers_that_are_numbers_are_texts_where_its_answers_are_texts(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "map_vid_vidorID.json").write_text('{"401": "1100/401"}')
    header = "video_id,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    rows = "401,how many,2,3,DC,1,2,3,4,5\n401,why is it red,paint,4,CW,rust,paint,light,blood,wine\n"
    (raw / "train.csv").write_text(header + rows)
    assert main(["prepare", "nextgqa", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 0
    made = json.loads((tmp_path / "out" / "nextgqa" / "train.json").read_text())
    assert [row["answer"] for row in made] == [1, 1]

"""Files of questions."""

import json
from pathlib import Path

import pytest

from lavis.cli.questions import read_questions
from lavis.common.errors import UserError
from lavis.common.types import Question, Span

EXPECTED = [Question("Who?", ("a", "b"), id="q1"), Question("What happens?")]


@pytest.mark.parametrize(
    "content",
    [
        '[{"question": "Who?", "options": ["a", "b"], "id": "q1"}, {"question": "What happens?"}]',
        '{"question": "Who?", "options": ["a", "b"], "id": "q1"}\n\n{"question": "What happens?"}\n',
        '\ufeff{"question": "Who?", "options": ["a", "b"], "id": "q1"}\r\n{"question": "What happens?"}',
    ],
    ids=["json", "jsonl", "jsonl from windows"],
)
def test_questions_are_read(tmp_path: Path, content: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(content, encoding="utf-8")
    assert read_questions(file) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " holds no questions"),
        ("[]", " holds no questions"),
        ('[{"question": "Who?"', " is not valid JSON: Expecting ',' delimiter: line 1"),
        ('{"question": "Who?"}\n{"question"', ", line 2 is not valid JSON: Expecting ':' delimiter"),
        ('["Who?"]', ", row 1 is 'Who?', not an object with named fields"),
        (
            '\n{"options": ["a", "b"]}',
            " has no column for question: it has 'options'; looked for 'question', 'questiontext', 'q'",
        ),
        ('[{"question": 3}]', ", row 1, field 'question': 3 is not text; put it in quotes"),
        ('[{"question": "Who?", "options": "ab"}]', ", row 1, field 'options': 'ab' is not a list of texts such as"),
        ('[{"question": "Who?", "options": ["a", null]}]', ", row 1: option B is None, not text; put it in quotes"),
        ('[{"question": "Who?", "option": ["a"]}]', " has a column 'option' of no known meaning; rename it 'options'"),
        ('[{"question": "Who?", "options": ["a"]}]', ", row 1: 1 option given; give none, or 2 to 26"),
        ('[{"question": "Who?"}, {"question": " "}]', ", row 2, field 'question': is missing; every row of this kind"),
    ],
)
def test_row_that_cannot_be_asked_is_named_by_file_row_and_field(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "questions.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_questions(file)
    assert str(raised.value).startswith(f"{file}{message}")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as missing:
        read_questions(tmp_path / "none.json")
    assert str(missing.value) == f"cannot read {tmp_path / 'none.json'}: No such file or directory"
    (tmp_path / "picture.json").write_bytes(b"[\xff")
    with pytest.raises(UserError) as binary:
        read_questions(tmp_path / "picture.json")
    assert str(binary.value).endswith("picture.json is not UTF-8 text (byte 1); save it as UTF-8")


@pytest.mark.parametrize(
    "content",
    [
        ",Question,Option A,Option B,ID,Answer\n0,Who?,a,b,q1,A\n1,What happens?,,,,\n",
        "\ufeffquestion;options;id\nWho?;['a', 'b'];q1\nWhat happens?;;\n",
        "video\tquestion\tchoice1\tchoice2\tqid\nclip\tWho?\ta\tb\tq1\nclip\tWhat happens?\n",
    ],
    ids=["pandas", "semicolons", "tabs"],
)
def test_questions_may_be_a_table(tmp_path: Path, content: str) -> None:
    file = tmp_path / "questions.csv"
    file.write_text(content, encoding="utf-8")
    assert read_questions(file) == EXPECTED


VIDEOS = [
    {"video": "a.mp4", "question": "Who?"},
    {"video": "day 1/a", "question": "What?"},
    {"video": "b", "question": "Where?"},
    {"question": "When?"},
]


@pytest.mark.parametrize(
    ("video", "asked", "others"),
    [("a.mp4", ["Who?", "When?"], 2), ("day 1/a.mkv", ["What?", "When?"], 2), ("b.mp4", ["Where?", "When?"], 2)],
)
def test_questions_of_a_video_are_found_by_its_file_name(
    video: str, asked: list[str], others: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(VIDEOS), encoding="utf-8")
    assert [question.text for question in read_questions(file, video=tmp_path / video)] == asked
    name = Path(video).name
    assert capsys.readouterr().err == f"note: {file}: 2 questions about {name}, {others} about other videos left out\n"


def test_a_file_about_one_video_of_another_name_is_asked_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("video,question\nv_1,Who?\n", encoding="utf-8")
    assert [question.text for question in read_questions(file, video=tmp_path / "my.mp4")] == ["Who?"]
    assert capsys.readouterr().err == f"note: {file} asks about 'v_1'; my.mp4 is asked\n"


def test_start_and_end_are_times_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("question,start,end\nWho?,0:30,35\nWhat?,1:00:00,\nWhere?,,\n", encoding="utf-8")
    clips = [question.clip for question in read_questions(file)]
    assert clips == [Span(30, 35), Span(3600, float("inf")), None]
    file.write_text("question,start\nWho?,0:75\n", encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_questions(file)
    assert str(raised.value) == f"{file}, line 2, field 'start': '0:75' is no time; give seconds, mm:ss or hh:mm:ss"

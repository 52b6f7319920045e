"""Files of questions."""

from pathlib import Path

import pytest

from lavis.cli.answer import read_questions
from lavis.common.errors import UserError
from lavis.common.types import Question

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
        ('[{"question": "Who?", "options": ["a"]}]', ", row 1: 1 options given; give none, or 2 to 26"),
        ('[{"question": "Who?"}, {"question": " "}]', ", row 2, field 'question': is missing; every row of this kind"),
        (
            '[{"question": "Who?", "video": "a"}, {"question": "Who?", "video": "b"}]',
            " asks about 2 videos, such as 'a', 'b'; give a file for each, or use: sevila prepare custom",
        ),
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

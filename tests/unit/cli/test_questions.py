"""Files of questions."""

from pathlib import Path

import pytest

from lavis.cli.questions import read_questions
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
        ('[{"question": "Who?"', ": line 1 is not valid JSON (Expecting ',' delimiter)"),
        ('{"question": "Who?"}\n{"question"', ": row 2 is not valid JSON (Expecting ':' delimiter)"),
        ('["Who?"]', ": row 1: an object with the field 'question' is needed, not 'Who?'"),
        ('\n{"options": ["a", "b"]}', ": row 2: the key 'question' is missing"),
        ('[{"question": 3}]', ": row 1: question: str is needed, not 3"),
        ('[{"question": "Who?", "options": "ab"}]', ": row 1: options: tuple is needed, not 'ab'"),
        ('[{"question": "Who?", "options": ["a", 2]}]', ": row 1: options: str is needed, not 2"),
        ('[{"question": "Who?", "option": ["a"]}]', ": row 1: unknown key 'option'; did you mean 'options'?"),
        ('[{"question": "Who?", "options": ["a"]}]', ": row 1: 1 options given; give none, or 2 to 26"),
        ('[{"question": "Who?"}, {"question": " "}]', ": row 2: the question is empty; give some text"),
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
    assert str(missing.value) == f"cannot read the questions in {tmp_path / 'none.json'}: No such file or directory"
    (tmp_path / "picture.json").write_bytes(b"[\xff")
    with pytest.raises(UserError) as binary:
        read_questions(tmp_path / "picture.json")
    assert str(binary.value).endswith("picture.json: not UTF-8 text (byte 1)")

"""The questions of a command line: one as arguments, or several in a file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis.common.config import from_mapping
from lavis.common.errors import QuestionError
from lavis.common.types import Question
from lavis.models.pipeline import check_question


@dataclass(frozen=True)
class QuestionRow:
    """A row of a questions file; without options the answer is open."""

    question: str
    options: tuple[str, ...] = ()
    id: str = ""


def read_questions(path: Path) -> list[Question]:
    """Read a JSON list of `QuestionRow`, or JSONL with one per line.

    Raises:
        UserError: the file cannot be read, or holds a row that cannot be asked; the message names
            file, row (JSONL: line) and field.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise QuestionError(f"cannot read the questions in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"cannot read the questions in {path}: not UTF-8 text (byte {error.start})") from error
    questions = [_question(row, place=f"{path}: row {number}") for number, row in _rows(text, path)]
    if not questions:
        raise QuestionError(f"{path} holds no questions")
    return questions


def _rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield numbered rows, counted from 1."""
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), start=1)
        except json.JSONDecodeError as error:
            raise QuestionError(f"{path}: line {error.lineno} is not valid JSON ({error.msg})") from error
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise QuestionError(f"{path}: row {number} is not valid JSON ({error.msg})") from error


def _question(row: Any, *, place: str) -> Question:
    if not isinstance(row, dict):
        raise QuestionError(f"{place}: an object with the field 'question' is needed, not {row!r:.60}")
    read = from_mapping(QuestionRow, row, place=place)
    question = Question(text=read.question, options=read.options, id=read.id)
    try:
        check_question(question)
    except QuestionError as error:
        raise QuestionError(f"{place}: {error}") from error
    return question

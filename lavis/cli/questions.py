"""The questions of a command line: one as arguments, or several in a file."""

from pathlib import Path

from lavis.common.errors import QuestionError
from lavis.common.types import Question
from lavis.datasets.own_rows import OwnRow, own_row, require_columns
from lavis.datasets.records import read_records
from lavis.models.pipeline import check_question


def read_questions(path: Path) -> list[Question]:
    """Read a table (`.csv`, `.tsv`, `.parquet`), JSON or JSONL of questions; a row without options is an open question.

    Columns are named as in `lavis.datasets.own_rows`. Answers are not read: the video is asked.

    Raises:
        UserError: the file cannot be read, or holds a row that cannot be asked; the message names file, row (or line)
            and field.
    """
    rows = [own_row(record) for record in read_records(path)]
    if not rows:
        raise QuestionError(f"{path} holds no questions")
    require_columns(path, rows, "question")
    videos = dict.fromkeys(row.record.name("video") for row in rows if row.record.has("video"))
    if len(videos) > 1:
        raise QuestionError(
            f"{path} asks about {len(videos)} videos, such as {', '.join(map(repr, list(videos)[:2]))}; "
            "give a file for each, or use: sevila prepare custom"
        )
    return [_question(row) for row in rows]


def _question(row: OwnRow) -> Question:
    record = row.record
    question = Question(record.text("question"), row.options, id=record.id("qid") if record.has("qid") else "")
    try:
        check_question(question)
    except QuestionError as error:
        raise QuestionError(f"{record.path}, {record.unit} {record.number}: {error}") from error
    return question

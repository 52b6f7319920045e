"""Questions and queries that the command is given: words, files of several formats, and standard input."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from lavis.cli.common import note
from lavis.common.errors import ConfigError, QuestionError, UserError, counted
from lavis.common.types import Question, Span
from lavis.datasets.records import Record, is_blank, read_records, read_text, text_records
from lavis.datasets.videos import EXTENSIONS
from lavis.processors.prompts import check_question
from sevila_data.own_rows import OwnRow, own_row, require_columns

_STDIN = Path("-")
_MOST_BYTES = 100_000_000  # of standard input, which may never end
_ROWS = {".json", ".jsonl", ".csv", ".tsv", ".parquet"}


def asked_questions(args: argparse.Namespace) -> list[Question]:
    """Return the questions of `sevila answer`.

    Raises:
        UserError: there is none, it cannot be asked, or it stands where the video should.
    """
    check_order(args.video, [args.question] if args.question else [])
    if args.questions is None:
        if args.question is None:
            raise ConfigError("no question; give QUESTION, or several with --questions FILE")
        question = Question(text=args.question, options=tuple(args.option))
        check_question(question)
        return [question]
    if args.question is not None or args.option:
        raise ConfigError("--questions brings its own questions and options; leave out QUESTION and --option")
    return read_questions(args.questions, video=args.video)


def asked_queries(args: argparse.Namespace) -> list[Question]:
    """Return the queries of `sevila find`, as questions without options.

    Raises:
        UserError: there is none, it is empty, or it stands where the video should.
    """
    check_order(args.video, args.query)
    queries = [Question(text=text) for text in args.query]
    if args.queries is not None:
        queries += read_queries(args.queries, video=args.video)
    if not queries:
        raise ConfigError("no query; give QUERY, or several with --queries FILE")
    for query in queries:
        check_question(query)
    if len(args.query) > 2 and not any(" " in text.strip() for text in args.query):
        note(f"{counted(len(args.query), 'query', 'queries')} of one word each; put a sentence in quotes")
    return queries


def check_order(video: Path, texts: Sequence[str]) -> None:
    """Refuse a video that is none where a question is one.

    Raises:
        ConfigError: they are swapped.
    """
    if not video.exists() and (swapped := [text for text in texts if is_file(text)]):
        raise ConfigError(f"VIDEO is {str(video)!r}, which is no file, but {swapped[0]!r} is one; give the video first")


def is_file(text: str) -> bool:
    """Say whether a text names a file or folder that is there."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or with a null character
        return False


def read_questions(path: Path, *, video: Path | None = None) -> list[Question]:
    """Read a table (`.csv`, `.tsv`, `.parquet`), JSON or JSONL of questions; a row without options is an open question.

    Columns are named as in `sevila_data.own_rows`; `start` and `end` are the part of the video that is asked about. A
    row may also be a video with a list `questions`, as the shipped `questions.json` has them. Answers are not read: the
    video is asked. "-" is standard input.

    Args:
        video: of a file about several videos, the questions about this one are returned, by file name, and it is said
            how many were left out.

    Raises:
        UserError: the file cannot be read, asks about other videos only, or holds a row that cannot be asked; the
            message names file, row (or line) and field.
    """
    rows = [own_row(record) for record in _flat(_records(path))]
    if not rows:
        raise QuestionError(f"{_named(path)} holds no questions")
    require_columns(_named(path), rows, "question")
    return [_question(row, "question") for row in _about(rows, video, path)]


def read_queries(path: Path, *, video: Path | None = None) -> list[Question]:
    """Read queries: a text with one in each line, or rows as `read_questions` takes them with a field `query`.

    Raises:
        UserError: as `read_questions`.
    """
    text = None if path.suffix.lower() in _ROWS else _text(path)
    if text is not None and text.lstrip()[:1] not in ("[", "{"):
        return [Question(text=line.strip()) for line in text.splitlines() if line.strip()]
    rows = [own_row(record) for record in _flat(_records(path, text))]
    require_columns(_named(path), rows, "query", "question")
    return [_question(row, "query" if row.record.has("query") else "question") for row in _about(rows, video, path)]


def _named(path: Path) -> Path:
    return Path("standard input") if path == _STDIN else path


def _text(path: Path) -> str:
    if path != _STDIN:
        return read_text(path)
    content = sys.stdin.buffer.read(_MOST_BYTES + 1) if sys.stdin is not None else b""
    if len(content) > _MOST_BYTES:
        raise UserError(f"standard input has more than the {_MOST_BYTES:,} bytes that are read; give a file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from error


def _records(path: Path, text: str | None = None) -> Iterable[Record]:
    if path != _STDIN and text is None:
        return read_records(path)
    text = _text(path) if text is None else text
    return text_records(_named(path), text, is_table=bool(text.strip()) and text.lstrip()[0] not in "[{")


def _flat(records: Iterable[Record]) -> Iterator[Record]:
    """Yield rows, each of a list `questions` with what stands beside the list."""
    for record in records:
        inner = record.fields.get("questions")
        if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
            yield record
            continue
        shared = {name: value for name, value in record.fields.items() if name != "questions"}
        for one in inner:
            fields: dict[str, Any] = {**shared, **one}
            if isinstance(window := fields.get("window"), list):  # of the answer, which is not told
                fields |= {"windows": [window]}
                del fields["window"]
            yield replace(record, fields=fields)


def _about(rows: Sequence[OwnRow], video: Path | None, path: Path) -> list[OwnRow]:
    """Return the rows about this video, or all where the file names one video only or none."""
    names = list(dict.fromkeys(row.record.name("video") for row in rows if row.record.has("video")))
    if video is None or not names:
        return list(rows)
    fitting = {name for name in names if _is_same(name, video)}
    if not fitting and len(names) == 1:
        note(f"{_named(path)} asks about {names[0]!r}; {video.name} is asked")
        return list(rows)
    if not fitting:
        shown = ", ".join(map(repr, names[:2]))
        raise QuestionError(
            f"{_named(path)} asks about {counted(len(names), 'video')}, such as {shown}; none is {video.name!r}"
        )
    kept = [row for row in rows if not row.record.has("video") or row.record.name("video") in fitting]
    if others := len(rows) - len(kept):
        note(
            f"{_named(path)}: {counted(len(kept), 'question')} about {video.name}, {others} about other videos left out"
        )
    return kept


def _is_same(name: str, video: Path) -> bool:
    """Tell whether a row's video, with or without folders and ending, is this file."""
    wanted, path = PurePosixPath(name), video.absolute()
    if wanted.suffix.lower() not in EXTENSIONS:
        path = path.with_name(path.stem if path.suffix.lower() in EXTENSIONS else path.name)
    return path.parts[-len(wanted.parts) :] == wanted.parts if wanted.parts else False


def _question(row: OwnRow, field: str) -> Question:
    record = row.record
    question = Question(
        record.text(field), row.options, id=record.id("qid") if record.has("qid") else "", clip=_clip(record)
    )
    try:
        check_question(question)
    except QuestionError as error:
        raise QuestionError(f"{record.path}, {record.unit} {record.number}: {error}") from error
    return question


def _clip(record: Record) -> Span | None:
    given = [name for name in ("start", "end") if record.has(name) and not is_blank(record.value(name))]
    if not given:
        return None
    start_s = record.seconds("start") if "start" in given else 0.0
    return Span(start_s, record.seconds("end") if "end" in given else float("inf"))

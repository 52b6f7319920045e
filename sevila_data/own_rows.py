"""Rows of questions as people and their tools write them: what columns mean, and which option an answer means.

The README beside this file describes both. What may mean two things is never guessed: other rows decide, or it is an
error.
"""

import ast
import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError, listed
from lavis.datasets.annotations import WRITTEN_FIELDS
from lavis.datasets.records import Record, id_text, is_blank, read_records, shown

# What each field is called elsewhere, without case, spaces and signs; the first that is there counts.
_OTHER_NAMES = {
    "video": ("video", "videoid", "vid", "videoname", "videofile", "videopath", "vidname", "filename", "file"),
    "qid": ("qid", "questionid", "id"),
    "question": ("question", "questiontext", "q"),
    "answer": ("answer", "correctanswer", "correctoption", "correct", "answeridx", "answerindex", "answerid", "label"),
    "type": ("type", "questiontype", "qtype"),
    "start": ("start", "starts", "startsec", "starttime"),
    "end": ("end", "ends", "endsec", "endtime"),
    "duration": ("duration", "durations", "durationsec"),
    "options": ("options", "choices", "candidates"),
}
_OPTION_NAME = re.compile(r"(option|opt|choice|candidate|answer|ending|a|)(\d{1,2}|[a-z])")
_SURE_NAMES = ("option", "opt", "choice", "a")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTER = re.compile(r"(?:option|choice)?\s*[(\[]?\s*([a-z])\s*[)\]]?[.:]?", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(r"(?:option\s+)?[(\[]?([a-z])[)\].:]+\s*(\S.*)", re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_ARRAY = re.compile(rf"\[\s*((?:{_QUOTED.pattern})(?:\s+(?:{_QUOTED.pattern}))+)\s*\]")
_LONGEST_CELL = 100_000
_NO_ANSWER = {"nan", "na", "n/a", "null", "none"}

BY_TEXT, BY_LETTER, BY_COLUMN = "its text", "its letter", "its column"
FROM_0, FROM_1 = "its number from 0", "its number from 1"


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a file mean.

    Attributes:
        names: the schema's field for each column that has a meaning.
        options: the columns of options, in order.
        from_1: options are numbered, and from 1.
    """

    names: Mapping[str, str]
    options: tuple[str, ...]
    from_1: bool


@dataclasses.dataclass(frozen=True)
class OwnRow:
    """A row under the schema's names, and its options.

    Attributes:
        record: without the options, and without cells that are blank.
        options: texts, in order; empty where none are given.
        found: the file's own names of columns.
    """

    record: Record
    options: tuple[Any, ...]
    columns: Columns
    found: tuple[str, ...]


def own_row(record: Record) -> OwnRow:
    """Give the fields of a row their names in the schema.

    Raises:
        AnnotationError: a column may be a misspelt one, options are given twice or leave one out, or are no list.
    """
    columns = _columns(tuple(record.fields), record.path)
    written = {name: column for column, name in columns.names.items()}
    fields = {name: record.fields[column] for name, column in written.items()}
    named = {name: value for name, value in fields.items() if not is_blank(value)}
    row = dataclasses.replace(record, fields=named, written=written)
    return OwnRow(row, _options(row, record, columns), columns, tuple(record.fields))


def schema_named(record: Record) -> Record:
    """Return a row under the schema's names, with its options as a0, a1, ...

    Raises:
        AnnotationError: see `own_row`.
    """
    row = own_row(record)
    options = {f"a{at}": option for at, option in enumerate(row.options)}
    return dataclasses.replace(row.record, fields={**row.record.fields, **options})


def readable_rows(path: Path) -> list[OwnRow]:
    """Return the rows of a file that can be read, to see how it is written; the others are told when they are used.

    Raises:
        AnnotationError: the file itself cannot be read.
    """
    rows = []
    for record in read_records(path):
        with suppress(AnnotationError):
            rows.append(own_row(record))
    return rows


@lru_cache(maxsize=256)
def _columns(found: tuple[str, ...], path: Path) -> Columns:
    plain = {column: _plain(column) for column in found}
    names: dict[str, str] = {}
    for field in (*WRITTEN_FIELDS, "options"):
        known = _OTHER_NAMES.get(field, (field.replace("_", ""),))
        fitting = [column for column in found if plain[column] in known]
        if fitting:
            # The schema's own name before all others, then the order of the list.
            best = min(fitting, key=lambda column: (column != field, known.index(plain[column])))
            names[best] = field
    options, from_1 = _option_columns({column: name for column, name in plain.items() if column not in names}, path)
    unknown = {plain[column]: column for column in found if column not in {*names, *options}}
    _refuse_misspelt(unknown, {**names, **({"": "options"} if options else {})}, path)
    return Columns(names, options, from_1)


def _refuse_misspelt(unknown: Mapping[str, str], names: Mapping[str, str], path: Path) -> None:
    missing = [field for field in (*WRITTEN_FIELDS, "options") if field not in names.values()]
    for name, column in unknown.items():
        nearest = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
        if nearest:
            way_out = f"rename it {nearest[0]!r} if it is that, or leave it out"
            raise AnnotationError(f"{path} has a column {column!r} of no known meaning; {way_out}")


def require_columns(path: Path, rows: Sequence[OwnRow], *fields: str) -> None:
    """Refuse a file in which no row has any of these fields, which one of them must have.

    Args:
        fields: of the schema, or "options".

    Raises:
        AnnotationError: no row has one; the message lists the columns and what was looked for.
    """
    given = (row.options if field == "options" else row.record.has(field) for row in rows for field in fields)
    if not rows or any(given):
        return
    found = dict.fromkeys(column for row in rows for column in row.found)
    names = [name for field in fields for name in _OTHER_NAMES.get(field, (field,))]
    if "options" in fields:
        names += ["a0, a1, ...", "A, B, ...", "Option A, Option B, ...", "choice1, choice2, ..."]
    raise AnnotationError(
        f"{path} has no column for {' or '.join(fields)}: it has {listed(found)}; looked for {listed(names)}"
    )


def _option_columns(plain: Mapping[str, str], path: Path) -> tuple[tuple[str, ...], bool]:
    """Find the columns of options among those left, and say whether they are numbered from 1."""
    families: dict[tuple[str, bool], dict[int, str]] = {}
    for column, name in plain.items():
        match = _OPTION_NAME.fullmatch(name)
        if match:
            place = int(match[2]) if match[2].isdigit() else _LETTERS.index(match[2])
            families.setdefault((match[1], match[2].isdigit()), {})[place] = column
    # A lone column "B" or "answer 1" may be anything; a lone "option 1" is an option without others.
    complete = {
        kind: family
        for kind, family in families.items()
        if min(family) <= kind[1] and (len(family) > 1 or kind[0] in _SURE_NAMES)
    }
    if not complete:
        return (), False
    if len(complete) > 1:
        first = [repr(family[min(family)]) for family in complete.values()]
        raise AnnotationError(f"{path} gives options twice: from {' and from '.join(first)} on; keep one of them")
    ((_, is_numbered), family), start = next(iter(complete.items())), min(next(iter(complete.values())))
    if sorted(family) != list(range(start, start + len(family))):
        raise AnnotationError(f"{path} leaves an option out between its columns {listed(family.values())}")
    return tuple(family[place] for place in sorted(family)), is_numbered and start == 1


def _options(row: Record, record: Record, columns: Columns) -> tuple[Any, ...]:
    cells = [record.fields[column] for column in columns.options]
    while cells and is_blank(cells[-1]):
        cells.pop()
    if row.has("options"):
        listed_options = tuple(_as_text(option) for option in _option_list(row))
        if cells and tuple(map(_as_text, cells)) != listed_options:
            raise row.error("options", f"differs from the columns {listed(columns.options)}; keep one of them")
        return listed_options
    for column, cell in zip(columns.options, cells, strict=False):
        if is_blank(cell):
            raise record.error(column, "is blank, and options after it are not; give its text or move them up")
    return tuple(map(_as_text, cells))


def _as_text(option: Any) -> Any:
    return str(option) if isinstance(option, (int, float)) else option


def _option_list(row: Record) -> Sequence[Any]:
    value = row.value("options")
    if isinstance(value, str):
        value = parsed_cell(value)
    if isinstance(value, dict):
        columns, _ = _option_columns({name: str(name).strip().casefold() for name in value}, row.path)
        value = [value[name] for name in columns] if len(columns) == len(value) else None
    if not isinstance(value, (list, tuple)):
        raise row.error("options", f'{shown(row.value("options"))} is not a list of texts such as ["red", "blue"]')
    return value


def parsed_cell(text: str) -> Any:
    """Read a list in a cell, as JSON, Python or NumPy (and so pandas) writes it; None if it is none of these."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        if len(text) > _LONGEST_CELL:
            return None
        # NumPy writes no commas, and Python joins adjacent texts.
        array = _ARRAY.fullmatch(text.strip())
        if array:
            return [ast.literal_eval(match[0]) for match in _QUOTED.finditer(array[1])]
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def readings(row: OwnRow) -> dict[str, set[int]]:
    """Return what the row's answer may mean: for each way to write one, the options it may be. Empty without answer."""
    value, options = row.record.fields.get("answer"), row.options
    if value is None or not options:
        return {}
    is_text = isinstance(value, str)
    text, number = str(value).strip(), _number(value)
    found = {
        # A number is not compared with texts.
        BY_TEXT: _by_text(text, options) if is_text else set(),
        BY_LETTER: _by_letter(text, options) if is_text else set(),
        BY_COLUMN: _by_column(text, row.columns) if is_text else set(),
        FROM_0: {number} if number is not None else set(),
        FROM_1: {number - 1} if number is not None and row.columns.from_1 else set(),
    }
    within = {way: {at for at in meant if 0 <= at < len(options)} for way, meant in found.items()}
    return {way: meant for way, meant in within.items() if meant}


def _number(value: Any) -> int | None:
    text = id_text(value)
    text = text.strip("()[] ") if text is not None else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else None


def _by_text(text: str, options: Sequence[Any]) -> set[int]:
    texts = [str(option).strip() for option in options]
    exact = {at for at, option in enumerate(texts) if option == text}
    return exact or {at for at, option in enumerate(texts) if option.casefold() == text.casefold()}


def _by_letter(text: str, options: Sequence[Any]) -> set[int]:
    match = _LETTER.fullmatch(text)
    if match:
        return {_LETTERS.index(match[1].lower())}
    match = _LETTER_AND_TEXT.fullmatch(text)
    return {_LETTERS.index(match[1].lower())} & _by_text(match[2].strip(), options) if match else set()


def _by_column(text: str, columns: Columns) -> set[int]:
    name = _plain(text)
    # A lone letter or number is an answer by letter or by number.
    return {at for at, column in enumerate(columns.options) if _plain(column) == name} if len(name) > 1 else set()


def _plain(name: object) -> str:
    return re.sub(r"[\W_]", "", str(name)).casefold()


def ways_of(rows: Iterable[OwnRow]) -> frozenset[str]:
    """Return the ways in which answers of a file are surely written: those of answers that have no other reading.

    Raises:
        AnnotationError: numbers seem to count from 1: one is the number of options, and none is 0.
    """
    ways: set[str] = set()
    numbers: set[int | None] = set()
    beyond: Record | None = None
    for row in rows:
        found = readings(row)
        if len(found) == 1:
            ways |= found.keys()
        number = _number(row.record.fields.get("answer"))
        numbers.add(number)
        if not found and number == len(row.options) > 0:
            beyond = row.record
    if beyond is not None and 0 not in numbers:
        value = shown(beyond.value("answer"))
        raise beyond.error(
            "answer",
            f"{value} is the number of options, and no answer is 0: do answers count from 1? "
            "subtract 1, as they count from 0, or write letters from A",
        )
    return frozenset(ways)


def answer_index(row: OwnRow, ways: frozenset[str]) -> int | None:
    """Return the index of the option that a row's answer means; None if it has no answer.

    Args:
        ways: how other rows of the file write answers (`ways_of`); decides where an answer may mean several options.

    Raises:
        AnnotationError: it means none of the options, or may mean several.
    """
    value = row.record.fields.get("answer")
    found = readings(row)
    meant = set().union(*found.values())
    if not meant:
        if value is None or not row.options or str(value).strip().casefold() in _NO_ANSWER:
            return None
        way_out = "give an index from 0, a letter from A, or its text"
        raise row.record.error("answer", f"{shown(value)} is none of the options; {way_out}")
    if len(meant) > 1:
        meant = set().union(*(options for way, options in found.items() if way in ways))
    if len(meant) != 1:
        may_be = " or ".join(
            f"{shown(row.options[at])} by {way}" for way, options in found.items() for at in sorted(options)
        )
        raise row.record.error(
            "answer",
            f"{shown(value)} may mean several options: {may_be}; no other row tells, so write the letter as (A)",
        )
    return meant.pop()

"""Rows of JSON, JSONL, CSV and Parquet files that know where they stand, so that a bad one can be named."""

import codecs
import csv
import io
import json
import logging
import math
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError, ConfigError, MissingExtraError, listed
from lavis.common.times import parse_time

logger = logging.getLogger(__name__)

TABLE_ENDINGS = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t", "|")
# How pandas names a column without a name when it reads one.
_NAMELESS = re.compile(r"(Unnamed: [\d.]+)?")
# A last line that is appended: if a quotation is never closed, this line ends up inside of its cell.
_END = "\x1e\x1e"
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)

Row = tuple[int, list[str]]

_ENCODINGS = (
    # 32 bits first: their mark starts with the mark of 16 bits.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Where tools put the rows of a JSON object.
_ROWS_FIELDS = ("data", "rows", "questions", "annotations")
_WHOLE_WITH_POINT = re.compile(r"(-?[0-9]+)\.0+")
_WHOLE = re.compile(r"[0-9]+")
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60


def shown(value: object) -> str:
    """Return a value for an error message: one line, shortened if long."""
    return _SHOWN.repr(value)


def is_blank(value: object) -> bool:
    """Say whether a cell is empty, in the ways in which files say so: null, no text, or pandas' NaN."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def id_text(value: object) -> str | None:
    """Return an id as text, the same for 7, "7", 7.0 and "7.0".

    pandas makes floats of whole numbers that stand beside empty cells. None if it is neither text nor a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    text = str(value).strip()
    match = _WHOLE_WITH_POINT.fullmatch(text)
    return match[1] if match else text


@dataclass(frozen=True, slots=True)
class Record:
    """One row and its place in a file.

    The getters return a field in the type asked for, or raise an AnnotationError that names place, field, value and
    way out where it is missing, null or anything else.

    Attributes:
        number: counts from 1.
        unit: what `number` counts: lines of the file, or rows where lines mean nothing.
        written: for fields that the file names otherwise, its own names.
    """

    fields: Mapping[str, Any]
    path: Path
    number: int
    unit: str = "line"
    written: Mapping[str, str] = field(default_factory=dict)

    def error(self, field: str, problem: str) -> AnnotationError:
        """Return the error that names file, line and field."""
        named = self.written.get(field, field)
        return AnnotationError(f"{self.path}, {self.unit} {self.number}, field {named!r}: {problem}")

    def has(self, field: str) -> bool:
        """Say whether the field is there and not null."""
        return self.fields.get(field) is not None

    def value(self, field: str) -> Any:
        """Return the field as it is."""
        if not self.has(field):
            found = [self.written.get(name, name) for name, value in self.fields.items() if not is_blank(value)]
            raise self.error(field, f"is missing; every row of this kind needs it, this one has {listed(found)}")
        return self.fields[field]

    def text(self, field: str) -> str:
        """Return text that is not blank and can be written as UTF-8, exactly as it is."""
        value = self.value(field)
        if not isinstance(value, str):
            raise self.error(field, f"{shown(value)} is not text; put it in quotes")
        if not value.strip():
            raise self.error(field, "is blank; give its text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(field, f"{shown(value)} holds half a surrogate pair; mend its encoding") from None
        return value

    def name(self, field: str) -> str:
        """Return an identifier, which may be written as text or as a whole number."""
        value = self.value(field)
        return self.text(field) if isinstance(value, str) else id_text(value) or self.text(field)

    def id(self, field: str) -> str:
        """Return an identifier that other files may write otherwise: 7, "7", 7.0 and "7.0" are the same."""
        return id_text(self.name(field)) or ""

    def whole(self, field: str) -> int:
        """Return a whole number, which may be written as text or with a point (1.0)."""
        value = self.value(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        written = id_text(value)
        if written is not None and len(written) < 20 and _WHOLE.fullmatch(written):
            return int(written)
        raise self.error(field, f"{shown(value)} is not a whole number; write it as one")

    def time_or_nan(self, field: str) -> float:
        """Return a time in seconds, which may be written as a clock shows it, and may be "nan" or below 0."""
        return self._as_time(field, self.value(field))

    def seconds(self, field: str) -> float:
        """Return a time in seconds, a finite number from 0; it may be written as mm:ss or hh:mm:ss."""
        return self.as_seconds(field, self.value(field))

    def as_number(self, field: str, value: object) -> float:
        """Read a part of a field as a number."""
        number = math.inf
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = math.inf
        if math.isinf(number):
            raise self.error(field, f"{shown(value)} is not a finite number; write it as one")
        return number

    def as_seconds(self, field: str, value: object) -> float:
        """Read a part of a field as a time; see `seconds`."""
        number = self._as_time(field, value)
        if math.isnan(number) or number < 0:
            raise self.error(field, f"{shown(value)} is not a time in seconds; give a number from 0")
        return number

    def _as_time(self, field: str, value: object) -> float:
        if not isinstance(value, str) or ":" not in value:
            return self.as_number(field, value)
        try:
            return parse_time(value)
        except ConfigError as error:
            raise self.error(field, str(error)) from None


def read_records(path: str | Path) -> Iterator[Record]:
    """Read the rows of a `.csv`, `.tsv` or `.parquet` file, or of any other file as JSON or as JSONL.

    JSON is a list of rows, or an object that holds them as pandas and others write it: in a field "data", "rows",
    "questions" or "annotations", or column by column.

    Raises:
        AnnotationError: the file cannot be read, or a part of it is not of its format.
        MissingExtraError: it is a Parquet file and pyarrow is not installed.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        return _parquet_records(path)
    return text_records(path, read_text(path), is_table=path.suffix.lower() in TABLE_ENDINGS)


def text_records(path: Path, text: str, *, is_table: bool) -> Iterator[Record]:
    """Return the rows of a text, as `read_records` reads it from a file; messages name `path`."""
    if is_table:
        return (Record(fields, path, number) for number, fields in table_rows(path, text))
    rows = _whole_json(path, text)
    if rows is None:
        return _jsonl_records(path, text)
    return (_object_record(fields, path, number, "row") for number, fields in enumerate(rows, start=1))


def read_object(path: str | Path) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Raises:
        AnnotationError: it cannot be read, or is something else.
    """
    path = Path(path)
    value = _parsed(read_text(path), str(path))
    if not isinstance(value, dict):
        raise AnnotationError(f"{path} holds a JSON {type(value).__name__}, not an object; is it the right file?")
    return value


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with the mark that says so.

    Raises:
        AnnotationError: there is no such file, or it is not such text.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), "utf-8-sig")
        return path.read_text(encoding=encoding)
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        named = encoding.removesuffix("-sig").upper()
        raise AnnotationError(f"{path} is not {named} text (byte {error.start}); save it as UTF-8") from error


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise AnnotationError(f"{place} is nested too deeply to be annotations") from None
    except ValueError as error:  # also an integer of thousands of digits
        raise AnnotationError(f"{place} is not valid JSON: {error}") from error


def _whole_json(path: Path, text: str) -> Sequence[object] | None:
    """Return the rows of a file that is one JSON value; None if it is JSONL."""
    if text.lstrip()[:1] == "[":
        rows: list[object] = _parsed(text, str(path))
        return rows
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    # An object on a single line is a row of JSONL.
    return _rows_of_object(value) or ([value] if "\n" in text.strip() else None)


def _rows_of_object(value: dict[str, Any]) -> Sequence[object] | None:
    """Return the rows that an object holds; None if it is itself a row."""
    columns, rows = value.get("columns"), next((value[name] for name in _ROWS_FIELDS if name in value), None)
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    if isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        return [dict(zip(columns, row, strict=False)) for row in rows]
    by_column = list(value.values())
    if by_column and all(isinstance(cells, dict) and cells.keys() == by_column[0].keys() for cells in by_column):
        return [{name: cells[key] for name, cells in value.items()} for key in by_column[0]]
    return None


def _jsonl_records(path: Path, text: str) -> Iterator[Record]:
    # Not splitlines(): JSON text may hold U+2028 and its like, which end no line.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _object_record(_parsed(line, f"{path}, line {number}"), path, number, "line")


def _object_record(fields: object, path: Path, number: int, unit: str) -> Record:
    if not isinstance(fields, dict):
        raise AnnotationError(f"{path}, {unit} {number} is {shown(fields)}, not an object with named fields")
    return Record(fields, path, number, unit)


def _parquet_records(path: Path) -> Iterator[Record]:
    try:
        import pyarrow.parquet as parquet
        from pyarrow import ArrowException
    except ImportError:
        raise MissingExtraError("pyarrow", "data") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise AnnotationError(f"cannot read {path} as Parquet: {shown(str(error))}") from error
    for number, fields in enumerate(rows, start=1):
        yield Record(fields, path, number, "row")


def table_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield for each row the number of its last line, from 1, and its cells by column; cells left out are None.

    The delimiter is the one that gives the first line the most cells, or what a line "sep=;" before it says. Columns
    without a name are left out, and warned of unless they count the rows; so is a first cell that counts the rows where
    no row has a column for it (R). Blank rows are skipped, also those of delimiters only.

    Raises:
        AnnotationError: two columns have one name, a row has more cells than the header, a quotation is not closed, or
            it is not CSV.
    """
    told = _DELIMITER_LINE.match(text)
    if told:
        # The line stays, so that lines are numbered as in the file, but it is blank.
        text = "\n" + text[told.end() :]
    order = ("\t", ",", ";", "|") if path.suffix.lower() == ".tsv" else _DELIMITERS
    delimiter = told[1] if told else max(order, key=lambda each: len(_header(path, text, each)))
    header = _header(path, text, delimiter)
    # Spaces belong to their cells, unless ", " separates all cells of the header.
    spaced = len(header) > 1 and all(cell.startswith(" ") for cell in header[1:])
    (_, header), *rows = list(_rows(path, text, delimiter, spaced=spaced)) or [(0, [])]
    columns = [cell.strip() for cell in header]
    rows = _without_row_names(rows, len(columns))
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise AnnotationError(f"{path} has two columns {twice[0]!r:.80}; its columns are {listed(columns)}")
    for number, cells in rows:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise AnnotationError(
                f"{path}, line {number} has more cells than the header; put text with commas in quotes"
            )
    _tell_nameless(path, columns, rows)
    for number, cells in rows:
        padded = [*cells, *[None] * (len(columns) - len(cells))]
        yield number, {name: padded[at] for at, name in enumerate(columns) if not _NAMELESS.fullmatch(name)}


def _header(path: Path, text: str, delimiter: str) -> list[str]:
    return next((cells for _, cells in _rows(path, text, delimiter, spaced=False)), [])


def _rows(path: Path, text: str, delimiter: str, *, spaced: bool) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(f"{text}\n{_END}", newline=""), delimiter=delimiter, skipinitialspace=spaced)
    start = 1
    try:
        for cells in reader:
            if cells and cells[-1].endswith(_END):
                if cells != [_END]:
                    raise AnnotationError(f"{path}, line {start} or later opens a quotation that never ends; close it")
                return
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num} is not valid CSV: {error}") from error


def _without_row_names(rows: list[Row], width: int) -> list[Row]:
    first = [cells[0] for _, cells in rows]
    counted = any(first == [str(at) for at in range(start, start + len(rows))] for start in (0, 1))
    if len(rows) > 1 and width > 1 and counted and all(len(cells) == width + 1 for _, cells in rows):
        return [(number, cells[1:]) for number, cells in rows]
    return rows


def _tell_nameless(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    for at, name in enumerate(columns):
        if _NAMELESS.fullmatch(name):
            cells = [cells[at].strip() for _, cells in rows if at < len(cells)]
            text = next((cell for cell in cells if cell and not cell.isdecimal()), None)
            if text is not None:
                logger.warning("%s: column %d has no name and is left out; it holds %.40r", path, at + 1, text)

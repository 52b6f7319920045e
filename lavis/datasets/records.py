"""Rows of JSON, JSONL, CSV and Parquet files that know where they stand, so that a bad one can be named."""

import csv
import io
import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError, MissingExtraError

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60


def shown(value: object) -> str:
    """Return a value for an error message: one line, cut if long."""
    return _SHOWN.repr(value)


@dataclass(frozen=True, slots=True)
class Record:
    """One row and its place in a file.

    The getters return a field in the type asked for.

    Attributes:
        number: counts from 1.
        unit: what `number` counts: lines of the file, or rows where lines mean nothing.
    """

    fields: Mapping[str, Any]
    path: Path
    number: int
    unit: str = "line"

    def error(self, field: str, problem: str) -> AnnotationError:
        """Return the error that names file, line and field."""
        return AnnotationError(f"{self.path}, {self.unit} {self.number}, field {field!r}: {problem}")

    def has(self, field: str) -> bool:
        """Say whether the field is there and not null."""
        return self.fields.get(field) is not None

    def value(self, field: str) -> Any:
        """Return the field as it is.

        Raises:
            AnnotationError: it is missing or null.
        """
        if not self.has(field):
            raise self.error(field, "is missing; every row of this kind needs it")
        return self.fields[field]

    def text(self, field: str) -> str:
        """Return text that is not blank, exactly as written.

        Raises:
            AnnotationError: it is missing, blank, not text, or not Unicode that can be written.
        """
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
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(field)

    def whole(self, field: str) -> int:
        """Return a whole number, which may be written as text.

        Raises:
            AnnotationError: it is missing or anything else.
        """
        value = self.value(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and len(value) < 20 and value.strip().isdecimal():
            return int(value)
        raise self.error(field, f"{shown(value)} is not a whole number; write it as one")

    def number_or_nan(self, field: str) -> float:
        """Return a number, which may be written as text and may be "nan"."""
        return self.as_number(field, self.value(field))

    def seconds(self, field: str) -> float:
        """Return a time in seconds.

        Raises:
            AnnotationError: it is missing, not a number, not finite, or negative.
        """
        return self.as_seconds(field, self.value(field))

    def as_number(self, field: str, value: object) -> float:
        """Read a part of a field as a number; see `number_or_nan`."""
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
        number = self.as_number(field, value)
        if math.isnan(number) or number < 0:
            raise self.error(field, f"{shown(value)} is not a time in seconds; give a number from 0")
        return number


def read_records(path: str | Path) -> Iterator[Record]:
    """Read the rows of a `.csv` or `.parquet` file, or of any other file as a JSON list or as JSONL.

    Raises:
        AnnotationError: the file cannot be read, or a part of it is not of its format.
        MissingExtraError: it is a Parquet file and pyarrow is not installed.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return _parquet_records(path)
    text = read_text(path)
    if path.suffix == ".csv":
        return _csv_records(path, text)
    return _json_list_records(path, text) if text.lstrip()[:1] == "[" else _jsonl_records(path, text)


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
    """Read a UTF-8 text file.

    Raises:
        AnnotationError: there is no such file, or it is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise AnnotationError(f"{place} is nested too deeply to be annotations") from None
    except ValueError as error:  # also an integer of thousands of digits
        raise AnnotationError(f"{place} is not valid JSON: {error}") from error


def _json_list_records(path: Path, text: str) -> Iterator[Record]:
    for number, fields in enumerate(_parsed(text, str(path)), start=1):
        yield _object_record(fields, path, number, "row")


def _jsonl_records(path: Path, text: str) -> Iterator[Record]:
    # Not splitlines(): JSON text may hold U+2028 and its like, which end no line.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _object_record(_parsed(line, f"{path}, line {number}"), path, number, "line")


def _object_record(fields: object, path: Path, number: int, unit: str) -> Record:
    if not isinstance(fields, dict):
        raise AnnotationError(f"{path}, {unit} {number} is {shown(fields)}, not an object with named fields")
    return Record(fields, path, number, unit)


def _csv_records(path: Path, text: str) -> Iterator[Record]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    try:
        for fields in reader:
            if "" in fields:
                raise AnnotationError(
                    f"{path}, line {reader.line_num} has more cells than the header; put text with commas in quotes"
                )
            yield Record(fields, path, reader.line_num)
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num} is not valid CSV: {error}") from error


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

"""What a converter is: which raw files a split is made from, what their rows are, and how one becomes a schema row."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from lavis.common.errors import ConfigError
from lavis.common.times import parse_time
from lavis.datasets.records import Record, is_blank, read_records, shown
from lavis.datasets.videos import EXTENSIONS
from sevila_data.own_rows import parsed_cell

Row = dict[str, Any]
"""A row of the schema in `sevila_data/README.md`."""

RowConverter = Callable[[Record, int], Row]
"""Makes a schema row of a raw row and its index in the split; raises `AnnotationError` for a row that it cannot."""


@dataclass(frozen=True, slots=True)
class RawSplit:
    """One split of a raw download.

    Attributes:
        folder: the raw download.
        name: train, val or test.
        files: the files that hold the split's questions, in order.
        videos: the folder of videos, where a converter looks at it.
        notes: what the converter tells about rows that it keeps but changes, with counts.
    """

    folder: Path
    name: str
    files: tuple[Path, ...]
    videos: Path | None
    notes: Counter[str]


def rows_of_files(raw: RawSplit) -> Iterator[Record]:
    """Read the rows of a split's files, of any format that `read_records` knows."""
    for file in raw.files:
        yield from read_records(file)


@dataclass(frozen=True, slots=True)
class RawDataset:
    """A benchmark's raw layout and its converter.

    Attributes:
        name: the name in commands and configurations.
        files: for each split the glob patterns of its files in the raw folder; the first that matches counts.
        converter: prepares the conversion of one split.
        rows: reads the raw rows of a split, where its files are of a format of their own.
    """

    name: str
    files: Mapping[str, tuple[str, ...]]
    converter: Callable[[RawSplit], RowConverter]
    rows: Callable[[RawSplit], Iterable[Record]] = rows_of_files


def row_by_row(convert: Callable[[Record, int, RawSplit], Row]) -> Callable[[RawSplit], RowConverter]:
    """Return the `converter` of a dataset whose rows are converted one by one, with nothing to prepare."""
    return lambda raw: lambda record, index: convert(record, index, raw)


def option_fields(options: Sequence[str]) -> Row:
    """Return the schema's fields for the options."""
    return {"num_option": len(options), **{f"a{index}": option for index, option in enumerate(options)}}


def answer_fields(record: Record, field: str) -> Row:
    """Return the schema's `answer` if the raw row has one (test splits often have none)."""
    return {} if is_blank(record.fields.get(field)) else {"answer": record.whole(field)}


def answer_of_text(record: Record, field: str, options: Sequence[str], notes: Counter[str]) -> int:
    """Return the index of the option that an answer repeats; the first one, with a note, if several do.

    Raises:
        AnnotationError: no option does.
    """
    answer = record.text(field)
    if answer not in options:
        raise record.error(field, f"{shown(answer)} is none of the options; mend the answer or the options")
    if options.count(answer) > 1:
        notes["the answer's text stands twice among the options: the first is taken as right"] += 1
    return options.index(answer)


_LETTERED = re.compile(r"\s*\(?([A-Z])[.):]\s*(.*)", re.DOTALL)


def option_texts(record: Record, field: str) -> list[str]:
    """Return a list of options, which may stand in a table's cell.

    Raises:
        AnnotationError: it is no list, or an option is blank.
    """
    value = record.value(field)
    given = parsed_cell(value) if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)):
        raise record.error(field, f'{shown(value)} is not a list of options such as ["red", "blue"]')
    texts = [str(option).strip() for option in given]
    if "" in texts:
        raise record.error(field, f"option {texts.index('') + 1} is blank; give its text")
    return texts


def lettered_options(record: Record, field: str) -> list[str]:
    """Return a list of options that are written with their letters, "A. Apples.", without them.

    Raises:
        AnnotationError: an option has no letter, or another one than its place has.
    """
    texts = []
    for letter, option in zip(ascii_uppercase, option_texts(record, field), strict=False):
        match = _LETTERED.fullmatch(option)
        if not match or match[1] != letter or not match[2]:
            raise record.error(field, f"{shown(option)} does not begin with its letter, '{letter}. '; mend the options")
        texts.append(match[2])
    return texts


def answer_of_letter(record: Record, field: str, options: Sequence[str]) -> int:
    """Return the index of the option that an answer names by its letter.

    Raises:
        AnnotationError: it is none of the options' letters.
    """
    answer = record.text(field).strip()
    letters = ascii_uppercase[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise record.error(field, f"{shown(answer)} is none of the letters A to {letters[-1:]} of the options")
    return letters.index(answer)


def without_ending(name: str) -> str:
    """Return the name of a video file without its ending, as annotations name videos."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix in EXTENSIONS else name


def clock_seconds(record: Record, field: str, value: object) -> float:
    """Read a time such as "00:01:02.5", "1:02" or "00:01:02,500" in seconds.

    Raises:
        AnnotationError: it is none.
    """
    try:
        if ":" in str(value):
            return parse_time(str(value))
    except ConfigError:
        pass
    raise record.error(field, f"{shown(value)} is not a time such as 00:01:02.5")


_NUMBER = r"(nan|[0-9]*\.?[0-9]+(?:e-?[0-9]+)?|[0-9]+\.)"
_RANGE = re.compile(rf"\s*{_NUMBER}\s*-\s*{_NUMBER}\s*", re.IGNORECASE)


def clip_fields(record: Record, field: str, notes: Counter[str]) -> Row:
    """Return the schema's `start` and `end` of a range such as "0.5-9.25"; neither, with a note, for "nan-nan".

    Raises:
        AnnotationError: it is not a range of seconds.
    """
    text = record.text(field)
    match = _RANGE.fullmatch(text)
    if not match:
        raise record.error(field, f"{shown(text)} is not a range of seconds such as '0.5-9.25'")
    if "nan" in text.lower():
        notes["no times given ('nan'): the question is about the whole video"] += 1
        return {}
    return {"start": float(match[1]), "end": float(match[2])}

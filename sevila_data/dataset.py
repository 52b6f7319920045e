"""What a converter is: which raw files a split is made from, and how one raw row becomes one of the schema."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis.datasets.records import Record, is_blank, shown

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


@dataclass(frozen=True, slots=True)
class RawDataset:
    """A benchmark's raw layout and its converter.

    Attributes:
        name: the name in commands and configurations.
        files: for each split the glob patterns of its files in the raw folder; the first that matches counts.
        converter: prepares the conversion of one split.
    """

    name: str
    files: Mapping[str, tuple[str, ...]]
    converter: Callable[[RawSplit], RowConverter]


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

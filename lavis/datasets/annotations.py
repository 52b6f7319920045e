"""Reading and writing annotation files: a JSON list of rows, or JSONL, one file per split.

The schema is described in `sevila_data/README.md` and checked in `lavis.datasets.annotation_row`.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError
from lavis.common.files import write_text
from lavis.common.types import Question
from lavis.datasets.annotation_row import Annotation, parse_row
from lavis.datasets.records import Record, read_records

__all__ = [
    "Annotation",
    "Annotations",
    "parse_row",
    "raise_bad_rows",
    "read_annotations",
    "repeated_id",
    "write_annotations",
]

logger = logging.getLogger(__name__)

_NAMED_BAD_ROWS = 3


@dataclass(frozen=True, slots=True)
class Annotations:
    """What an annotation file holds.

    Attributes:
        rows: in the file's order.
        skipped: for each row that was left out, its place and what is wrong with it.
    """

    path: Path
    rows: tuple[Annotation, ...]
    skipped: tuple[str, ...] = ()

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions alone."""
        return tuple(row.question for row in self.rows)

    @property
    def num_untimed(self) -> int:
        """How many questions are about the whole video because their times were "nan"."""
        return sum(row.untimed for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def read_annotations(path: str | Path, *, skip_bad: bool = False) -> Annotations:
    """Read and check an annotation file.

    Args:
        path: a JSON list of rows, or JSONL.
        skip_bad: leave rows out that do not fit the schema, and list them in `skipped`.

    Raises:
        AnnotationError: the file cannot be read or holds no usable row, or, without `skip_bad`, a row does not
            fit the schema or repeats an id.
    """
    rows: dict[str, Annotation] = {}
    bad: list[str] = []
    for record in read_records(path):
        try:
            row = parse_row(record)
            if row.question.id in rows:
                raise repeated_id(record, row.question.id)
        except AnnotationError as error:
            bad.append(str(error))
        else:
            rows[row.question.id] = row
    if not skip_bad:
        raise_bad_rows(bad)
    if not rows:
        raise AnnotationError(f"{path} holds no usable row" + (f"; the first problem: {bad[0]}" if bad else ""))
    shortened = sum(row.shortened for row in rows.values())
    if shortened:
        logger.warning("%s: %d rows have a window that ends after the video: cut there", path, shortened)
    return Annotations(Path(path), tuple(rows.values()), tuple(bad))


def repeated_id(record: Record, qid: str) -> AnnotationError:
    """Return the error for a question id that an earlier row of the file has."""
    return record.error("qid", f"{qid!r} is the id of an earlier row; give every question its own")


def raise_bad_rows(bad: list[str]) -> None:
    """Raise one error that names the first bad rows and counts the rest, if there are any.

    Raises:
        AnnotationError: there is a bad row.
    """
    if not bad:
        return
    # What is wrong with all rows of a file, such as a column, is told once.
    named = list(dict.fromkeys(bad))[:_NAMED_BAD_ROWS]
    more = len(bad) - len(named)
    counted = [f"and {more} more bad rows"] if more > 0 else []
    way_out = "or leave bad rows out with --skip-bad of sevila prepare"
    raise AnnotationError("; ".join([*named, *counted, way_out]))


def write_annotations(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of the schema as a JSON list, one row a line, whole or not at all."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")

"""Tables as text (CSV and its like), as spreadsheets, pandas and R write them."""

import csv
import io
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lavis.common.errors import AnnotationError
from lavis.common.naming import listed

logger = logging.getLogger(__name__)

TABLE_ENDINGS = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t", "|")
# How pandas names a column without a name when it reads one.
_NAMELESS = re.compile(r"(Unnamed: [\d.]+)?")
# A last line of our own: a quotation that is never closed takes it in, and all rows since its start.
_END = "\x1e\x1e"
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)

Row = tuple[int, list[str]]


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
    # Some write ", " between all cells; otherwise a space belongs to its cell.
    spaced = len(header) > 1 and all(cell.startswith(" ") for cell in header[1:])
    (_, header), *rows = list(_rows(path, text, delimiter, spaced=spaced)) or [(0, [])]
    columns = [cell.strip() for cell in header]
    rows = _without_row_names(rows, len(columns))
    _check_header(path, columns)
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


def _check_header(path: Path, columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise AnnotationError(f"{path} has two columns {twice[0]!r:.80}; its columns are {listed(columns)}")


def _tell_nameless(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    for at, name in enumerate(columns):
        if _NAMELESS.fullmatch(name):
            cells = [cells[at].strip() for _, cells in rows if at < len(cells)]
            text = next((cell for cell in cells if cell and not cell.isdecimal()), None)
            if text is not None:
                logger.warning("%s: column %d has no name and is left out; it holds %.40r", path, at + 1, text)

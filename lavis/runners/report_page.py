"""A report as a page of Markdown, which is readable in a terminal too."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from lavis.runners.report import Cell, Report

_LEGEND = (
    "Percent; differences in points. A figure in parentheses was measured under other conditions than the row's, "
    "which the last column names: it is not compared. * Questions were unreadable, and count as wrong."
)
_HEADER = ("system", "benchmark", "figure", "paper", "measured", "difference", "questions", "unreadable", "remarks")
_NUMBERS = range(3, 8)


def markdown(report: Report) -> str:
    """Return the page."""
    sections = ["# Published and measured figures", _LEGEND, _averages(report), *_checked(report)]
    unverified = {table.title: table.unverified for table in report.tables.tables}
    for title, cells in groupby(report.cells, key=lambda cell: cell.table):
        sections += [f"## {title}", *([f"Not verified: {unverified[title]}."] if unverified[title] else [])]
        sections.append(_table([_line(cell) for cell in _without_repeated_remarks(cells)]))
    if report.others:
        sections += ["## Runs that are not shown above", _list(f"{run}: {why}" for run, why in report.others.items())]
    if report.unfinished:
        sections += ["## Unfinished runs (the same command goes on)", _list(report.unfinished)]
    return "\n\n".join(sections) + "\n"


def measured_text(cell: Cell) -> str:
    """Return what was measured: in parentheses if it is not the row's figure, with a star if videos were unreadable."""
    if cell.measured is None:
        return "not run" if cell.run is None else "-"
    figure = f"{cell.measured:.1f}{'*' if cell.unreadable else ''}"
    return f"({figure})" if cell.deviations else figure


def difference_text(cell: Cell) -> str:
    """Return the difference with its sign, or nothing."""
    return "" if cell.difference is None else f"{cell.difference:+.1f}"


def _averages(report: Report) -> str:
    kinds: dict[str, list[str]] = {}
    for benchmark in report.tables.benchmarks.values():
        kinds.setdefault(benchmark.average, []).append(benchmark.name)
    return "Averages: " + "; ".join(f"{', '.join(names)}: {kind}" for kind, names in kinds.items()) + "."


def _checked(report: Report) -> Iterator[str]:
    if report.tables.checked:
        yield report.tables.checked
    doubts = [f"{entry.name}: {entry.unverified}" for entry in report.tables.benchmarks.values() if entry.unverified]
    if doubts:
        yield "Not verified:\n" + _list(doubts)


def _without_repeated_remarks(cells: Iterator[Cell]) -> Iterator[tuple[Cell, tuple[str, ...]]]:
    for _, figures in groupby(cells, key=lambda cell: (cell.row, cell.benchmark)):
        before: tuple[str, ...] = ()
        for cell in figures:
            remarks = (*cell.deviations, *cell.remarks)
            yield cell, () if remarks == before else remarks
            before = remarks


def _line(entry: tuple[Cell, tuple[str, ...]]) -> tuple[str, ...]:
    cell, remarks = entry
    counts = ("" if count is None else str(count) for count in (cell.questions, cell.unreadable))
    figures = (f"{cell.paper:.1f}", measured_text(cell), difference_text(cell))
    return (cell.row, cell.benchmark, cell.figure, *figures, *counts, "; ".join(remarks))


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    rule = [f"{'-' * (width - 1)}:" if number in _NUMBERS else "-" * width for number, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(_padded(row, widths)) + " |" for row in (_HEADER, rule, *rows))


def _padded(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for number, (text, width) in enumerate(zip(row, widths, strict=True)):
        text = text.replace("|", "\\|")
        yield text.rjust(width) if number in _NUMBERS else text.ljust(width)


def _list(entries: Iterator[str] | Sequence[str]) -> str:
    return "\n".join(f"* {entry}" for entry in entries)

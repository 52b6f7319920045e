"""A report as one picture: for each published average a bar, and the measured one below it."""

from collections.abc import Sequence
from itertools import groupby

from lavis.export.blocks import Heading, Notes
from lavis.export.canvas import (
    ACCENT,
    GRID,
    INK,
    INNER_WIDTH,
    MARGIN,
    MARK,
    MUTED,
    Block,
    Canvas,
    fitted,
    stack,
    text_width,
)
from lavis.export.report import Cell, Report

_PAPER = "#aab7c4"
_SUMMARIES = ("Avg", "Oracle")


class Comparison:
    """One table: a line for each figure, the published bar above the measured one."""

    _TITLE, _LINE = 34, 30

    def __init__(self, title: str, cells: Sequence[Cell]) -> None:
        self._title, self._cells = title, cells

    @property
    def height(self) -> float:
        """Height it takes."""
        return self._TITLE + self._LINE * len(self._cells)

    def draw(self, canvas: Canvas, top: float) -> None:
        """Draw title and lines."""
        canvas.text((MARGIN, top), fitted(self._title, INNER_WIDTH, size=20), size=20, stroke=0.4)
        for number, cell in enumerate(self._cells):
            self._draw_line(canvas, cell, top + self._TITLE + self._LINE * (number + 0.5))

    def _draw_line(self, canvas: Canvas, cell: Cell, middle: float) -> None:
        name_width, what_width, bar_left = 330.0, 190.0, MARGIN + 540.0
        canvas.text((MARGIN, middle), fitted(cell.row, name_width, size=15), size=15, anchor="lm")
        what = fitted(f"{cell.benchmark} {cell.figure}", what_width, size=15)
        canvas.text((MARGIN + name_width + 10, middle), what, size=15, fill=MUTED, anchor="lm")
        texts = f"{cell.paper:.1f}", cell.measured_text, cell.difference_text
        longest = INNER_WIDTH - 540 - 250
        colour = MARK if cell.deviations else ACCENT
        canvas.line([(bar_left + longest, middle - 12), (bar_left + longest, middle + 12)], fill=GRID)
        canvas.box(bar_left, middle - 9, bar_left + longest * cell.paper / 100, middle - 1, fill=_PAPER)
        if cell.measured is not None:
            canvas.box(bar_left, middle + 1, bar_left + longest * cell.measured / 100, middle + 9, fill=colour)
        right = MARGIN + INNER_WIDTH
        for text, place, fill in zip(texts, (190.0, 80.0, 0.0), (MUTED, colour, INK), strict=True):
            ink = MUTED if cell.measured is None else fill
            canvas.text((right - place - text_width(text, size=15), middle), text, size=15, fill=ink, anchor="lm")


def picture(report: Report) -> bytes:
    """Return the PNG of `summaries`."""
    shown = summaries(report)
    measured = sum(cell.measured is not None and not cell.deviations for cell in shown)
    legend = "percent | grey: paper, blue: measured, *: some questions were unreadable and count as wrong"
    subtitle = f"{legend} | measured: {measured} of {len(shown)}"
    blocks: list[Block] = [Heading("Published and measured figures", subtitle=subtitle)]
    notes = list(dict.fromkeys(note for cell in shown for note in cell.deviations))
    if notes:
        blocks.append(Notes(["Orange: measured under other conditions than published:", *notes]))
    blocks += [Comparison(title, list(cells)) for title, cells in groupby(shown, key=lambda cell: cell.table)]
    return stack(blocks)


def summaries(report: Report) -> list[Cell]:
    """Return the cells over all questions; of benchmarks without an average, all cells."""
    averaged = {cell.benchmark for cell in report.cells if cell.figure == "Avg"}
    return [cell for cell in report.cells if cell.figure in _SUMMARIES or cell.benchmark not in averaged]

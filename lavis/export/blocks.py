"""The parts that result pictures are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lavis.export.axes import time_label, time_ticks, value_ticks
from lavis.export.canvas import (
    ACCENT,
    ACCENT_FAINT,
    ACCENT_LIGHT,
    GRID,
    INK,
    INNER_WIDTH,
    MARGIN,
    MARK,
    MARK_LIGHT,
    MUTED,
    WARN,
    WARN_LIGHT,
    Canvas,
    fitted,
    text_width,
    wrapped,
)

_RIGHT = MARGIN + INNER_WIDTH


class Heading:
    """What was asked, and below it of what."""

    def __init__(self, title: str, *, subtitle: str) -> None:
        self._lines = wrapped(title, INNER_WIDTH, size=30, max_lines=3)
        self._subtitle = fitted(subtitle, INNER_WIDTH, size=17)

    @property
    def height(self) -> float:
        """Height it takes."""
        return 40 * len(self._lines) + 24

    def draw(self, canvas: Canvas, top: float) -> None:
        """Write the lines."""
        for number, line in enumerate(self._lines):
            canvas.text((MARGIN, top + 40 * number), line, size=30, stroke=0.5)
        canvas.text((MARGIN, top + 40 * len(self._lines) + 4), self._subtitle, size=17, fill=MUTED)


class Notes:
    """Caveats, on a background that cannot be overlooked."""

    def __init__(self, notes: Sequence[str]) -> None:
        self._lines = [line for note in notes for line in wrapped(note, INNER_WIDTH - 40, size=18, max_lines=2)]

    @property
    def height(self) -> float:
        """Height it takes."""
        return 26 * len(self._lines) + 20

    def draw(self, canvas: Canvas, top: float) -> None:
        """Write the notes."""
        canvas.box(MARGIN, top, _RIGHT, top + self.height, fill=WARN_LIGHT, radius=6)
        canvas.box(MARGIN, top, MARGIN + 6, top + self.height, fill=WARN, radius=3)
        for number, line in enumerate(self._lines):
            canvas.text((MARGIN + 22, top + 12 + 26 * number), line, size=18, fill=WARN)


@dataclass(frozen=True)
class Bar:
    """One option: its share is between 0 and 1, its label is written at the end of the bar."""

    name: str
    text: str
    share: float
    label: str
    chosen: bool


class Bars:
    """Options with bars, the chosen one in colour."""

    _ROW = 36

    def __init__(self, bars: Sequence[Bar]) -> None:
        self._bars = bars

    @property
    def height(self) -> float:
        """Height it takes."""
        return self._ROW * len(self._bars)

    def draw(self, canvas: Canvas, top: float) -> None:
        """Draw one row per option."""
        text_left, bar_left = MARGIN + 40, MARGIN + INNER_WIDTH * 0.52
        longest = _RIGHT - bar_left - max((text_width(bar.label, size=17) for bar in self._bars), default=0) - 14
        for number, bar in enumerate(self._bars):
            middle = top + self._ROW * (number + 0.5)
            if bar.chosen:
                canvas.box(MARGIN, middle - 17, _RIGHT, middle + 17, fill=ACCENT_LIGHT, radius=6)
            ink, stroke = (ACCENT, 0.4) if bar.chosen else (INK, 0)
            canvas.text((MARGIN + 14, middle), bar.name, size=18, fill=ink, anchor="lm", stroke=stroke)
            text = fitted(bar.text, bar_left - text_left - 20, size=18)
            canvas.text((text_left, middle), text, size=18, fill=ink, anchor="lm", stroke=stroke)
            end = bar_left + longest * bar.share
            canvas.box(bar_left, middle - 9, end, middle + 9, fill=ACCENT if bar.chosen else "#aab7c4", radius=3)
            canvas.text((end + 10, middle), bar.label, size=17, fill=ink, anchor="lm")


@dataclass(frozen=True)
class Mark:
    """A numbered time on a curve."""

    number: int
    time_s: float


class Curve:
    """Scores over time, with numbered marks and shaded spans.

    Args:
        points: (seconds, score) of each frame, finite, in time order; none gives a bare timeline.
        range_s: both ends of the time axis.
        spans: (start, end) in seconds to shade.
        label: what the score is.
    """

    _PLOT = 250
    _HEAD, _FOOT, _LEFT = 44, 34, 58

    def __init__(
        self,
        points: Sequence[tuple[float, float]],
        *,
        range_s: tuple[float, float],
        marks: Sequence[Mark] = (),
        spans: Sequence[tuple[float, float]] = (),
        label: str,
    ) -> None:
        self._points, self._marks, self._spans, self._label = points, marks, spans, label
        self._start, self._end = range_s[0], max(range_s[1], range_s[0] + 1e-3)
        values = [score for _, score in points]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = (high - low) * 0.12 or max(abs(high), 1.0) * 0.5
        self._low, self._high = low - room, high + room

    @property
    def height(self) -> float:
        """Height it takes."""
        return self._HEAD + self._PLOT + self._FOOT

    def draw(self, canvas: Canvas, top: float) -> None:
        """Draw spans, axes, curve and marks, in this order."""
        canvas.text((MARGIN, top), self._label, size=16, fill=MUTED)
        top += self._HEAD
        bottom = top + self._PLOT
        for start, end in self._spans:
            canvas.box(self._x(start), top, self._x(end), bottom, fill=MARK_LIGHT)
        points = [(self._x(time_s), self._y(score, top)) for time_s, score in self._points]
        if len(points) > 1 and not self._spans:
            canvas.area([(points[0][0], bottom), *points, (points[-1][0], bottom)], fill=ACCENT_FAINT)
        self._draw_axes(canvas, top, bottom)
        if len(points) > 1:
            canvas.line(points, fill=ACCENT, width=2.5)
        for x, y in points:
            canvas.box(x - 2.5, y - 2.5, x + 2.5, y + 2.5, fill=ACCENT, radius=2.5)
        for mark in self._marks:
            self._draw_mark(canvas, mark, top, bottom)

    def _draw_axes(self, canvas: Canvas, top: float, bottom: float) -> None:
        left = MARGIN + self._LEFT
        if self._points:
            for value in value_ticks(self._low, self._high):
                y = self._y(value, top)
                canvas.line([(left, y), (_RIGHT, y)], fill=MUTED if value == 0 else GRID)
                canvas.text((left - 10, y), f"{value:g}", size=15, fill=MUTED, anchor="rm")
        canvas.line([(left, bottom), (_RIGHT, bottom)], fill=MUTED, width=1.5)
        for time_s in time_ticks(self._start, self._end):
            x = self._x(time_s)
            canvas.line([(x, bottom), (x, bottom + 6)], fill=MUTED, width=1.5)
            canvas.text((x, bottom + 11), time_label(time_s), size=15, fill=MUTED, anchor="ma")

    def _draw_mark(self, canvas: Canvas, mark: Mark, top: float, bottom: float) -> None:
        x = self._x(mark.time_s)
        canvas.line([(x, top - 8), (x, bottom)], fill=MARK, width=1.5)
        score = next((score for time_s, score in self._points if time_s == mark.time_s), None)
        if score is not None:
            y = self._y(score, top)
            canvas.box(x - 5, y - 5, x + 5, y + 5, fill=MARK, radius=5)
        canvas.badge((x, top - 14), str(mark.number))

    def _x(self, time_s: float) -> float:
        left = MARGIN + self._LEFT
        share = (time_s - self._start) / (self._end - self._start)
        return left + min(max(share, 0), 1) * (_RIGHT - left)

    def _y(self, score: float, top: float) -> float:
        return top + self._PLOT * (self._high - score) / (self._high - self._low)


@dataclass(frozen=True)
class Thumbnail:
    """A numbered picture with a line of text below it."""

    number: int
    picture: Image.Image
    caption: str


class Thumbnails:
    """Numbered pictures in rows."""

    _GAP, _CAPTION, _MOST_HEIGHT = 18, 34, 220

    def __init__(self, thumbnails: Sequence[Thumbnail]) -> None:
        self._thumbnails = thumbnails
        self._columns = min(max(len(thumbnails), 3), 5 if len(thumbnails) in (5, 9, 10) else 4)
        self._cell = (INNER_WIDTH - self._GAP * (self._columns - 1)) / self._columns
        sizes = [self._size(thumbnail.picture) for thumbnail in thumbnails]
        self._row = max((height for _, height in sizes), default=0.0) + self._CAPTION

    @property
    def height(self) -> float:
        """Height it takes."""
        rows = math.ceil(len(self._thumbnails) / self._columns)
        return rows * self._row + (rows - 1) * self._GAP

    def draw(self, canvas: Canvas, top: float) -> None:
        """Draw the rows."""
        for place, thumbnail in enumerate(self._thumbnails):
            row, column = divmod(place, self._columns)
            left, upper = MARGIN + column * (self._cell + self._GAP), top + row * (self._row + self._GAP)
            width, height = self._size(thumbnail.picture)
            canvas.picture(thumbnail.picture, left, upper, width=width, height=height)
            canvas.badge((left + 20, upper + 20), str(thumbnail.number))
            caption = fitted(thumbnail.caption, self._cell, size=16)
            canvas.text((left, upper + self._row - self._CAPTION + 10), caption, size=16, fill=INK)

    def _size(self, picture: Image.Image) -> tuple[float, float]:
        scale = min(self._cell / picture.width, self._MOST_HEIGHT / picture.height)
        return picture.width * scale, picture.height * scale

"""Drawing with Pillow: smooth lines, text that fits, and a picture made of blocks."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

# Pillow does not smooth lines: everything is drawn larger and scaled down.
_SCALE = 3
WIDTH = 1280
MARGIN = 56
INNER_WIDTH = WIDTH - 2 * MARGIN
_GAP = 26

PAPER, INK, MUTED, GRID = "#ffffff", "#17202a", "#66717e", "#e3e8ed"
ACCENT, ACCENT_LIGHT, ACCENT_FAINT = "#1f6feb", "#d6e4fb", "#edf3fd"
MARK, MARK_LIGHT = "#e8590c", "#fde3d3"
WARN, WARN_LIGHT = "#7a5200", "#fff1cc"

Point = tuple[float, float]


class Block(Protocol):
    """A part of a picture, as wide as all the others."""

    @property
    def height(self) -> float:
        """Height it takes."""
        ...

    def draw(self, canvas: "Canvas", top: float) -> None:
        """Draw it with its upper edge at `top`."""
        ...


class Canvas:
    """A picture to draw on; all lengths are in pixels of the finished picture."""

    def __init__(self, height: float) -> None:
        self._picture = Image.new("RGB", (WIDTH * _SCALE, round(height) * _SCALE), PAPER)
        self._draw = ImageDraw.Draw(self._picture)

    def text(self, at: Point, text: str, *, size: int, fill: str = INK, anchor: str = "la", stroke: float = 0) -> None:
        """Write one line; `anchor` is Pillow's, and a `stroke` makes it bold."""
        place = at[0] * _SCALE, at[1] * _SCALE
        width = round(stroke * _SCALE)
        self._draw.text(place, text, fill, font=_font(size * _SCALE), anchor=anchor, stroke_width=width)

    def line(self, points: Sequence[Point], *, fill: str, width: float = 1) -> None:
        """Draw straight lines from point to point."""
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, fill=fill, width=round(width * _SCALE), joint="curve")

    def area(self, points: Sequence[Point], *, fill: str) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, *, fill: str, radius: float = 0) -> None:
        """Fill a rectangle, with round corners."""
        corners = [value * _SCALE for value in (left, top, max(right, left + 1), max(bottom, top + 1))]
        self._draw.rounded_rectangle(corners, radius=radius * _SCALE, fill=fill)

    def badge(self, at: Point, text: str) -> None:
        """Draw a number in a filled circle around a point."""
        x, y = at
        self.box(x - 13, y - 13, x + 13, y + 13, fill=PAPER, radius=13)
        self.box(x - 12, y - 12, x + 12, y + 12, fill=MARK, radius=12)
        self.text((x, y + 0.5), text, size=14, fill=PAPER, anchor="mm", stroke=0.4)

    def picture(self, picture: Image.Image, left: float, top: float, *, width: float, height: float) -> None:
        """Show a picture at a size."""
        size = max(1, round(width * _SCALE)), max(1, round(height * _SCALE))
        self._picture.paste(picture.resize(size, Image.Resampling.LANCZOS), (round(left * _SCALE), round(top * _SCALE)))

    def png(self) -> bytes:
        """Return the finished picture."""
        buffer = BytesIO()
        self._picture.reduce(_SCALE).save(buffer, "PNG")
        return buffer.getvalue()


def stack(blocks: Sequence[Block]) -> bytes:
    """Draw blocks under each other and return the PNG."""
    canvas = Canvas(2 * MARGIN + sum(block.height for block in blocks) + _GAP * (len(blocks) - 1))
    top = float(MARGIN)
    for block in blocks:
        block.draw(canvas, top)
        top += block.height + _GAP
    return canvas.png()


def text_width(text: str, *, size: int) -> float:
    """Return the width of one line."""
    return _font(size).getlength(text)


def fitted(text: str, width: float, *, size: int) -> str:
    """Return the text on one line, cut with an ellipsis where it is wider than `width`."""
    line = " ".join(text.split())
    if text_width(line, size=size) <= width:
        return line
    room = width - text_width("...", size=size)
    length = bisect_right(range(len(line)), room, key=lambda end: text_width(line[:end], size=size)) - 1
    return f"{line[: max(length, 0)].rstrip()}..."


def wrapped(text: str, width: float, *, size: int, max_lines: int) -> list[str]:
    """Return the text on at most `max_lines` lines, the last one cut where that does not suffice."""
    words = text.split()
    lines: list[str] = []
    while words and len(lines) < max_lines - 1:
        counts = range(1, len(words) + 1)
        count = max(1, bisect_right(counts, width, key=lambda end: text_width(" ".join(words[:end]), size=size)))
        lines.append(fitted(" ".join(words[:count]), width, size=size))
        words = words[count:]
    return [*lines, fitted(" ".join(words), width, size=size)] if words else lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels are built with FreeType"
    return font

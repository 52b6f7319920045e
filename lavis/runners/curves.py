"""Learning curves as a picture, drawn with Pillow from the lines of `log.jsonl`."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lavis.common.files import written_whole
from lavis.common.logging import read_json_lines

_WIDTH, _HEIGHT, _MARGIN = 640, 220, 48
_HIDDEN = {
    "kind",
    "iteration",
    "epoch",
    "samples_per_s",
    "data_wait",
    "memory_mib",
    "left_s",
    "questions",
    "unreadable",
}
_LINE, _AXIS, _TEXT = (31, 119, 180), (160, 160, 160), (40, 40, 40)

Curve = Sequence[tuple[float, float]]


def draw_curves(log: Path, picture: Path) -> None:
    """Draw one panel for each figure of training and of validation; without any figure, draw nothing."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in read_json_lines(log):
        for name, value in row.items():
            if name not in _HIDDEN and isinstance(value, (int, float)):
                curves.setdefault(f"{row['kind']}: {name}", []).append((row["iteration"], value))
    if not curves:
        return
    image = Image.new("RGB", (_WIDTH, _HEIGHT * len(curves)), "white")
    pen = ImageDraw.Draw(image)
    for number, (title, curve) in enumerate(sorted(curves.items())):
        _panel(pen, title, sorted(curve), top=number * _HEIGHT)
    with written_whole(picture) as temporary:
        image.save(temporary, format="PNG")


def _panel(pen: ImageDraw.ImageDraw, title: str, curve: Curve, *, top: int) -> None:
    left, right = _MARGIN, _WIDTH - 16
    upper, lower = top + 24, top + _HEIGHT - 28
    xs, ys = [x for x, _ in curve], [y for _, y in curve]
    spread_x, spread_y = (max(xs) - min(xs)) or 1, (max(ys) - min(ys)) or 1
    points = [
        (left + (x - min(xs)) / spread_x * (right - left), lower - (y - min(ys)) / spread_y * (lower - upper))
        for x, y in curve
    ]
    pen.line([(left, upper), (left, lower), (right, lower)], fill=_AXIS)
    if len(points) > 1:
        pen.line(points, fill=_LINE, width=2)
    for x, y in points if len(points) < 50 else []:
        pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_LINE)
    pen.text((left, top + 6), title, fill=_TEXT)
    pen.text((4, upper - 4), f"{max(ys):.4g}", fill=_TEXT)
    pen.text((4, lower - 8), f"{min(ys):.4g}", fill=_TEXT)
    pen.text((left, lower + 6), f"{min(xs):g}", fill=_TEXT)
    pen.text((right - 40, lower + 6), f"{max(xs):g}", fill=_TEXT)

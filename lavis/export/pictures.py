"""Results as pictures: an answer, moments of a search, learning curves, a report of many runs, selectors compared.

A picture is a page that is drawn from top to bottom. Nothing here touches the global state of matplotlib: pictures may
be drawn in several threads.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from lavis.common.errors import counted
from lavis.common.files import written_whole
from lavis.common.logging import read_json_lines
from lavis.common.moments import frame_edges
from lavis.common.types import Answer, Floats, Keyframes, Moments, Span, VideoInfo
from lavis.export.records import LETTERS, best_positions, option_shares, time_label, time_ticks
from lavis.export.report import Cell, Report

WIDTH, MARGIN = 1280, 56
RIGHT = WIDTH - MARGIN
INNER_WIDTH = RIGHT - MARGIN
_PLOT_LEFT = MARGIN + 62
_GAP = 28
_DPI = 72  # so that a point, the unit of fonts and lines, is a pixel

PAPER, INK, MUTED, GRID, NEUTRAL = "#ffffff", "#17202a", "#66717e", "#e3e8ed", "#aab7c4"
ACCENT, ACCENT_LIGHT, ACCENT_FAINT = "#1f6feb", "#d6e4fb", "#edf3fd"
MARK, MARK_LIGHT = "#e8590c", "#fde3d3"
WARN, WARN_LIGHT = "#7a5200", "#fff1cc"

_BASE_FONT = "DejaVu Sans"  # comes with matplotlib
# Used where they are installed, for scripts that the base font lacks.
_OTHER_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Arial Unicode MS", "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Noto Sans Devanagari"),
)
_BADGE = 25
_MOST_DOTS = 200
_MOST_THUMBNAILS = 24
_THUMBNAIL_HEIGHT, _THUMBNAIL_GAP, _CAPTION = 220, 18, 32
_OPTION_ROW, _REPORT_TITLE, _REPORT_ROW = 36, 34, 30
_TRADEOFF, _LEAST_SECONDS = 330, 1e-3
# Lines that are told apart: eight colours, and when these are through, other marks.
_COLORS = ("#1f6feb", "#e8590c", "#2b8a3e", "#9c36b5", "#c92a2a", "#0b7285", "#7a5200", "#66717e")
_LINES = [
    {"color": color, "marker": marker, "linestyle": line}
    for marker, line in (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))
    for color in _COLORS
]
_SUMMARIES = ("Avg", "Oracle")
# What a run logs beside the figures that learning curves show.
_PACE = {"epoch", "iteration", "samples_per_s", "data_wait", "memory_mib", "left_s", "questions", "unreadable"}

Picture = npt.NDArray[np.uint8]


class _Page:
    """One axes over a whole figure, in pixels from the upper left corner; the next part goes to `top`."""

    def __init__(self) -> None:
        self.top = float(MARGIN)
        self._figure = Figure(dpi=_DPI, facecolor=PAPER)
        self._plots: list[tuple[Axes, float, float]] = []
        self.axes = self._figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(1, 0))
        self.axes.set_axis_off()

    def take(self, height: float) -> float:
        """Return where a part of this height goes, and let the next one follow below it."""
        top = self.top
        self.top += height + _GAP
        return top

    def plot(self, top: float, height: float) -> Axes:
        """Return axes of their own for a curve, from `top` down to an axis."""
        # Where they stand in the figure is known once its height is.
        axes = self._figure.add_axes((_PLOT_LEFT / WIDTH, 0, (RIGHT - _PLOT_LEFT) / WIDTH, 1), facecolor="none")
        self._plots.append((axes, top, height))
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.spines["bottom"].set(color=MUTED, linewidth=1.5)
        axes.tick_params("x", color=MUTED, length=6, width=1.5, pad=6)
        axes.tick_params("y", length=0, pad=10)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=GRID, linewidth=1, linestyle="-")
        axes.grid(visible=False, axis="x")
        return axes

    def figure(self) -> Figure:
        """Return the figure, with all parts in their places."""
        height = round(self.top - _GAP + MARGIN)
        self._figure.set_size_inches(WIDTH / _DPI, height / _DPI)
        self.axes.set_ylim(height, 0)
        for axes, top, tall in self._plots:
            left, _, width, _ = axes.get_position().bounds
            axes.set_position((left, 1 - (top + tall) / height, width, tall / height))
        return self._figure

    def png(self) -> bytes:
        """Return the picture, the same bytes for the same parts."""
        canvas, buffer = FigureCanvasAgg(self.figure()), BytesIO()
        canvas.draw()
        Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(buffer, "PNG")
        return buffer.getvalue()


def answer_picture(answer: Answer, *, video: VideoInfo, model: str, frames: Sequence[Picture]) -> bytes:
    """Return a PNG of an answer, with the picture of each keyframe, uint8 [H, W, 3], in their order."""
    return _answer_page(answer, video, model, frames).png()


def moments_picture(moments: Moments, *, video: VideoInfo, model: str, frames: Sequence[Picture]) -> bytes:
    """Return a PNG of what was found, with the best frames (`best_positions`) of the first moments, uint8 [H, W, 3]."""
    return _moments_page(moments, video, model, frames).png()


def result_figure(result: Answer | Moments, *, video: VideoInfo, model: str, frames: Sequence[Picture]) -> Figure:
    """Return what `answer_picture` or `moments_picture` draws, as a figure."""
    if isinstance(result, Answer):
        return _answer_page(result, video, model, frames).figure()
    return _moments_page(result, video, model, frames).figure()


def _answer_page(answer: Answer, video: VideoInfo, model: str, frames: Sequence[Picture]) -> _Page:
    keyframes = answer.keyframes
    label = _score_label(keyframes)
    if len(frames) > _MOST_THUMBNAILS:
        label += f"; below, the first {_MOST_THUMBNAILS} of {len(frames)} keyframes"
    range_s = _time_range(keyframes.all_times_s, video, answer.clip)
    scores = keyframes.scores if len(keyframes.scores) else np.full(len(keyframes), math.nan)
    captions = [
        time_label(time_s, ".2f") + (f", score {score:.2f}" if math.isfinite(score) else "")
        for time_s, score in zip(keyframes.times_s, scores, strict=True)
    ]
    page = _Page()
    _draw_title(page, answer.question.text, answer, video, model)
    if answer.question.options:
        _draw_options(page, answer)
    else:
        _draw_heading(page, answer.text or "(no answer)", subtitle="open answer")
    curve = keyframes.all_times_s, keyframes.all_scores
    _draw_curve(page, label, *curve, range_s, seconds=True, marks=keyframes.times_s)
    _draw_thumbnails(page, frames, captions)
    return page


def _moments_page(moments: Moments, video: VideoInfo, model: str, frames: Sequence[Picture]) -> _Page:
    range_s = _time_range(moments.times_s, video, moments.clip)
    label = "how well each frame matches" + ("" if moments.moments else ": no moment found")
    marks = moments.times_s[best_positions(moments)[: len(frames)]]
    spans = [(moment.start_s, moment.end_s) for moment in moments.moments]
    captions = [
        f"{time_label(round(moment.start_s, 1))} to {time_label(round(moment.end_s, 1))}, score {moment.score:.2f}"
        for moment in moments.moments[: len(frames)]
    ]
    page = _Page()
    _draw_title(page, moments.query, moments, video, model)
    _draw_curve(page, label, moments.times_s, moments.scores, range_s, seconds=True, marks=marks, spans=spans)
    _draw_thumbnails(page, frames, captions)
    return page


def draw_learning_curves(log: Path, picture: Path) -> None:
    """Draw a panel for each figure of training and of validation in the `log.jsonl` of a run; without any, nothing."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in read_json_lines(log):
        for name, value in row.items():
            if name not in _PACE and isinstance(value, (int, float)):
                curves.setdefault(f"{row['kind']}: {name}", []).append((row["iteration"], value))
    if not curves:
        return
    page = _Page()
    for title, points in sorted(curves.items()):
        x, y = np.array(sorted(points), np.float64).T
        _draw_curve(page, title, x, y, (x[0], x[-1]), seconds=False, height=150)
    with written_whole(picture) as temporary:
        temporary.write_bytes(page.png())


def report_picture(report: Report) -> bytes:
    """Return a PNG of `summaries`: for each published figure a bar, and the measured one below it."""
    shown = summaries(report)
    measured = sum(cell.measured is not None and not cell.deviations for cell in shown)
    legend = "percent | grey: paper, blue: measured, *: some questions were unreadable and count as wrong"
    subtitle = f"{legend} | measured: {measured} of {len(shown)}"
    page = _Page()
    _draw_heading(page, "Published and measured figures", subtitle=subtitle)
    deviations = list(dict.fromkeys(note for cell in shown for note in cell.deviations))
    if deviations:
        _draw_notes(page, ["Orange: measured under other conditions than published:", *deviations])
    for title, cells in groupby(shown, key=lambda cell: cell.table):
        _draw_comparison(page, title, list(cells))
    return page.png()


def comparison_picture(figures: Mapping[str, Any]) -> bytes:
    """Return a PNG of `comparison.json`: accuracy against the number of frames, and against seconds of choosing.

    Where no answers are known, in place of accuracy the share of questions of which a frame lies in a window.
    """
    rows = [row for row in figures["rows"] if isinstance(row["k"], int)]
    name = "accuracy" if any(row["accuracy"] for row in rows) else "a frame inside the windows"
    points: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        estimate = row["accuracy"] or (row["windows"] or {}).get("any")
        if estimate and row["cost"]:
            seconds = max(row["cost"]["seconds"], _LEAST_SECONDS)
            points.setdefault(row["selector"], []).append((row["k"], seconds, estimate["percent"]))
    page = _Page()
    facts = (
        f"{figures['dataset']} {figures['split']} | {counted(figures['questions'], 'question')} | {figures['model']}"
    )
    _draw_heading(page, "Ways to choose frames", subtitle=facts)
    best = sorted(points, key=lambda label: -max(percent for _, _, percent in points[label]))
    styles = {label: _LINES[place % len(_LINES)] for place, label in enumerate(best)}
    for column, title in (
        (0, "frames that are read"),
        (1, "seconds to choose the frames of a question (1 ms or more)"),
    ):
        _draw_tradeoff(page, f"{name} in percent against {title}", points, styles, column=column)
    _draw_legend(page, styles)
    return page.png()


def _draw_tradeoff(
    page: _Page,
    title: str,
    points: Mapping[str, Sequence[tuple[int, float, float]]],
    styles: Mapping[str, Mapping[str, Any]],
    *,
    column: int,
) -> None:
    """Draw a line for each selector: percent over one of the first two columns of its points, on a logarithmic axis."""
    top = page.take(30 + _TRADEOFF + 30)
    _write(page.axes, MARGIN, top + 9, title, size=15, width=INNER_WIDTH, color=MUTED)
    axes = page.plot(top + 30, _TRADEOFF)
    axes.set_xscale("log", base=2 if column == 0 else 10)
    axes.margins(x=0.03, y=0.08)
    for label, rows in points.items():
        x, y = ([row[part] for row in sorted(rows)] for part in (column, 2))
        axes.plot(x, y, markersize=7, linewidth=1.8, **styles[label])
    low, high = axes.get_ylim()
    values = _value_ticks(low, high, most=8)
    axes.set_yticks(values, [f"{value:g}" for value in values], **_style(14, MUTED))
    shown = sorted({row[0] for rows in points.values() for row in rows}) if column == 0 else _decades(axes.get_xlim())
    axes.set_xticks(shown, [f"{value:g}" for value in shown], minor=False, **_style(14, MUTED))
    axes.set_xticks([], minor=True)


def _decades(limits: tuple[float, float]) -> list[float]:
    low, high = (math.log10(limit) for limit in limits)
    return [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]


def _draw_legend(page: _Page, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw what each line is, in columns."""
    columns, height = 3, 26
    width, axes = INNER_WIDTH / columns, page.axes
    top = page.take(height * math.ceil(len(styles) / columns))
    for place, (label, style) in enumerate(styles.items()):
        row, column = divmod(place, columns)
        left, middle = MARGIN + column * width, top + height * (row + 0.5)
        axes.plot([left, left + 36], [middle, middle], markersize=7, linewidth=1.8, **style)
        _write(axes, left + 46, middle, label, size=14, width=width - 60)


def summaries(report: Report) -> list[Cell]:
    """Return the cells over all questions; of benchmarks without an average, all cells."""
    averaged = {cell.benchmark for cell in report.cells if cell.figure == "Avg"}
    return [cell for cell in report.cells if cell.figure in _SUMMARIES or cell.benchmark not in averaged]


def _draw_title(page: _Page, text: str, result: Answer | Moments, video: VideoInfo, model: str) -> None:
    watched = [f"{result.clip} watched"] if result.clip else []
    facts = [Path(video.path).name, time_label(video.duration_s, ".1f"), *watched, model]
    _draw_heading(page, text, subtitle=" | ".join(facts))
    if result.caveats:
        _draw_notes(page, result.caveats)


def _draw_options(page: _Page, answer: Answer) -> None:
    """Draw a row per option with its share as a bar, where it is known, the chosen one in colour."""
    options, bar_left = answer.question.options, MARGIN + INNER_WIDTH * 0.52
    axes, top, longest = page.axes, page.take(_OPTION_ROW * len(options)), RIGHT - bar_left - 70
    shares = option_shares(answer.option_scores)
    for index, text in enumerate(options):
        upper, chosen = top + _OPTION_ROW * index, index == answer.index
        if chosen:
            _box(axes, MARGIN, upper + 1, INNER_WIDTH, _OPTION_ROW - 2, color=ACCENT_LIGHT)
        middle, color = upper + _OPTION_ROW / 2, ACCENT if chosen else INK
        _write(axes, MARGIN + 14, middle, LETTERS[index], size=16, color=color)
        _write(axes, MARGIN + 42, middle, text, size=16, width=bar_left - MARGIN - 62, color=color)
        if shares:
            length = max(longest * shares[index], 2)
            _box(axes, bar_left, middle - 9, length, 18, color=ACCENT if chosen else NEUTRAL)
            _write(axes, bar_left + length + 10, middle, f"{shares[index]:.0%}", size=16, color=color)


def _draw_thumbnails(page: _Page, frames: Sequence[Picture], captions: Sequence[str]) -> None:
    """Draw numbered pictures in rows with a line below each; nothing where there are none."""
    if not len(frames):
        return
    frames = frames[:_MOST_THUMBNAILS]
    num, ratio = len(frames), max(frame.shape[1] / frame.shape[0] for frame in frames)
    fitting = int((INNER_WIDTH + _THUMBNAIL_GAP) // (_THUMBNAIL_HEIGHT * ratio + _THUMBNAIL_GAP))
    columns = min(max(num, 3), max(5 if num in (5, 9, 10) else 4, min(fitting, 6)))
    cell = (INNER_WIDTH - _THUMBNAIL_GAP * (columns - 1)) / columns
    scales = [min(cell / frame.shape[1], _THUMBNAIL_HEIGHT / frame.shape[0]) for frame in frames]
    row_height = max(frame.shape[0] * scale for frame, scale in zip(frames, scales, strict=True)) + _CAPTION
    rows = math.ceil(num / columns)
    top = page.take(rows * row_height + (rows - 1) * _THUMBNAIL_GAP)
    for index, (frame, scale, caption) in enumerate(zip(frames, scales, captions[:num], strict=True)):
        row, column = divmod(index, columns)
        left, upper = MARGIN + column * (cell + _THUMBNAIL_GAP), top + row * (row_height + _THUMBNAIL_GAP)
        right, lower = left + frame.shape[1] * scale, upper + frame.shape[0] * scale
        page.axes.imshow(frame, extent=(left, right, lower, upper), aspect="auto", interpolation="antialiased")
        _badges(page.axes, [left + 20], [upper + 20], [index + 1])
        _write(page.axes, left, upper + row_height - 16, caption, size=14, width=cell)


def _draw_comparison(page: _Page, title: str, cells: Sequence[Cell]) -> None:
    """Draw one table of a report: a row for each figure."""
    bar_left, longest = MARGIN + 540, INNER_WIDTH - 540 - 250
    axes, top = page.axes, page.take(_REPORT_TITLE + _REPORT_ROW * len(cells))
    _write(axes, MARGIN, top + 10, title, size=17, width=INNER_WIDTH, weight="bold")
    for index, cell in enumerate(cells):
        middle = top + _REPORT_TITLE + _REPORT_ROW * (index + 0.5)
        color = MARK if cell.deviations else ACCENT
        _write(axes, MARGIN, middle, cell.row, size=14, width=330)
        _write(axes, MARGIN + 340, middle, f"{cell.benchmark} {cell.figure}", size=14, width=190, color=MUTED)
        _box(axes, bar_left + longest, middle - 12, 1, 24, color=GRID)
        _box(axes, bar_left, middle - 9, longest * (cell.paper or 0) / 100, 8, color=NEUTRAL)
        if cell.measured is not None:
            _box(axes, bar_left, middle + 1, longest * cell.measured / 100, 8, color=color)
        texts = (cell.paper_text, 190, MUTED), (cell.measured_text, 80, color), (cell.difference_text, 0, INK)
        for text, place, ink in texts:
            shown = MUTED if cell.measured is None else ink
            _write(axes, RIGHT - place, middle, text, size=14, color=shown, ha="right")


def _score_label(keyframes: Keyframes) -> str:
    total = len(keyframes.all_scores)
    if not total:
        return "the frames that were read (frames are not scored)"
    if keyframes.num_scored == total:
        return "score of each frame"
    return f"score of the {keyframes.num_scored} frames that were scored, of {total}"


def _time_range(times_s: Floats, video: VideoInfo, clip: Span | None) -> tuple[float, float]:
    if clip is not None:
        return clip.start_s, clip.end_s
    edges = frame_edges(times_s, duration_s=max(video.duration_s, float(times_s[-1])))
    return float(edges[0]), float(edges[-1])


def _write(axes: Axes, x: float, y: float, text: str, *, size: float, width: float = math.inf, **style: Any) -> None:
    """Write one line, cut where it is longer than `width`; (x, y) is its left end at half its height."""
    line = fitted(text, width, size=size, weight=style.get("weight", "normal"))
    axes.text(x, y, line, **{**_style(size), "va": "center_baseline", **style})


def _box(axes: Axes, left: float, top: float, width: float, height: float, *, color: str) -> None:
    """Fill a rectangle."""
    axes.add_patch(Rectangle((left, top), width, height, facecolor=color, edgecolor="none"))


def _badges(axes: Axes, x: Sequence[float] | Floats, y: Sequence[float] | Floats, numbers: Any, **style: Any) -> None:
    """Draw numbers in filled circles around points."""
    axes.scatter(x, y, s=_BADGE**2, color=MARK, edgecolors=PAPER, linewidths=1, zorder=2.5, **style)
    for place, number in zip(zip(x, y, strict=True), numbers, strict=True):
        _write(axes, *place, str(number), size=12, color=PAPER, weight="bold", ha="center", **style)


def _draw_heading(page: _Page, title: str, *, subtitle: str) -> None:
    """Draw what was asked, and below it of what."""
    lines = wrapped(title, INNER_WIDTH, size=24, most_lines=3, weight="bold")
    top = page.take(36 * len(lines) + 24)
    for number, line in enumerate(lines):
        _write(page.axes, MARGIN, top + 36 * number + 18, line, size=24, weight="bold")
    _write(page.axes, MARGIN, top + 36 * len(lines) + 14, subtitle, size=15, width=INNER_WIDTH, color=MUTED)


def _draw_notes(page: _Page, texts: Sequence[str]) -> None:
    """Draw caveats, on a background that cannot be overlooked."""
    lines = [line for text in texts for line in wrapped(text, INNER_WIDTH - 40, size=16, most_lines=2)]
    height = 26 * len(lines) + 20
    top = page.take(height)
    _box(page.axes, MARGIN, top, INNER_WIDTH, height, color=WARN_LIGHT)
    _box(page.axes, MARGIN, top, 6, height, color=WARN)
    for number, line in enumerate(lines):
        _write(page.axes, MARGIN + 22, top + 23 + 26 * number, line, size=16, color=WARN)


def _draw_curve(
    page: _Page,
    label: str,
    x: Floats,
    y: Floats,
    range_x: tuple[float, float],
    *,
    seconds: bool,
    height: float = 250,
    marks: Floats | None = None,
    spans: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw a curve under a label.

    Args:
        x: [N] in order.
        y: [N], of which only finite values are drawn, or empty for the axis alone.
        range_x: both ends of the axis, in seconds or else in iterations.
        height: of the plot alone.
        marks: places on the axis to number from 1; what has no room gets no number.
        spans: (start, end) on the axis to shade, instead of what lies below the curve.
    """
    head, foot = 30 if marks is None else 58, 30
    low_x, high_x = range_x[0], max(range_x[1], range_x[0] + 1e-3)
    known = np.flatnonzero(np.isfinite(y))
    x, y = x[known], y[known]
    top = page.take(head + height + foot)
    _write(page.axes, MARGIN, top + 9, label, size=15, width=INNER_WIDTH, color=MUTED)
    axes = page.plot(top + head, height)
    axes.margins(y=0.12)
    axes.plot(x, y, "o-" if len(x) <= _MOST_DOTS else "-", markersize=5, color=ACCENT, linewidth=2.2)
    low, high = axes.get_ylim()
    for start, end in spans:
        axes.axvspan(start, end, facecolor=MARK_LIGHT, edgecolor="none", zorder=0.1)
    if len(x) > 1 and not spans:
        axes.fill_between(x, y, low, facecolor=ACCENT_FAINT, edgecolor="none", zorder=0.1)
    if low < 0 < high and len(x):
        axes.axhline(0, color=MUTED, linewidth=1, zorder=0.6)
    axes.set(xlim=(low_x, high_x), ylim=(low, high))
    ticks = time_ticks(low_x, high_x) if seconds else _value_ticks(low_x, high_x, most=10)
    axes.set_xticks(ticks, [time_label(tick) if seconds else f"{tick:g}" for tick in ticks], **_style(14, MUTED))
    values = _value_ticks(low, high, most=max(2, round(height / 30))) if len(x) else []
    axes.set_yticks(values, [f"{value:.10g}" for value in values], **_style(14, MUTED))
    _draw_marks(axes, RIGHT - _PLOT_LEFT, height, np.asarray([] if marks is None else marks), x, y)


def wrapped(text: str, width: float, *, size: float, most_lines: int, weight: str = "normal") -> list[str]:
    """Return the text on at most so many lines, broken at spaces where it has any; "..." ends what goes on."""
    rest, lines = _legible(" ".join(text.split()), weight), list[str]()
    renderer, font = RendererAgg(1, 1, _DPI), FontProperties(family=_families(), size=size, weight=weight)

    def length(text: str) -> float:
        return renderer.get_text_width_height_descent(text, font, ismath=False)[0]

    def fitting(room: float) -> int:
        most = max(1, int(min(len(rest), 4 * room / size)))  # hardly any letter is narrower than a quarter of its size
        if length(rest[:most]) <= room:
            return most
        return max(1, bisect_right(range(1, most), room, key=lambda end: length(rest[:end])))

    while rest and len(lines) < most_lines:
        end = fitting(width)
        if end < len(rest) and len(lines) == most_lines - 1:
            return [*lines, f"{rest[: fitting(width - length('...'))].rstrip()}..."]
        if end < len(rest) and " " in rest[: end + 1]:
            end = rest.rindex(" ", 0, end + 1)
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines


def fitted(text: str, width: float, *, size: float, weight: str = "normal") -> str:
    """Return the text on one line, cut with "..." where it is longer than `width`."""
    return "".join(wrapped(text, width, size=size, most_lines=1, weight=weight))


def _value_ticks(low: float, high: float, *, most: int) -> list[float]:
    values = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


def _draw_marks(axes: Axes, width: float, height: float, marks: Floats, x: Floats, y: Floats) -> None:
    """Draw a line at each mark up to its number; numbers move aside where they would cover each other."""
    # Heights are shares of the axes' height.
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.vlines(marks, 0, 1, color=MARK, linewidth=1.4, **above)
    at = np.flatnonzero(np.isin(x, marks))
    axes.plot(x[at], y[at], "o", markersize=10, color=MARK)
    numbered = np.argsort(marks, kind="stable")[: int(width // _BADGE)]
    low, high = axes.get_xlim()
    places = _spread(marks[numbered], _BADGE / width * (high - low), (low, high))
    up = np.full(len(places), 1 + 22 / height)
    axes.plot([marks[numbered], places], [np.ones(len(places)), up], "-", color=MARK, linewidth=1.4, **above)
    _badges(axes, places, up, numbered + 1, **above)


def _spread(places: Floats, gap: float, ends: tuple[float, float]) -> Floats:
    """Return places in order that are at least `gap` apart, near to where they were."""
    offsets = gap * np.arange(len(places))
    right = np.maximum.accumulate(places - offsets)
    left = np.minimum.accumulate((places - offsets)[::-1])[::-1]
    last = ends[1] - gap * (len(places) - 1)
    return np.clip((left + right) / 2, ends[0], max(last, ends[0])) + offsets


def _style(size: float, color: str = INK) -> dict[str, Any]:
    return {"family": _families(), "size": size, "color": color, "parse_math": False, "usetex": False}


def _legible(text: str, weight: str) -> str:
    """Return the text without controls such as changes of direction, with a box for each character no font has."""
    known = _characters(weight)
    return "".join(shown if ord(shown) in known else "\u25a1" for shown in text if shown.isprintable())


@cache
def _families() -> list[str]:
    """Return the fonts that text is drawn with: of each character, the first that has it."""
    installed = {font.name for font in fontManager.ttflist}
    return [_BASE_FONT, *(name for name in _OTHER_FONTS if name in installed)]


@cache
def _characters(weight: str) -> frozenset[int]:
    fonts = [findfont(FontProperties(family=name, weight=weight)) for name in _families()]
    return frozenset().union(*(FT2Font(font).get_charmap() for font in fonts))

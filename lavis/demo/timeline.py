"""The score of every frame over the whole video, as HTML that fits any width and leads into the video."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from lavis.common.moments import frame_edges
from lavis.common.types import Floats
from lavis.export.records import time_label, time_ticks

_ROOM = 0.12  # above and below the curve, as a share of its height
# Numbers stand above each other where they are nearer than this share of the width, a phone's finger.
_APART = 0.065
_MOST_LEVELS = 4


@dataclass(frozen=True)
class Pin:
    """A numbered time to jump to; `label` is what a screen reader says."""

    number: int
    time_s: float
    label: str


@dataclass(frozen=True)
class Timeline:
    """A curve over a video.

    Attributes:
        times_s: [T] of the watched frames.
        scores: [T], or empty where frames are not scored.
        spans: (start, end) in seconds to shade.
        label: what the curve is.
        threshold: a score to draw a line at.
        others: times to mark beside the pins, such as those of uniform frames.
    """

    times_s: Floats
    scores: Floats
    duration_s: float
    pins: Sequence[Pin]
    spans: Sequence[tuple[float, float]]
    label: str
    threshold: float | None = None
    others: Sequence[float] = ()

    def html(self) -> str:
        """Return the markup; the page's script lets clicks and arrow keys move the player."""
        label, times = escape(self.label), " ".join(f"{time_s:.3f}" for time_s in self.times_s)
        levels = _levels([self._x(pin.time_s) for pin in self.pins])
        pins = "".join(
            f'<button type="button" class="pin" data-seek="{pin.time_s:.3f}" aria-label="{escape(pin.label)}"'
            f' style="left:{self._x(pin.time_s):.2%};--level:{level}">{pin.number}</button>'
            for pin, level in zip(self.pins, levels, strict=True)
        )
        others = "".join(f'<span class="uniform" style="left:{self._x(time_s):.2%}"></span>' for time_s in self.others)
        ticks = "".join(
            f'<span class="tick" style="left:{self._x(time_s):.2%}">{time_label(time_s)}</span>'
            for time_s in time_ticks(0, self._end, most=6)
        )
        return (
            f'<figure class="timeline" style="--levels:{max(levels, default=0) + 1}">'
            f'<figcaption>{label}</figcaption><div class="pins">{pins}</div>'
            f'<div class="track" role="slider" tabindex="0" aria-label="{label}: moves the video"'
            f' aria-valuemin="0" aria-valuemax="{self._end:.2f}" aria-valuenow="0" aria-valuetext="0 s"'
            f' data-end="{self._end:.3f}" data-times="{times}">'
            f'{self._svg()}{others}<span class="playhead"></span></div>'
            f'<div class="ticks" aria-hidden="true">{ticks}</div></figure>'
        )

    @property
    def _end(self) -> float:
        return max(self.duration_s, float(self.times_s[-1]), 1e-3)

    def _x(self, time_s: float) -> float:
        return min(max(time_s / self._end, 0.0), 1.0)

    def _svg(self) -> str:
        """Return spans, pins' lines and the curve, 1000 units wide and 100 high."""
        drawn = ""
        for start, end in self.spans:
            left, width = self._x(start), max(self._x(end) - self._x(start), 0.002)
            drawn += f'<rect class="span" x="{left * 1000:.1f}" y="0" width="{width * 1000:.1f}" height="100"/>'
        for pin in self.pins:
            x = f"{self._x(pin.time_s) * 1000:.1f}"
            drawn += f'<line class="stem" x1="{x}" x2="{x}" y1="0" y2="100"/>'
        if len(self.scores) and np.isfinite(self.scores).all():
            drawn += self._curve()
        return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'

    def _curve(self) -> str:
        levels = self.scores if self.threshold is None else np.append(self.scores, self.threshold)
        room = float(np.ptp(levels)) * _ROOM or 1.0
        heights = np.interp(levels, [levels.min() - room, levels.max() + room], [100.0, 0.0])
        xs = [f"{self._x(time_s) * 1000:.1f}" for time_s in self.times_s]
        points = " ".join(f"{x},{y:.2f}" for x, y in zip(xs, heights[: len(xs)], strict=True))
        drawn = f'<polygon class="area" points="{xs[0]},100 {points} {xs[-1]},100"/>'
        if self.threshold is not None:
            drawn += f'<line class="threshold" x1="0" x2="1000" y1="{heights[-1]:.2f}" y2="{heights[-1]:.2f}"/>'
        return drawn + f'<polyline class="curve" points="{points}"/>'


def best_span(times_s: Floats, scores: Floats, *, duration_s: float) -> tuple[float, float] | None:
    """Return the part around the best frame where scores stay in the upper half of their range, in seconds."""
    if not len(scores) or not np.isfinite(scores).all() or scores.min() == scores.max():
        return None
    high = scores >= (scores.min() + scores.max()) / 2
    first = last = int(scores.argmax())
    while first > 0 and high[first - 1]:
        first -= 1
    while last < len(scores) - 1 and high[last + 1]:
        last += 1
    edges = frame_edges(times_s, duration_s=max(duration_s, float(times_s[-1])))
    return float(edges[first]), float(edges[last + 1])


def _levels(places: Sequence[float]) -> list[int]:
    """Return on which row each place (a share of the width) has room for its number."""
    ends: list[float] = []
    levels = [0] * len(places)
    for index in sorted(range(len(places)), key=places.__getitem__):
        free = next((level for level, end in enumerate(ends) if places[index] - end >= _APART), None)
        if free is None and len(ends) < _MOST_LEVELS:
            ends.append(0.0)
            free = len(ends) - 1
        levels[index] = level = 0 if free is None else free
        ends[level] = places[index]
    return levels

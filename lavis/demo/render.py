"""Results as HTML, made by the macros of `results.html`, which escape everything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from lavis.common.errors import counted
from lavis.common.moments import frame_edges
from lavis.common.types import Floats, Moment, VideoInfo
from lavis.demo.service import AnswerResult, FindResult
from lavis.demo.videos import data_address
from lavis.export.records import LETTERS, best_positions, option_shares, time_label, time_ticks

_PARTS = {"decode": "Decode frames", "watch": "Watch (encode)", "localize": "Localize", "answer": "Answer"}
_ROOM = 0.12  # above and below the curve, as a share of its height
# Numbers stand above each other where they are nearer than this share of the width, a phone's finger.
_APART = 0.065
_MOST_LEVELS = 4


def html(part: str, *values: Any) -> str:
    """Return a part of the page: what the macro of this name makes of the values."""
    return str(getattr(_template().module, part)(*values))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    functions = (zip, counted, data_address, math.isfinite, option_shares, time_label, time_ticks)
    environment.globals.update({function.__name__: function for function in functions})
    environment.globals.update(LETTERS=LETTERS, PARTS=_PARTS, time_range=_range)
    lines = Path(__file__).with_name("results.html").read_text(encoding="utf-8").splitlines()
    return environment.from_string("".join(line.strip() for line in lines))


def facts_text(info: VideoInfo) -> str:
    """Return what a video is, in one line."""
    return (
        f"{time_label(info.duration_s, '.1f')} · {counted(info.num_frames, 'frame')} at {info.fps:.4g} per second"
        f" · {info.width} × {info.height}"
    )


def answered_html(answered: AnswerResult) -> str:
    """Return an answer with its evidence, and beside it the one from uniform frames where asked for."""
    frames, duration_s = answered.chosen.answer.keyframes, answered.info.duration_s
    span = best_span(frames.all_times_s, frames.all_scores, duration_s=duration_s)
    pins = [
        Pin(number, float(time_s), f"Keyframe {number} at {time_s:.2f} s")
        for number, time_s in enumerate(frames.times_s, start=1)
    ]
    label = "Localizer's score of each frame"
    if span:
        label += f"; shaded, where it is high: {span[0]:.1f} to {span[1]:.1f} s"
    others: list[float] = []
    if answered.uniform:
        label += "; circles mark uniform frames"
        others = answered.uniform.answer.keyframes.times_s.tolist()
    spans = [span] if span else []
    timeline = Timeline(frames.all_times_s, frames.all_scores, duration_s, pins, spans, label, others=others)
    return html("answered", answered, timeline)


def found_html(found: FindResult) -> str:
    """Return the moments of a search with their timeline."""
    moments = found.moments
    best_times_s = moments.times_s[best_positions(moments)]
    pins = [
        Pin(number, float(time_s), f"Moment {number}: {_range(moment)}")
        for number, (time_s, moment) in enumerate(zip(best_times_s, moments.moments, strict=True), start=1)
    ]
    spans = [(moment.start_s, moment.end_s) for moment in moments.moments]
    label = "How well each frame matches the sentence; above the line it matches"
    timeline = Timeline(moments.times_s, moments.scores, found.info.duration_s, pins, spans, label, threshold=0.0)
    return html("found", found, timeline)


def _range(moment: Moment) -> str:
    return f"{time_label(moment.start_s, '.1f')} to {time_label(moment.end_s, '.1f')}"


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

    @property
    def end_s(self) -> float:
        """Where the axis ends."""
        return max(self.duration_s, float(self.times_s[-1]), 1e-3)

    def x(self, time_s: float) -> float:
        """Return where a time stands, as a share of the width."""
        return min(max(time_s / self.end_s, 0.0), 1.0)

    @property
    def levels(self) -> list[int]:
        """On which row each pin's number has room."""
        places, ends = [self.x(pin.time_s) for pin in self.pins], list[float]()
        levels = [0] * len(places)
        for index in sorted(range(len(places)), key=places.__getitem__):
            free = next((level for level, end in enumerate(ends) if places[index] - end >= _APART), None)
            if free is None and len(ends) < _MOST_LEVELS:
                ends.append(0.0)
                free = len(ends) - 1
            levels[index] = level = 0 if free is None else free
            ends[level] = places[index]
        return levels

    @property
    def curve(self) -> tuple[list[tuple[float, float]], float | None] | None:
        """The points of the curve and the height of the threshold, 1000 units wide and 100 high, downwards."""
        if not len(self.scores) or not np.isfinite(self.scores).all():
            return None
        levels = self.scores if self.threshold is None else np.append(self.scores, self.threshold)
        room = float(np.ptp(levels)) * _ROOM or 1.0
        heights = np.interp(levels, [levels.min() - room, levels.max() + room], [100.0, 0.0]).tolist()
        points = [(self.x(time_s) * 1000, height) for time_s, height in zip(self.times_s, heights, strict=False)]
        return points, None if self.threshold is None else heights[-1]


def best_span(times_s: Floats, scores: Floats, *, duration_s: float) -> tuple[float, float] | None:
    """Return the part around the best frame where scores stay in the upper half of their range, in seconds."""
    if not len(scores) or not np.isfinite(scores).all() or scores.min() == scores.max():
        return None
    best, low = scores.argmax(), np.flatnonzero(scores < (scores.min() + scores.max()) / 2)
    first, end = low[low < best].max(initial=-1) + 1, low[low > best].min(initial=len(scores))
    edges = frame_edges(times_s, duration_s=max(duration_s, float(times_s[-1])))
    return float(edges[first]), float(edges[end])

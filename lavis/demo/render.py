"""Results as HTML, made by the macros of `results.html`, which escape everything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from lavis.common import defaults
from lavis.common.errors import counted
from lavis.common.moments import frame_edges
from lavis.common.types import Answer, Floats, Moment, Moments, Span, VideoInfo
from lavis.demo.service import AnswerResult, FindResult
from lavis.demo.videos import data_address
from lavis.export.records import LETTERS, best_positions, option_shares, time_label, time_ticks

_PARTS = {"decode": "Decode frames", "watch": "Watch (encode)", "localize": "Localize", "answer": "Answer"}
_ROOM = 0.12  # above and below the curve, as a share of its height
# Numbers stand above each other where they are nearer than this share of the width, a phone's finger.
_APART = 0.065
_MOST_LEVELS = 4
_MOST_MARKS = 6  # on the scale of scores
_LEAST_S = 1e-3
SHADED_MOMENTS = (
    f"Shaded, the moments: up to {counted(defaults.MAX_GAP_FRAMES, 'frame')} below the line may lie within one"
)


def html(part: str, *values: Any) -> str:
    """Return a part of the page: what the macro of this name makes of the values."""
    return str(getattr(_template().module, part)(*values))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    functions = (zip, counted, data_address, math.isfinite, option_shares, time_label, time_ticks)
    environment.globals.update({function.__name__: function for function in functions})
    environment.globals.update(LETTERS=LETTERS, PARTS=_PARTS, time_range=_range, part_text=_part_text)
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
    answer, frames = answered.chosen.answer, answered.chosen.answer.keyframes
    part = watched_part(answer, answered.info)
    spans, middle = high_spans(frames.all_times_s, frames.all_scores, part=part)
    pins = [
        Pin(number, float(time_s), f"Keyframe {number} at {time_s:.2f} s")
        for number, time_s in enumerate(frames.times_s, start=1)
    ]
    label = "Localizer's score of each frame"
    if spans:
        label += "; shaded, where it is in the upper half of its range, above the line"
    others: list[float] = []
    if answered.uniform:
        label += "; circles mark uniform frames"
        others = answered.uniform.answer.keyframes.times_s.tolist()
    curves = [Curve(frames.all_scores, spans)]
    timeline = Timeline(frames.all_times_s, curves, part, pins, label, threshold=middle, others=others)
    return html("answered", answered, timeline)


def found_html(found: FindResult) -> str:
    """Return the moments of all sentences, with their curves in one timeline."""
    curves: list[Curve] = []
    pins: list[Pin] = []
    for number, search in enumerate(found.searches):
        moments = search.moments
        curves.append(Curve(moments.scores, [(moment.start_s, moment.end_s) for moment in moments.moments]))
        for time_s, moment in zip(moments.times_s[best_positions(moments)], moments.moments, strict=True):
            label = f"Moment {len(pins) + 1}: {_range(moment)}"
            pins.append(Pin(len(pins) + 1, float(time_s), label, curve=number))
    first = found.searches[0].moments
    which = "the sentence" if len(found.searches) == 1 else "each sentence"
    label = f"How well each frame matches {which}; above the line it matches. {SHADED_MOMENTS}"
    timeline = Timeline(first.times_s, curves, watched_part(first, found.info), pins, label, threshold=0.0)
    return html("found", found, timeline)


def history_html(results: Sequence[AnswerResult | FindResult], shown: int | None) -> str:
    """Return buttons for the results about a video, in the order they came; nothing where there is none to go back to.

    Args:
        shown: which of them is on the page.
    """
    if not results or (len(results) == 1 and shown == 0):
        return ""
    return html("history", [_outcome(result) for result in results], shown)


def _outcome(result: AnswerResult | FindResult) -> tuple[str, str]:
    """Return what was asked, and in a word or two what came of it."""
    by = f" ({result.asked.model})" if result.asked.model else ""
    if isinstance(result, AnswerResult):
        return result.chosen.answer.question.text, f"{result.chosen.answer.text or 'no answer'}{by}"
    queries = " / ".join(search.moments.query for search in result.searches)
    return queries, f"{counted(len(result.all_moments), 'moment')}{by}"


def watched_part(result: Answer | Moments, info: VideoInfo) -> Span:
    """Return the part of the video that was watched."""
    last_s = result.keyframes.all_times_s[-1] if isinstance(result, Answer) else result.times_s[-1]
    return result.clip or Span(0.0, max(info.duration_s, float(last_s), _LEAST_S))


def _range(part: Moment | Span) -> str:
    return f"{time_label(part.start_s, '.1f')} to {time_label(part.end_s, '.1f')}"


def _part_text(clip: Span | None) -> str:
    return f", from {_range(clip)} of the video" if clip else ""


@dataclass(frozen=True)
class Pin:
    """A numbered time to jump to, of one of the curves; `label` is what a screen reader says."""

    number: int
    time_s: float
    label: str
    curve: int = 0


@dataclass(frozen=True)
class Curve:
    """Scores [T] of the watched frames, empty where they are not scored, and (start, end) in seconds to shade."""

    scores: Floats
    spans: Sequence[tuple[float, float]]

    @property
    def is_drawn(self) -> bool:
        """Whether there is anything to draw."""
        return bool(len(self.scores) and np.isfinite(self.scores).all())


@dataclass(frozen=True)
class Timeline:
    """Curves over the part of a video that was watched.

    Attributes:
        times_s: [T] of the watched frames.
        label: what the curves are, and what is shaded.
        threshold: a score to draw a line at.
        others: times to mark beside the pins, such as those of uniform frames.
    """

    times_s: Floats
    curves: Sequence[Curve]
    part: Span
    pins: Sequence[Pin]
    label: str
    threshold: float | None = None
    others: Sequence[float] = ()

    def x(self, time_s: float) -> float:
        """Return where a time stands, as a share of the width."""
        length_s = max(self.part.end_s - self.part.start_s, _LEAST_S)
        return min(max((time_s - self.part.start_s) / length_s, 0.0), 1.0)

    def y(self, score: float) -> float:
        """Return where a score stands, as a share of the height, downwards."""
        low, high = self.limits
        return (high - score) / (high - low)

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
    def drawn(self) -> list[Curve]:
        """The curves that can be drawn."""
        return [curve for curve in self.curves if curve.is_drawn]

    @property
    def limits(self) -> tuple[float, float]:
        """The scores at the lower and at the upper end of the scale."""
        levels = np.concatenate([*(curve.scores for curve in self.drawn), self._lines])
        room = float(np.ptp(levels)) * _ROOM or 1.0
        return float(levels.min()) - room, float(levels.max()) + room

    @property
    def _lines(self) -> list[float]:
        return [] if self.threshold is None else [self.threshold]

    @property
    def marks(self) -> list[tuple[str, float]]:
        """Round scores, as text, and where they stand; none where nothing is drawn."""
        if not self.drawn:
            return []
        from matplotlib.ticker import MaxNLocator

        low, high = self.limits
        ticks = MaxNLocator(nbins=_MOST_MARKS, steps=[1, 2, 5, 10]).tick_values(low, high)
        return [(f"{tick:g}", self.y(tick)) for tick in np.round(ticks, 9).tolist() if low <= tick <= high]

    def steps(self, curve: Curve) -> list[tuple[float, float]]:
        """Return the corners of a curve, as shares: each frame's score lasts as long as the frame stands for."""
        edges = [self.x(edge) for edge in _edges(self.times_s, self.part)]
        heights = [self.y(score) for score in curve.scores]
        return [(x, y) for start, end, y in zip(edges, edges[1:], heights, strict=False) for x in (start, end)]


def high_spans(times_s: Floats, scores: Floats, *, part: Span) -> tuple[list[tuple[float, float]], float | None]:
    """Return the stretches where scores are in the upper half of their range, in seconds, and the middle of the range.

    Without scores, and where they are all the same, there is neither.
    """
    if not len(scores) or not np.isfinite(scores).all() or scores.min() == scores.max():
        return [], None
    middle = (scores.min() + scores.max()) / 2
    edges = _edges(times_s, part)
    changes = np.flatnonzero(np.diff(scores >= middle, prepend=False, append=False))
    return [(float(edges[first]), float(edges[end])) for first, end in changes.reshape(-1, 2)], float(middle)


def _edges(times_s: Floats, part: Span) -> Floats:
    """Return the [T + 1] borders of the times that frames stand for, within the part that was watched."""
    return frame_edges(times_s - part.start_s, duration_s=part.end_s - part.start_s) + part.start_s

"""Results as HTML. Everything that comes from a visitor, a file or a model is escaped here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from lavis.common.errors import counted
from lavis.common.moments import frame_edges
from lavis.common.types import Answer, Floats, Moment, VideoInfo
from lavis.demo.service import AnswerResult, FindResult, PicturedAnswer, Seconds
from lavis.demo.videos import Example, data_address
from lavis.export.records import LETTERS, best_positions, option_shares, time_label, time_ticks

_PARTS = {
    "decode": "Decode frames",
    "watch": "Watch (encode)",
    "localize": "Localize",
    "answer": "Answer",
}
_ROOM = 0.12  # above and below the curve, as a share of its height
# Numbers stand above each other where they are nearer than this share of the width, a phone's finger.
_APART = 0.065
_MOST_LEVELS = 4


def header_html(model_name: str) -> str:
    """Return the head of the page."""
    return (
        '<header class="masthead"><div><h1>SeViLA</h1>'
        "<p>Ask a question about a video, and see which frames the answer comes from.</p></div>"
        f'<p class="model">model <strong>{escape(model_name)}</strong></p></header>'
    )


def caveats_html(caveats: Sequence[str]) -> str:
    """Return what must not be overlooked, or nothing."""
    if not caveats:
        return ""
    lines = "".join(f"<p>{escape(caveat[:1].upper() + caveat[1:])}.</p>" for caveat in caveats)
    return f'<aside class="caveats" role="note">{lines}</aside>'


def examples_html(examples: Sequence[Example]) -> str:
    """Return a card for each shipped clip; a click on one asks its first question."""
    cards = "".join(
        f'<button type="button" class="example" data-pick="{number}">'
        f'<img src="{example.poster}" alt=""><span class="question">{escape(example.questions[0].text)}</span>'
        f'<span class="facts">{time_label(example.duration_s, ".1f")} clip</span></button>'
        for number, example in enumerate(examples)
    )
    return f'<p class="eyebrow">Or ask about an example</p><div class="examples">{cards}</div>' if cards else ""


def more_questions_html(example: Example | None) -> str:
    """Return further questions on a shipped clip as buttons, or nothing."""
    if example is None:
        return ""
    buttons = "".join(
        f'<button type="button" class="chip" data-question="{number}">{escape(question.text)}</button>'
        for number, question in enumerate(example.questions)
    )
    return f'<p class="eyebrow">Ask this clip</p><div class="chips">{buttons}</div>'


def error_html(message: str) -> str:
    """Return a message to stand beside a field, or nothing."""
    return f'<p class="field-error" role="alert">{escape(message)}</p>' if message else ""


def facts_text(info: VideoInfo) -> str:
    """Return what a video is, in one line."""
    return (
        f"{time_label(info.duration_s, '.1f')} · {counted(info.num_frames, 'frame')} at {info.fps:.4g} per second"
        f" · {info.width} × {info.height}"
    )


def answered_html(answered: AnswerResult) -> str:
    """Return an answer with its evidence, and beside it the one from uniform frames where asked for."""
    answer = answered.chosen.answer
    scores = answer.keyframes.all_scores
    panels = _panel(answered.chosen, scores, title="Localizer's frames" if answered.uniform else "")
    if answered.uniform:
        verdict = "Both give the same answer." if _same(answered) else "The two answers differ."
        panels += _panel(answered.uniform, scores, title="Uniform frames")
        panels = f'<p class="verdict">{verdict}</p><div class="compared">{panels}</div>'
    return (
        f'<article class="result" data-answer="{"" if answer.index is None else answer.index}">'
        f'<p class="asked">{escape(answer.question.text)}</p>{caveats_html(answered.caveats)}{panels}'
        f"{_answer_timeline(answered)}{_parts(answered)}</article>"
    )


def found_html(found: FindResult) -> str:
    """Return the moments of a search with their timeline."""
    moments = found.moments
    pins = [
        Pin(number, _best_time(found, number), f"Moment {number}: {_range(moment)}")
        for number, moment in enumerate(moments.moments, start=1)
    ]
    timeline = Timeline(
        moments.times_s,
        moments.scores,
        found.info.duration_s,
        pins,
        [(moment.start_s, moment.end_s) for moment in moments.moments],
        "How well each frame matches the sentence; above the line it matches",
        threshold=0.0,
    )
    count = len(moments.moments)
    headline = "No moment found" if not count else f"{counted(count, 'moment')} found"
    rows = "".join(
        _moment_row(number, moment, picture)
        for number, (moment, picture) in enumerate(zip(moments.moments, found.pictures, strict=True), start=1)
    )
    nearest = ""
    if not count:
        best = time_label(moments.times_s[moments.scores.argmax()], ".1f")
        nearest = f'<p class="hint">The nearest frame, at {best}, does not reach the line.</p>'
    read = f"{counted(len(moments.times_s), 'frame')} compared with the sentence"
    return (
        f'<article class="result found" data-moments="{count}"><p class="asked">{escape(moments.query)}</p>'
        f'{caveats_html(found.caveats)}<p class="answer">{headline}</p>{nearest}{timeline.html()}'
        f'<ol class="moments">{rows}</ol>{_took(found.seconds, known=found.known, read=read)}</article>'
    )


def preview_html(address: str, name: str, title: str) -> str:
    """Return a player for a cut clip, with a link that saves it."""
    return (
        f'<section class="preview" aria-label="Cut clip"><p class="eyebrow">{escape(title)}</p>'
        f'<video controls playsinline preload="auto" src="{escape(address)}" aria-label="{escape(title)}"></video>'
        f'<a class="save" href="{escape(address)}" download="{escape(name)}">Save this clip</a></section>'
    )


def _panel(shown: PicturedAnswer, scores: Floats, *, title: str) -> str:
    head = f'<h3 class="eyebrow">{escape(title)}</h3>' if title else ""
    return (
        f'<section class="panel">{head}{_headline(shown.answer)}{_bars(shown.answer)}'
        f'<h3 class="eyebrow">The frames it read</h3>{_strip(shown, scores)}</section>'
    )


def _headline(answer: Answer) -> str:
    if answer.index is None:
        text = escape(answer.text) or "<em>no answer</em>"
        return f'<p class="answer">{text}</p>'
    return f'<p class="answer"><span class="letter">{LETTERS[answer.index]}</span>{escape(answer.text)}</p>'


def _bars(answer: Answer) -> str:
    rows = ""
    for index, (text, share) in enumerate(
        zip(answer.question.options, option_shares(answer.option_scores), strict=True)
    ):
        chosen = ' aria-current="true"' if index == answer.index else ""
        score = f"logit {answer.option_scores[index]:.3f}"
        rows += (
            f'<li class="option"{chosen} title="{score}"><span class="letter">{LETTERS[index]}</span>'
            f'<span class="text">{escape(text)}</span><span class="share">{share:.0%}</span>'
            f'<span class="bar"><span style="width:{share:.2%}"></span></span></li>'
        )
    return f'<ol class="options">{rows}</ol>' if rows else ""


def _strip(shown: PicturedAnswer, scores: Floats) -> str:
    """Return the frames that were read; uniform frames have scores too, though they were not chosen by them."""
    frames = shown.answer.keyframes
    figures = ""
    for number, (time_s, score, picture) in enumerate(
        zip(frames.times_s, scores[frames.positions], shown.pictures, strict=True), start=1
    ):
        caption = f"<b>{time_s:.2f} s</b>" + (f" <i>score {score:.2f}</i>" if math.isfinite(score) else "")
        figures += (
            f'<li><button type="button" class="frame" data-seek="{time_s:.3f}"'
            f' aria-label="Keyframe {number} at {time_s:.2f} s: show it in the player">'
            f'<img src="{data_address(picture)}" alt="Keyframe {number}"><span class="number">{number}</span></button>'
            f'<span class="caption">{caption}</span></li>'
        )
    return f'<ol class="strip">{figures}</ol>'


def _answer_timeline(answered: AnswerResult) -> str:
    frames = answered.chosen.answer.keyframes
    duration_s = answered.info.duration_s
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
        others = [float(time_s) for time_s in answered.uniform.answer.keyframes.times_s]
    spans = [span] if span else []
    return Timeline(frames.all_times_s, frames.all_scores, duration_s, pins, spans, label, others=others).html()


def _parts(answered: AnswerResult) -> str:
    keyframes = answered.chosen.answer.keyframes
    read = f"{counted(len(keyframes), 'keyframe')} read of {counted(len(keyframes.all_times_s), 'frame')} watched"
    return _took(answered.seconds, known=answered.known, read=read)


def _took(seconds: Seconds, *, known: bool, read: str) -> str:
    cells = ""
    for part, name in _PARTS.items():
        skipped = known and part in ("decode", "watch")
        if not skipped and not seconds[part]:
            continue
        value = "already done" if skipped else f"{seconds[part]:.2f} s"
        cells += f'<div data-part="{part}"><dt>{name}</dt><dd>{value}</dd></div>'
    return f'<footer class="took"><p>{escape(read)}</p><dl>{cells}</dl></footer>'


def _moment_row(number: int, moment: Moment, picture: bytes) -> str:
    label = f"Moment {number}, {_range(moment)}"
    return (
        f'<li><button type="button" class="frame" data-seek="{moment.start_s:.3f}"'
        f' aria-label="{label}: show its start in the player"><img src="{data_address(picture)}" alt="">'
        f'<span class="number">{number}</span></button><div><b>{_range(moment)}</b>'
        f'<span class="hint">score {moment.score:.2f}</span>'
        f'<button type="button" class="chip" data-cut="{number - 1}" aria-label="{label}: preview the cut clip">'
        "Preview clip</button></div></li>"
    )


def _best_time(found: FindResult, number: int) -> float:
    return float(found.moments.times_s[best_positions(found.moments)[number - 1]])


def _same(answered: AnswerResult) -> bool:
    assert answered.uniform is not None
    return answered.chosen.answer.text == answered.uniform.answer.text


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

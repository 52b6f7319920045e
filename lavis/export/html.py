"""A result as a notebook shows it: a piece of HTML that needs nothing else, of bounded size."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from lavis.common.types import Answer, Floats, Moments
from lavis.export.files import Picture
from lavis.export.records import LETTERS, best_positions, option_shares, time_label

MOST_PICTURES = 8
_PICTURE_SIDE, _QUALITY = 200, 80
_MOST_TEXT, _MOST_CAVEATS, _MOST_MOMENTS = 400, 5, 20
_MOST_POINTS, _WIDTH, _HEIGHT, _EDGE = 400, 720, 80, 4


def result_html(result: Answer | Moments, pictures: Sequence[Picture], *, note: str = "") -> str:
    """Return HTML of a result.

    Args:
        pictures: uint8 [H, W, 3], of the keyframes or of the best frames of the moments; the first ones are shown.
        note: what else is said below, such as why there are no pictures.
    """
    parts = _answer(result) if isinstance(result, Answer) else _moments(result)
    if isinstance(result, Answer):
        times_s, curve = result.keyframes.times_s, (result.keyframes.all_times_s, result.keyframes.all_scores)
    else:
        times_s, curve = result.times_s[best_positions(result)], (result.times_s, result.scores)
    shown = zip(pictures[:MOST_PICTURES], times_s, strict=False)
    parts.append("".join(_picture(picture, float(time_s)) for picture, time_s in shown))
    if len(times_s) > MOST_PICTURES:
        parts.append(f"<div>and {len(times_s) - MOST_PICTURES} more</div>")
    parts.append(_curve(*curve, marks=times_s))
    notes = [*result.caveats[:_MOST_CAVEATS], *([note] if note else [])]
    parts += [f"<div><small>{_text(one)}</small></div>" for one in notes]
    return f'<div style="max-width:{_WIDTH}px">{"".join(parts)}</div>'


def _answer(answer: Answer) -> list[str]:
    said = f"{LETTERS[answer.index]} {answer.text}" if answer.index is not None else answer.text or "(no answer)"
    shares = option_shares(answer.option_scores)
    rows = [
        f"<li>{_text(text)}{f' ({shares[place]:.0%})' if shares else ''}</li>"
        for place, text in enumerate(answer.question.options)
    ]
    options = f'<ol type="A">{"".join(rows)}</ol>' if rows else ""
    return [f"<div>{_text(answer.question.text)}</div>", options, f"<div><b>{_text(said)}</b></div>"]


def _moments(moments: Moments) -> list[str]:
    rows = [
        f"<li>{time_label(one.start_s, '.1f')} to {time_label(one.end_s, '.1f')}, score {one.score:.2f}</li>"
        for one in moments.moments[:_MOST_MOMENTS]
    ]
    if len(moments.moments) > _MOST_MOMENTS:
        rows.append(f"<li>and {len(moments.moments) - _MOST_MOMENTS} more</li>")
    return [f"<div>{_text(moments.query)}</div>", f"<ol>{''.join(rows)}</ol>" if rows else "<div>no moment found</div>"]


def _text(text: str) -> str:
    return escape(text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}...")


def _picture(picture: Picture, time_s: float) -> str:
    small, buffer = Image.fromarray(picture), BytesIO()
    small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    small.save(buffer, "JPEG", quality=_QUALITY)
    data, label = base64.b64encode(buffer.getvalue()).decode(), time_label(time_s, ".2f")
    return (
        '<div style="display:inline-block;margin:4px">'
        f'<img alt="the frame at {label}" src="data:image/jpeg;base64,{data}"><div>{label}</div></div>'
    )


def _curve(times_s: Floats, scores: Floats, *, marks: Floats) -> str:
    """Return the scores over time as SVG, with a line at each mark; nothing where no frame is scored."""
    if not len(scores) or not (known := np.isfinite(scores)).any():
        return ""
    times_s, scores = times_s[known], scores[known]
    if len(scores) > _MOST_POINTS:  # the highest of each run, which is what is looked for
        starts = np.linspace(0, len(scores), _MOST_POINTS, endpoint=False).astype(np.int64)
        times_s, scores = times_s[starts], np.maximum.reduceat(scores, starts)
    start_s, low = times_s[0], scores.min()
    x = _EDGE + (times_s - start_s) / max(times_s[-1] - start_s, 1e-9) * (_WIDTH - 2 * _EDGE)
    y = _HEIGHT - _EDGE - (scores - low) / max(scores.max() - low, 1e-9) * (_HEIGHT - 2 * _EDGE)
    points = " ".join(f"{left:.1f},{top:.1f}" for left, top in zip(x, y, strict=True))
    lines = "".join(
        f'<line x1="{left:.1f}" x2="{left:.1f}" y1="0" y2="{_HEIGHT}" stroke="#e8590c"/>'
        for left in np.interp(marks[:_MOST_POINTS], times_s, x)
    )
    label = f"scores from {low:.2f} to {scores.max():.2f}, {time_label(float(start_s), '.1f')} to "
    label += time_label(float(times_s[-1]), ".1f")
    return (
        f'<svg role="img" width="{_WIDTH}" height="{_HEIGHT}" style="max-width:100%"><title>{label}</title>{lines}'
        f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="2"/></svg>'
    )

"""An answer or a search as one picture: what was asked, the score of each frame, and the frames that count."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lavis.common.moments import frame_edges
from lavis.common.types import Answer, Floats, Keyframes, Moment, Moments, Span, VideoInfo
from lavis.export.axes import time_label
from lavis.export.blocks import Bar, Bars, Curve, Heading, Mark, Notes, Thumbnail, Thumbnails
from lavis.export.canvas import Block, stack
from lavis.export.records import LETTERS

_JPEG_QUALITY = 92
_THUMBNAIL_SIDE = 640
_MOST_THUMBNAILS = 24


def jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture [H, W, 3] as a JPEG of the same size."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def thumbnail(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a picture [H, W, 3] as small as result pictures show it, with the same sides' ratio."""
    small = Image.fromarray(picture)
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return np.asarray(small)


def option_shares(scores: Floats) -> list[float]:
    """Return the softmax of option scores [O]: how the model spreads itself over the options."""
    if not len(scores) or not np.isfinite(scores).all():
        return [0.0] * len(scores)
    weights = np.exp(scores - scores.max())
    return [float(share) for share in weights / weights.sum()]


def answer_picture(answer: Answer, *, video: VideoInfo, model: str, frames: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Return a PNG of an answer.

    Args:
        frames: the picture of each keyframe, uint8 [H, W, 3], in their order.
    """
    keyframes = answer.keyframes
    shares = option_shares(answer.option_scores)
    bars = [
        Bar(LETTERS[index], text, share, f"{share:.0%}", chosen=index == answer.index)
        for index, (text, share) in enumerate(zip(answer.question.options, shares, strict=True))
    ]
    scores = keyframes.scores if len(keyframes.scores) else [math.nan] * len(keyframes)
    times = [float(time_s) for time_s in keyframes.times_s]
    label = _score_label(keyframes)
    if len(frames) > _MOST_THUMBNAILS:
        label += f"; below, the first {_MOST_THUMBNAILS} of {len(frames)} keyframes"
    parts: list[Block] = [Heading(answer.question.text, subtitle=_subtitle(answer, video, model))]
    if answer.caveats:
        parts.append(Notes(answer.caveats))
    parts.append(Bars(bars) if bars else Heading(answer.text or "(no answer)", subtitle="open answer"))
    parts.append(
        Curve(
            _points(keyframes.all_times_s, keyframes.all_scores),
            range_s=_time_range(keyframes.all_times_s, video, answer.clip),
            marks=[Mark(number, time_s) for number, time_s in enumerate(times, start=1)],
            label=label,
        )
    )
    captions = [_caption(time_s, score) for time_s, score in zip(times, scores, strict=True)]
    parts.append(_thumbnails(frames, captions))
    return stack(parts)


def moments_picture(
    moments: Moments, *, video: VideoInfo, model: str, frames: Sequence[npt.NDArray[np.uint8]]
) -> bytes:
    """Return a PNG of the moments found for a query.

    Args:
        frames: the best frame of each of the first moments (see `best_positions`), uint8 [H, W, 3].
    """
    times = [float(moments.times_s[position]) for position in best_positions(moments)][: len(frames)]
    parts: list[Block] = [Heading(moments.query, subtitle=_subtitle(moments, video, model))]
    if moments.caveats:
        parts.append(Notes(moments.caveats))
    parts.append(
        Curve(
            _points(moments.times_s, moments.scores),
            range_s=_time_range(moments.times_s, video, moments.clip),
            marks=[Mark(number, time_s) for number, time_s in enumerate(times, start=1)],
            spans=[(found.start_s, found.end_s) for found in moments.moments],
            label="how well each frame matches" if moments.moments else "how well each frame matches: no moment found",
        )
    )
    captions = [
        f"{time_label(round(found.start_s, 1))} to {time_label(round(found.end_s, 1))}, score {found.score:.2f}"
        for found in moments.moments
    ]
    if frames:
        parts.append(_thumbnails(frames, captions[: len(frames)]))
    return stack(parts)


def best_positions(moments: Moments) -> list[int]:
    """Return for each moment the position of its frame with the highest score, among the sampled frames."""
    return [_best_position(found, moments.times_s, moments.scores) for found in moments.moments]


def _best_position(found: Moment, times_s: Floats, scores: Floats) -> int:
    inside = np.flatnonzero((times_s >= found.start_s) & (times_s <= found.end_s))
    if not len(inside):  # a clip shorter than its frame, which was shown before and stayed
        return int(np.abs(times_s - found.start_s).argmin())
    return int(inside[scores[inside].argmax()])


def _subtitle(result: Answer | Moments, video: VideoInfo, model: str) -> str:
    length = f"{video.duration_s:.1f} s" if video.duration_s < 60 else time_label(video.duration_s)
    part = f"{result.clip} watched | " if result.clip else ""
    return f"{Path(video.path).name} | {length} | {part}{model}"


def _caption(time_s: float, score: float) -> str:
    time = f"{time_s:.2f} s" if time_s < 60 else time_label(time_s)
    return f"{time}, score {score:.2f}" if math.isfinite(score) else time


def _score_label(keyframes: Keyframes) -> str:
    total = len(keyframes.all_scores)
    if not total:
        return "the frames that were read (frames are not scored)"
    if keyframes.num_scored == total:
        return "score of each frame"
    return f"score of the {keyframes.num_scored} frames that were scored, of {total}"


def _points(times_s: Floats, scores: Floats) -> list[tuple[float, float]]:
    pairs = zip(times_s, scores, strict=False)
    return [(float(time_s), float(score)) for time_s, score in pairs if math.isfinite(score)]


def _time_range(times_s: Floats, video: VideoInfo, clip: Span | None) -> tuple[float, float]:
    if clip is not None:
        return clip.start_s, clip.end_s
    edges = frame_edges(times_s, duration_s=max(video.duration_s, float(times_s[-1])))
    return float(edges[0]), float(edges[-1])


def _thumbnails(frames: Sequence[npt.NDArray[np.uint8]], captions: Sequence[str]) -> Thumbnails:
    shown = list(zip(frames, captions, strict=True))[:_MOST_THUMBNAILS]
    pairs = enumerate(shown, start=1)
    return Thumbnails([Thumbnail(number, Image.fromarray(frame), caption) for number, (frame, caption) in pairs])

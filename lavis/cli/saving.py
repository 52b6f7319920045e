"""Which files a result is saved as."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lavis.cli.watching import Watched
from lavis.common.types import Answer, Moments
from lavis.export import (
    answer_picture,
    answer_record,
    jpeg,
    keyframe_name,
    moments_picture,
    moments_record,
    moments_vtt,
    slug,
    thumbnail,
    to_json,
)
from lavis.export.pictures import best_positions

_MOST_MOMENT_PICTURES = 8
_READ_AT_ONCE = 8


@dataclass(frozen=True)
class _Frame:
    jpeg: bytes
    small: npt.NDArray[np.uint8]


def answer_files(answer: Answer, watched: Watched) -> dict[str, bytes]:
    """Return the files of an answer by name: the record, the keyframes as they are in the video, the picture."""
    video, keyframes = watched.video, answer.keyframes
    frames = _read(watched, keyframes.frame_idx)
    origin: dict[str, Any] = {"video": video.info, "model": watched.model_name}
    record = answer_record(answer, timings_s=watched.timings_s, **origin)
    files = {"answer.json": _text(to_json(record))}
    chosen = zip(keyframes.times_s, keyframes.frame_idx, frames, strict=True)
    for number, (time_s, frame_idx, frame) in enumerate(chosen, start=1):
        files[keyframe_name(number, time_s=float(time_s), frame_idx=int(frame_idx))] = frame.jpeg
    files["scores.png"] = answer_picture(answer, frames=[frame.small for frame in frames], **origin)
    return files


def all_answer_files(answers: Sequence[Answer], watched: Watched) -> dict[str, bytes]:
    """Return the files of several answers, each in a folder of its own, numbered and named by id or question."""
    files: dict[str, bytes] = {}
    for number, answer in enumerate(answers, start=1):
        folder = f"{number:02d}_{slug(answer.question.id or answer.question.text)}".rstrip("_")
        files |= {f"{folder}/{name}": content for name, content in answer_files(answer, watched).items()}
    return files


def moments_files(moments: Moments, watched: Watched) -> dict[str, bytes]:
    """Return the files of a moment search by name: the record, subtitles, the picture."""
    best = best_positions(moments)[:_MOST_MOMENT_PICTURES]
    frames = _read(watched, watched.video.frame_idx[best])
    origin: dict[str, Any] = {"video": watched.video.info, "model": watched.model_name}
    return {
        "moments.json": _text(to_json(moments_record(moments, timings_s=watched.timings_s, **origin))),
        "moments.vtt": _text(moments_vtt(moments)),
        "scores.png": moments_picture(moments, frames=[frame.small for frame in frames], **origin),
    }


def _read(watched: Watched, frame_idx: npt.NDArray[np.int64]) -> list[_Frame]:
    """Read frames in any order at the video's own size, and keep them only as JPEG and thumbnail."""
    order, places = np.unique(frame_idx, return_inverse=True)
    frames = [
        _Frame(jpeg(picture), thumbnail(picture))
        for start in range(0, len(order), _READ_AT_ONCE)
        for picture in watched.video.frames(order[start : start + _READ_AT_ONCE]).frames
    ]
    return [frames[place] for place in places]


def _text(content: str) -> bytes:
    return f"{content.rstrip()}\n".encode()

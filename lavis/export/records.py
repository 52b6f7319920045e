"""Answers and moments as records of plain values for JSON, and in words.

The field names of records do not change:

| field | of | value |
|---|---|---|
| `id` | answer | the question's id; "" where it has none |
| `question`, `options` | answer | what was asked |
| `answer`, `answer_index` | answer | the chosen option's text and index from 0; for an open answer its text and null |
| `option_scores` | answer | `letter`, `text`, `score` (logit) of each option; empty where only the choice is known |
| `num_keyframes` | answer | how many frames were read |
| `keyframes` | answer | `frame_idx` in the source, `time_s`, `score` (null where frames are not scored); `size`, the \
side as a part of the frame's own, where frames were read at several sizes |
| `frame_choices` | answer | the option index each keyframe chose alone; empty where keyframes are read together |
| `query`, `moments` | moments | the sentence; `start_s`, `end_s`, `score` of each moment, best first |
| `frame_scores` | both | `frame_idx` in the source, `time_s`, `score` of each watched frame (null: not scored); empty \
where none is scored |
| `caveats` | both | what a reader must know, such as untrained weights, or that the clip reached beyond the video |
| `clip` | both | `start_s`, `end_s` of the part of the video that was watched; null for all of it |
| `video` | both | `path`, `duration_s`, `fps`, `num_frames` |
| `model` | both | the model's name |
| `frames_remembered` | both, of commands | how many of the watched frames came from the cache |
| `timings_s` | both | seconds per part, of all questions that were asked together |
| `cost` | both | of all questions that were asked together: `frames_decoded`, with watching the video the first time, \
`frames_scored`, `scorer_calls`, `seconds`, `frame_tokens` (null where the model does not say) |

Where `sevila answer --json` is asked about several videos, it prints one list; a video that could not be asked is in it
as `video`, with its `path` alone, and `error`, the reason.

A number that is not finite becomes null.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lavis.common.types import Answer, Floats, Integers, Moments, VideoInfo

Record = dict[str, Any]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def answer_record(answer: Answer, *, video: VideoInfo, model: str, timings_s: Mapping[str, float]) -> Record:
    """Return the record of an answer."""
    question, keyframes = answer.question, answer.keyframes
    scores = keyframes.scores if len(keyframes.scores) else [math.nan] * len(keyframes)
    sizes: list[Record] = [{"size": float(size)} for size in keyframes.sizes] or [{}] * len(keyframes)
    return {
        "id": question.id,
        "question": question.text,
        "options": list(question.options),
        "answer": answer.text,
        "answer_index": answer.index,
        "option_scores": [
            {"letter": letter, "text": text, "score": _number(score)}
            for letter, text, score in zip(LETTERS, question.options, answer.option_scores, strict=False)
        ],
        "num_keyframes": len(keyframes),
        "keyframes": [
            {"frame_idx": int(frame_idx), "time_s": _number(time_s), "score": _number(score), **size}
            for frame_idx, time_s, score, size in zip(
                keyframes.frame_idx, keyframes.times_s, scores, sizes, strict=True
            )
        ],
        "frame_choices": [int(choice) for choice in answer.frame_choices],
        "frame_scores": _curve(keyframes.all_frame_idx, keyframes.all_times_s, keyframes.all_scores),
        **_origin(answer, video=video, model=model, timings_s=timings_s),
    }


def moments_record(moments: Moments, *, video: VideoInfo, model: str, timings_s: Mapping[str, float]) -> Record:
    """Return the record of the moments found for a query."""
    return {
        "query": moments.query,
        "moments": [
            {"start_s": _number(moment.start_s), "end_s": _number(moment.end_s), "score": _number(moment.score)}
            for moment in moments.moments
        ],
        "frame_scores": _curve(moments.frame_idx, moments.times_s, moments.scores),
        **_origin(moments, video=video, model=model, timings_s=timings_s),
    }


def to_json(record: Record | list[Record]) -> str:
    """Return JSON text; it is ASCII, so that it survives any terminal, and paths that are no text too."""
    return json.dumps(record, indent=2, allow_nan=False)


def option_shares(scores: Floats) -> list[float]:
    """Return the softmax of option scores [O]: how the model spreads itself over the options."""
    if not len(scores) or not np.isfinite(scores).all():
        return [0.0] * len(scores)
    weights = np.exp(scores - scores.max())
    return [float(share) for share in weights / weights.sum()]


def best_positions(moments: Moments) -> list[int]:
    """Return for each moment the position of its frame with the highest score, among the sampled frames."""
    best = []
    for moment in moments.moments:
        inside = np.flatnonzero((moments.times_s >= moment.start_s) & (moments.times_s <= moment.end_s))
        if not len(inside):  # a clip shorter than its frame, which was shown before and stayed
            inside = np.array([np.abs(moments.times_s - moment.start_s).argmin()])
        best.append(int(inside[moments.scores[inside].argmax()]))
    return best


def time_label(time_s: float, spec: str = "g") -> str:
    """Return seconds formatted by `spec`, such as "5 s", or, from a minute on, "1:05"."""
    if time_s < 60:
        return f"{time_s:{spec}} s"
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d}"


def time_ticks(start_s: float, end_s: float, *, most: int = 12) -> list[float]:
    """Return round times between two times, at most so many."""
    needed = (end_s - start_s) / most
    step = next((step for step in _STEPS_S if step >= needed), needed)
    first, last = math.ceil(start_s / step - 1e-9), math.floor(end_s / step + 1e-9)
    # Rounded, because 3 * 0.1 is no number to be read.
    return [round(index * step, 9) for index in range(first, last + 1)]


def _origin(result: Answer | Moments, *, video: VideoInfo, model: str, timings_s: Mapping[str, float]) -> Record:
    clip = result.clip
    return {
        "caveats": list(result.caveats),
        "clip": {"start_s": _number(clip.start_s), "end_s": _number(clip.end_s)} if clip else None,
        "video": {
            "path": video.path,
            "duration_s": _number(video.duration_s),
            "fps": _number(video.fps),
            "num_frames": video.num_frames,
        },
        "model": model,
        "timings_s": {part: _number(seconds) for part, seconds in timings_s.items()},
        "cost": asdict(result.cost) if result.cost else None,
    }


def _curve(frame_idx: Integers, times_s: Floats, scores: Floats) -> list[Record]:
    # Without scores there is no curve, though there are times.
    indices: list[Record] = [{"frame_idx": int(index)} for index in frame_idx] or [{}] * len(scores)
    return [
        {**index, "time_s": _number(time_s), "score": _number(score)}
        for index, time_s, score in zip(indices, times_s, scores, strict=False)
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

"""Answers and moments as records of plain values, with field names that do not change.

| field | of | value |
|---|---|---|
| `id` | answer | the question's id; "" where it has none |
| `question`, `options` | answer | what was asked |
| `answer`, `answer_index` | answer | the chosen option's text and index from 0; for an open answer its text and null |
| `option_scores` | answer | `letter`, `text`, `score` (logit) of each option |
| `keyframes` | answer | `frame_idx` in the source, `time_s`, `score` (null where frames are not scored) |
| `frame_choices` | answer | the option index each keyframe chose alone; empty where keyframes are read together |
| `query`, `moments` | moments | the sentence; `start_s`, `end_s`, `score` of each moment, best first |
| `frame_scores` | both | `time_s`, `score` of each watched frame (null: not scored); empty where none is scored |
| `caveats` | both | what a reader must know, such as untrained weights, or that the clip reached beyond the video |
| `clip` | both | `start_s`, `end_s` of the part of the video that was watched; null for all of it |
| `video` | both | `path`, `duration_s`, `fps`, `num_frames` |
| `model` | both | the model's name |
| `timings_s` | both | seconds per part, of all questions that were asked together |

A number that is not finite becomes null.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from lavis.common.types import Answer, Floats, Moments, VideoInfo

Record = dict[str, Any]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def answer_record(answer: Answer, *, video: VideoInfo, model: str, timings_s: Mapping[str, float]) -> Record:
    """Return the record of an answer."""
    question, keyframes = answer.question, answer.keyframes
    scores = keyframes.scores if len(keyframes.scores) else [math.nan] * len(keyframes)
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
        "keyframes": [
            {"frame_idx": int(frame_idx), "time_s": _number(time_s), "score": _number(score)}
            for frame_idx, time_s, score in zip(keyframes.frame_idx, keyframes.times_s, scores, strict=True)
        ],
        "frame_choices": [int(choice) for choice in answer.frame_choices],
        "frame_scores": _curve(keyframes.all_times_s, keyframes.all_scores),
        **_origin(answer, video=video, model=model, timings_s=timings_s),
    }


def moments_record(moments: Moments, *, video: VideoInfo, model: str, timings_s: Mapping[str, float]) -> Record:
    """Return the record of the moments found for a query."""
    return {
        "query": moments.query,
        "moments": [
            {"start_s": _number(found.start_s), "end_s": _number(found.end_s), "score": _number(found.score)}
            for found in moments.moments
        ],
        "frame_scores": _curve(moments.times_s, moments.scores),
        **_origin(moments, video=video, model=model, timings_s=timings_s),
    }


def to_json(record: Record | list[Record]) -> str:
    """Return JSON text; it is ASCII, so that it survives any terminal, and paths that are no text too."""
    return json.dumps(record, indent=2, allow_nan=False)


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
    }


def _curve(times_s: Floats, scores: Floats) -> list[Record]:
    # Without scores there is no curve, though there are times.
    return [
        {"time_s": _number(time_s), "score": _number(score)} for time_s, score in zip(times_s, scores, strict=False)
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

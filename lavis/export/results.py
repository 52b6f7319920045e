"""A result with the video it comes from: its record, its files, its figure, and how a notebook shows it."""

from collections.abc import Callable
from typing import Any

from lavis.common.types import Answer, FrameBatch, Integers, Moments
from lavis.export.editors import moments_vtt
from lavis.export.files import Picture, as_text, jpeg, keyframe_name, read_pictures, thumbnail
from lavis.export.records import Record, answer_record, best_positions, moments_record, to_json

ReadFrames = Callable[[Integers], FrameBatch]

MOST_MOMENT_PICTURES = 8


def result_record(result: Answer | Moments, **about: Any) -> Record:
    """Return the record of a result; `about` as for `answer_record`."""
    return answer_record(result, **about) if isinstance(result, Answer) else moments_record(result, **about)


def result_files(result: Answer | Moments, *, record: Record, read: ReadFrames, **video: Any) -> dict[str, bytes]:
    """Return the files of a result by name: the record, what others read (keyframes, subtitles), the picture.

    Args:
        read: reads frames of the video by their indices.
        video: as for `answer_picture`: video and model.

    Raises:
        VideoError: the video cannot be read.
    """
    from lavis.export.pictures import answer_picture, moments_picture

    told = as_text(to_json(record))
    if isinstance(result, Moments):
        picture = moments_picture(result, frames=result_pictures(result, read), **video)
        return {"moments.json": told, "moments.vtt": as_text(moments_vtt(result)), "scores.png": picture}
    files, keyframes = {"answer.json": told}, result.keyframes
    # Of each frame, what is kept is a JPEG of the video's own size and a thumbnail.
    frames = read_pictures(read, keyframes.frame_idx, lambda full: (jpeg(full), thumbnail(full)))
    chosen = zip(keyframes.times_s, keyframes.frame_idx, frames, strict=True)
    for number, (time_s, frame_idx, (full, _)) in enumerate(chosen, start=1):
        files[keyframe_name(number, time_s=float(time_s), frame_idx=int(frame_idx))] = full
    files["scores.png"] = answer_picture(result, frames=[small for _, small in frames], **video)
    return files


def result_pictures(result: Answer | Moments, read: ReadFrames, *, most: int | None = None) -> list[Picture]:
    """Return thumbnails of the keyframes, or of the best frames of the first moments; at most so many.

    Raises:
        VideoError: the video cannot be read.
    """
    if isinstance(result, Answer):
        return read_pictures(read, result.keyframes.frame_idx[:most], thumbnail)
    best = best_positions(result)[:MOST_MOMENT_PICTURES]
    return read_pictures(read, result.frame_idx[best], thumbnail)

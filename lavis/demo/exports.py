"""What can be taken away from the page: by its kind, the name and the content of each file."""

import csv
import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lavis.demo.service import AnswerResult, FindResult
from lavis.export import jpeg, keyframe_name, moments_vtt, slug, to_json
from lavis.video import open_video

# Kind of file -> what its button says.
ANSWER_FILES = {"json": "JSON", "csv": "CSV", "zip": "Keyframes (zip)", "png": "Picture"}
MOMENT_FILES = {"json": "JSON", "csv": "CSV", "vtt": "Chapters (WebVTT)", "png": "Picture"}

Files = dict[str, tuple[str, bytes]]


def answer_files(answered: AnswerResult) -> Files:
    """Return the record, a row per watched frame, the keyframes at the video's own size, and all as one picture."""
    from lavis.export.pictures import answer_picture

    answer, frames = answered.chosen.answer, _pixels(answered.chosen.pictures)
    contents = {
        "json": _text(to_json(answered.record)),
        "csv": _frames_csv(answered),
        "zip": _keyframes_zip(answered),
        "png": answer_picture(answer, frames=frames, video=answered.info, model=answered.model_name),
    }
    return _named(answer.question.text, contents)


def moment_files(found: FindResult) -> Files:
    """Return the record, a row per moment (best first), WebVTT chapters, and all as one picture."""
    from lavis.export.pictures import moments_picture

    moments = found.moments
    rows = [
        [rank, f"{moment.start_s:.3f}", f"{moment.end_s:.3f}", f"{moment.score:.6f}"]
        for rank, moment in enumerate(moments.moments, start=1)
    ]
    contents = {
        "json": _text(to_json(found.record)),
        "csv": _csv(["rank", "start_s", "end_s", "score"], rows),
        "vtt": _text(moments_vtt(moments)),
        "png": moments_picture(moments, frames=_pixels(found.pictures), video=found.info, model=found.model_name),
    }
    return _named(moments.query, contents)


def _frames_csv(answered: AnswerResult) -> bytes:
    frames = answered.chosen.answer.keyframes
    read = {int(position) for position in frames.positions}
    rows = [
        [int(index), f"{time_s:.3f}", f"{score:.6f}", int(position in read)]
        for position, (index, time_s, score) in enumerate(
            zip(answered.frame_idx, frames.all_times_s, frames.all_scores, strict=True)
        )
    ]
    return _csv(["frame_idx", "time_s", "score", "keyframe"], rows)


def _keyframes_zip(answered: AnswerResult) -> bytes:
    frames, source = answered.chosen.answer.keyframes, answered.source
    buffer = io.BytesIO()
    # Stored, because JPEGs do not get smaller.
    with (
        source.problems(),
        open_video(source.path) as video,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive,
    ):
        for number, batch in enumerate(video.stream(frames.frame_idx, chunk=1), start=1):
            time_s, frame_idx = float(frames.times_s[number - 1]), int(frames.frame_idx[number - 1])
            archive.writestr(keyframe_name(number, time_s=time_s, frame_idx=frame_idx), jpeg(batch.frames[0]))
    return buffer.getvalue()


def _named(text: str, contents: dict[str, bytes]) -> Files:
    name = slug(text) or "result"
    return {kind: (f"{name}.{kind}", content) for kind, content in contents.items()}


def _pixels(pictures: Sequence[bytes]) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return _text(buffer.getvalue())


def _text(content: str) -> bytes:
    return f"{content.rstrip()}\n".encode()

"""What can be taken away from the page, as file names and contents."""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from lavis.common.types import Integers
from lavis.demo.service import Answered, Found, Shown
from lavis.demo.videos import Source
from lavis.export import (
    answer_picture,
    jpeg,
    keyframe_name,
    moments_picture,
    moments_vtt,
    slug,
    to_json,
)
from lavis.video import open_video


def answer_json(answered: Answered) -> tuple[str, bytes]:
    """Return the record of the answer."""
    return _named(answered, "json"), _text(to_json(answered.record))


def answer_csv(answered: Answered) -> tuple[str, bytes]:
    """Return one row per watched frame: its time, score, and whether it was read."""
    frames = answered.chosen.answer.keyframes
    read = {int(position) for position in frames.positions}
    rows = [
        [int(index), f"{time_s:.3f}", f"{score:.6f}", int(position in read)]
        for position, (index, time_s, score) in enumerate(
            zip(answered.frame_idx, frames.all_times_s, frames.all_scores, strict=True)
        )
    ]
    return _named(answered, "csv"), _csv(["frame_idx", "time_s", "score", "keyframe"], rows)


def answer_zip(answered: Answered) -> tuple[str, bytes]:
    """Return the keyframes at the video's own size."""
    frames = answered.chosen.answer.keyframes
    buffer = io.BytesIO()
    # Stored, because JPEGs do not get smaller.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        chosen = zip(frames.times_s, frames.frame_idx, _full_size(answered.source, frames.frame_idx), strict=True)
        for number, (time_s, frame_idx, picture) in enumerate(chosen, start=1):
            name = keyframe_name(number, time_s=float(time_s), frame_idx=int(frame_idx))
            archive.writestr(name, picture)
    return _named(answered, "zip"), buffer.getvalue()


def answer_png(answered: Answered) -> tuple[str, bytes]:
    """Return the whole answer as one picture."""
    return _named(answered, "png"), _picture(answered, answered.chosen)


def moments_json(found: Found) -> tuple[str, bytes]:
    """Return the record of the search."""
    return _named(found, "json"), _text(to_json(found.record))


def moments_csv(found: Found) -> tuple[str, bytes]:
    """Return one row per moment, best first."""
    rows = [
        [rank, f"{moment.start_s:.3f}", f"{moment.end_s:.3f}", f"{moment.score:.6f}"]
        for rank, moment in enumerate(found.moments.moments, start=1)
    ]
    return _named(found, "csv"), _csv(["rank", "start_s", "end_s", "score"], rows)


def moments_chapters(found: Found) -> tuple[str, bytes]:
    """Return the moments as WebVTT."""
    return _named(found, "vtt"), _text(moments_vtt(found.moments))


def moments_png(found: Found) -> tuple[str, bytes]:
    """Return the whole search as one picture."""
    frames = [_pixels(picture) for picture in found.pictures]
    return _named(found, "png"), moments_picture(found.moments, frames=frames, video=found.info, model=found.model_name)


def _picture(answered: Answered, shown: Shown) -> bytes:
    frames = [_pixels(picture) for picture in shown.pictures]
    return answer_picture(shown.answer, frames=frames, video=answered.info, model=answered.model_name)


def _pixels(picture: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(picture)))


def _full_size(source: Source, frame_idx: Integers) -> Iterator[bytes]:
    with source.problems(), open_video(source.path) as video:
        for batch in video.stream(frame_idx, chunk=1):
            yield jpeg(batch.frames[0])


def _named(result: Answered | Found, kind: str) -> str:
    text = result.chosen.answer.question.text if isinstance(result, Answered) else result.moments.query
    return f"{slug(text) or 'result'}.{kind}"


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return _text(buffer.getvalue())


def _text(content: str) -> bytes:
    return f"{content.rstrip()}\n".encode()

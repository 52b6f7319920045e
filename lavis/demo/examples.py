"""The clips that come with the embedded model, and questions about them."""

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from lavis.common.paths import checkpoints_dir
from lavis.export import jpeg, thumbnail
from lavis.video import open_video


@dataclass(frozen=True)
class ExampleQuestion:
    """A question with the answer known from how the clip was made."""

    text: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Example:
    """A clip with its questions; the poster is a picture of it as a data address."""

    clip: Path
    questions: tuple[ExampleQuestion, ...]
    poster: str
    duration_s: float


def read_examples(folder: Path | None = None) -> tuple[Example, ...]:
    """Return the shipped clips in the order of their list; none where they are not installed."""
    folder = folder or checkpoints_dir() / "clips"
    listing = folder / "questions.json"
    if not listing.is_file():
        return ()
    return tuple(_example(folder, entry) for entry in json.loads(listing.read_text(encoding="utf-8")))


def _example(folder: Path, entry: dict) -> Example:
    clip = folder / entry["video"]
    questions = tuple(
        ExampleQuestion(asked["question"], tuple(asked["options"]), asked["answer"]) for asked in entry["questions"]
    )
    # The middle of what the first question is about shows more than the first frame.
    start, end = entry["questions"][0]["window"]
    with open_video(clip) as video:
        info = video.info
        index = min(int((start + end) / 2 * info.fps), info.num_frames - 1)
        poster = jpeg(thumbnail(video.read([index]).frames[0]))
    return Example(clip, questions, data_address(poster), info.duration_s)


def data_address(picture: bytes) -> str:
    """Return a JPEG as an address that needs no request."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}"

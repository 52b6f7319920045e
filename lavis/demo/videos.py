"""The videos of the page: shipped clips, visitors' uploads, and those that were watched."""

import json
import threading
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lavis.common.errors import VideoError, did_you_mean
from lavis.common.files import checkpoints_dir
from lavis.common.types import Integers, Question, Span, VideoInfo
from lavis.demo.files import VisitorFiles
from lavis.demo.settings import MEGABYTE, FieldError, Settings, shown_beside
from lavis.export.files import jpeg, read_pictures, thumbnail
from lavis.export.records import time_label
from lavis.models.pipeline import WatchedVideo
from lavis.video import open_video


@dataclass(frozen=True)
class Example:
    """A clip with questions whose answers are known from how it was made; the poster is a picture's data address."""

    clip: Path
    questions: tuple[Question, ...]
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
        Question(asked["question"], tuple(asked["options"]), answer=asked["answer"]) for asked in entry["questions"]
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


@dataclass(frozen=True)
class Source:
    """A video that may be opened, and what it is called on the page."""

    path: Path
    name: str
    is_shipped: bool = False

    def shown(self, info: VideoInfo) -> VideoInfo:
        """Return what is known of it without where it lies."""
        return replace(info, path=self.name)

    @contextmanager
    def problems(self) -> Iterator[None]:
        """Show mistakes inside the block beside the video, with its name in place of its path."""
        try:
            with shown_beside("video"):
                yield
        except FieldError as error:
            raise FieldError(error.field, str(error).replace(str(self.path), self.name)) from error


class Sources:
    """Finds and checks videos."""

    def __init__(self, files: VisitorFiles, examples: Sequence[Example], *, settings: Settings) -> None:
        self.examples = examples
        self._files = files
        self._clips = {example.clip.name: example.clip for example in examples}
        self._settings = settings

    def find(self, value: Any) -> Source:
        """Return the video that {"clip": name} of a shipped clip or {"path": path} of an upload names.

        Raises:
            FieldError: nothing is named, or nothing that may be opened.
        """
        with shown_beside("video"):
            match value:
                case {"clip": str(name)} if name in self._clips:
                    return Source(self._clips[name], name, is_shipped=True)
                case {"clip": str(name)}:
                    raise VideoError(f"There is no clip {name!r:.80}; {did_you_mean(name[:80], self._clips)}")
                case {"path": str(path)}:
                    found = self._files.uploaded(path)
                    return Source(found, found.name)
        raise FieldError("video", "There is no video yet; upload one or choose an example.")

    def check(self, source: Source) -> VideoInfo:
        """Open a video and return what it is; a FieldError says that it is too large, too long or no video."""
        limits = self._settings
        try:
            size = source.path.stat().st_size
        except OSError:
            raise FieldError("video", "This video is no longer here; upload it again.") from None
        if size > limits.max_upload_mb * MEGABYTE:
            raise FieldError("video", f"This file has {size / MEGABYTE:.0f} MB; at most {limits.max_upload_mb} MB go.")
        with source.problems(), open_video(source.path) as video:
            info = video.info
        if info.duration_s > limits.max_duration_s:
            lasts = f"{time_label(info.duration_s)}; at most {time_label(limits.max_duration_s)} go"
            raise FieldError("video", f"This video lasts {lasts}.")
        if info.width * info.height > limits.max_pixels:
            raise FieldError("video", f"Its pictures of {info.width} × {info.height} pixels are too large.")
        return source.shown(info)


@dataclass
class Watched:
    """A watched video, and the pictures of its frames that were shown so far (JPEG by frame index)."""

    video: WatchedVideo
    _pictures: dict[int, bytes] = field(default_factory=dict)

    def pictures(self, frame_idx: Integers) -> tuple[bytes, ...]:
        """Return small JPEGs of frames, in any order; each frame is read from the file once only."""
        wanted = [int(index) for index in frame_idx]
        missing = sorted(set(wanted) - self._pictures.keys())
        pictures = read_pictures(self.video.frames, missing, lambda picture: jpeg(thumbnail(picture)))
        self._pictures.update(zip(missing, pictures, strict=True))
        return tuple(self._pictures[index] for index in wanted)


# Visitor, video, frames, part, model.
_Key = tuple[str, Path, int, Span | None, str]


class WatchedVideos:
    """Watched videos by visitor: a bounded number, each for a bounded time; tests bring a clock of their own."""

    def __init__(self, *, most: int, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._keep_s = keep_s
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[Watched, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, visitor: str, path: Path, *, num_frames: int, clip: Span | None = None, model: str = ""
    ) -> Watched | None:
        """Return what this visitor had watched, and no other visitor's."""
        key = (visitor, path, num_frames, clip, model)
        with self._lock:
            self._expire()
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            return None

    def put(
        self,
        visitor: str,
        path: Path,
        *,
        num_frames: int,
        video: WatchedVideo,
        clip: Span | None = None,
        model: str = "",
    ) -> Watched:
        """Keep a watched video; the one that was not used for longest makes room."""
        watched = Watched(video)
        with self._lock:
            self._expire()
            self._kept[(visitor, path, num_frames, clip, model)] = (watched, self._clock())
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return watched

    def forget(self, visitor: str) -> None:
        """Drop everything of a visitor who left."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == visitor]:
                del self._kept[key]

    def forget_model(self, model: str) -> None:
        """Drop everything that a model watched."""
        with self._lock:
            for key in [key for key in self._kept if key[4] == model]:
                del self._kept[key]

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._kept)

    def _expire(self) -> None:
        oldest = self._clock() - self._keep_s
        for key in [key for key, (_, since) in self._kept.items() if since < oldest]:
            del self._kept[key]

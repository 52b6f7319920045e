"""Which video a visitor means: a shipped clip by name, or a file of their own upload; never any other path."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lavis.common.errors import VideoError
from lavis.common.naming import did_you_mean
from lavis.common.types import VideoInfo
from lavis.demo.examples import Example
from lavis.demo.files import VisitorFiles
from lavis.demo.problems import FieldError, shown_beside
from lavis.demo.settings import MEGABYTE, Settings
from lavis.export.axes import time_label
from lavis.video import open_video


@dataclass(frozen=True)
class Source:
    """A video that may be opened, and what it is called on the page."""

    path: Path
    name: str

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
        self._files = files
        self._clips = {example.clip.name: example.clip for example in examples}
        self._settings = settings

    def find(self, value: Any) -> Source:
        """Return the video that the page or a client names.

        Args:
            value: {"clip": name} for a shipped clip, {"path": path} for an upload.

        Raises:
            FieldError: nothing is named, or nothing that may be opened.
        """
        with shown_beside("video"):
            match value:
                case {"clip": str(name)}:
                    return self._clip(name)
                case {"path": str(path)}:
                    found = self._files.uploaded(path)
                    return Source(found, found.name)
        raise FieldError("video", "There is no video yet; upload one or choose an example.")

    def check(self, source: Source) -> VideoInfo:
        """Open a video and return what it is.

        Raises:
            FieldError: too large or too long, or not a video, whatever its name says.
        """
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

    def _clip(self, name: str) -> Source:
        if name not in self._clips:
            raise VideoError(f"There is no clip {name!r:.80}; {did_you_mean(name[:80], self._clips)}")
        return Source(self._clips[name], name)


def clip_value(example: Example) -> Mapping[str, str]:
    """Return how a page names a shipped clip."""
    return {"clip": example.clip.name}

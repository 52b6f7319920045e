"""A video as people have it: a path, an address, bytes, an open file, pictures; opened as often as it is needed."""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy.typing as npt
from PIL import Image

from lavis.common import defaults
from lavis.common.errors import ConfigError, VideoError
from lavis.common.types import Floats
from lavis.video.base import VideoReader, is_array, open_video
from lavis.video.download import BytesProgress, check_size, download, shown
from lavis.video.frames import PICTURE_ENDINGS, VIDEO_ENDINGS
from lavis.video.memory import MemorySource

if TYPE_CHECKING:
    import torch

VideoLike: TypeAlias = Union[
    str,
    "os.PathLike[str]",
    bytes,
    BinaryIO,
    Sequence[Image.Image],
    Sequence[npt.NDArray[Any]],
    npt.NDArray[Any],
    "torch.Tensor",
    "GivenVideo",
]
"""What is taken as a video; see `given_video`."""

TAKEN = (
    "give a path, an address (file, http or https), bytes, an open binary file, a folder of frames with fps=, or a "
    "list of PIL pictures, a NumPy array or a torch tensor [T, H, W, 3] or [T, 3, H, W] with fps= or times_s="
)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_BLOCK = 1 << 20
_SAFE_NAME = re.compile(r"[^\w.-]+")


class _TemporaryFolder:
    """A folder that goes with this object, or with the program."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sevila-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class GivenVideo:
    """A video that can be opened; what was downloaded for it stays until nothing refers to it.

    Attributes:
        name: as it is shown.
        path: the file or the folder of frames; None of pictures in memory.
        pictures: those pictures.
        fps: frames per second of a folder of frames.
    """

    name: str
    path: Path | None = None
    pictures: MemorySource | None = None
    reader: str = defaults.VIDEO_READER
    fps: float | None = None
    kept: _TemporaryFolder | None = None

    def open(self) -> VideoReader:
        """Open it.

        Raises:
            VideoError: it cannot be read.
        """
        if self.pictures is not None:
            return VideoReader(self.pictures)
        assert self.path is not None, "a video has a path or pictures"
        if self.kept is None:
            return open_video(self.path, reader=self.reader, fps=self.fps)
        try:
            return open_video(self.path, reader=self.reader, fps=self.fps, name=self.name)
        except VideoError as error:
            # Nobody knows the temporary file.
            raise VideoError(str(error).replace(str(self.path), self.name)) from error


def given_video(
    video: VideoLike,
    *,
    reader: str = defaults.VIDEO_READER,
    fps: float | None = None,
    times_s: Sequence[float] | Floats | None = None,
    progress: BytesProgress | None = None,
) -> GivenVideo:
    """Take a video as people have it; nothing of a path is read yet, but what is no file becomes one.

    Args:
        video: a path of a file or of a folder of frames (`~` is the home folder); an address: file, or http and https,
            which is downloaded to a temporary file; bytes of a video file, or an open binary file, from where it
            stands; pictures in memory (`MemorySource`).
        fps: of a folder of frames, and of pictures.
        times_s: of pictures, in place of `fps`: the time of each.
        progress: of a download; None writes a line on a terminal's standard error.

    Raises:
        VideoError: it is nothing of this, or cannot be had.
        ConfigError: times of what has its own, or pictures without any.
    """
    if isinstance(video, GivenVideo):
        return video
    if is_pictures(video):
        pictures = MemorySource(video, fps=fps, times_s=times_s)
        return GivenVideo(pictures.info.path, pictures=pictures)
    if times_s is not None:
        raise ConfigError("times_s= is for pictures in memory; a video file has its own, a folder of frames takes fps=")
    if isinstance(video, str) and video.lower().startswith(("http://", "https://")):
        with _saved(shown(video), reader=reader) as (given, target):
            download(video, target, progress=progress)
        return given
    if isinstance(video, (str, os.PathLike)):
        path = local_path(video)
        return GivenVideo(str(path), path, reader=reader, fps=fps)
    if isinstance(video, (bytes, bytearray, memoryview)):
        with _saved("the bytes", reader=reader) as (given, target):
            check_size(len(video), name=given.name)
            target.write_bytes(video)
        return given
    if callable(getattr(video, "read", None)):
        name = getattr(video, "name", None)
        with _saved(name if isinstance(name, str) else "the open file", reader=reader) as (given, target):
            _copy(video, target, name=given.name)
        return given
    raise VideoError(f"cannot watch {_described(video)}; {TAKEN}")


def local_path(video: "str | os.PathLike[str]") -> Path:
    """Return the path of a file or folder that is named by a path or by a file address.

    Raises:
        VideoError: an address of another kind, or of another machine.
    """
    if isinstance(video, str) and _ADDRESS.match(video):
        parts = urlsplit(video)
        if parts.scheme.lower() != "file":
            raise VideoError(f"{shown(video)}: addresses of this kind are not read; {TAKEN}")
        if parts.netloc not in ("", "localhost"):
            raise VideoError(f"{video}: is on another machine, {parts.netloc}; {TAKEN}")
        return Path(url2pathname(parts.path))
    path = Path(os.fsdecode(video))
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def listed_videos(videos: "str | os.PathLike[str] | Iterable[VideoLike]", *, fps: float | None = None) -> list[Any]:
    """Return the videos that are meant by a folder of them, in the order of their names, or by a list.

    A folder in a list is taken as it is, so it is one of frames. A folder that holds pictures too is one of frames
    where `fps` is given, and one of videos where it is not.

    Raises:
        VideoError: a folder without videos, or no list.
    """
    if isinstance(videos, (str, os.PathLike)) and not _ADDRESS.match(os.fsdecode(videos)):
        folder = local_path(videos)
        return videos_in(folder, fps=fps) or [folder] if folder.is_dir() else [folder]
    if isinstance(videos, (str, bytes)) or is_array(videos) or not isinstance(videos, Iterable):
        return [videos]
    return list(videos)


def videos_in(folder: Path, *, fps: float | None = None) -> list[Path]:
    """Return the videos in a folder, in the order of their names; none where it is a folder of frames.

    Raises:
        VideoError: the folder cannot be read, or holds neither videos nor frames.
    """
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    except OSError as error:
        raise VideoError(f"{folder}: {error.strerror}") from error
    videos = [file for file in files if file.suffix.lower() in VIDEO_ENDINGS]
    has_frames = any(file.suffix.lower() in PICTURE_ENDINGS for file in files)
    if not videos and not has_frames:
        raise VideoError(f"{folder}: holds neither videos nor frames")
    return [] if has_frames and fps is not None else videos


def name_of(video: Any) -> str:
    """Return what a video is called before it is opened."""
    if isinstance(video, GivenVideo):
        return video.name
    if isinstance(video, (str, os.PathLike)):
        return shown(video) if isinstance(video, str) and _ADDRESS.match(video) else os.fspath(video)
    name = getattr(video, "name", None)
    return name if isinstance(name, str) else _described(video)


def is_pictures(video: Any) -> bool:
    """Say whether something is a list of pictures or an array of them."""
    if isinstance(video, (list, tuple)):
        return all(isinstance(one, Image.Image) or is_array(one) for one in video)
    return is_array(video) and not isinstance(video, Image.Image)


@contextmanager
def _saved(name: str, *, reader: str) -> Iterator[tuple[GivenVideo, Path]]:
    """Yield a video in a temporary file, and that file, which the block writes."""
    folder = _TemporaryFolder()
    target = folder.path / (_SAFE_NAME.sub("_", name.rpartition("/")[2])[-80:].lstrip(".") or "video")
    try:
        yield GivenVideo(name, target, reader=reader, kept=folder), target
    except BaseException as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise VideoError(f"{name}: cannot be kept in {folder.path.parent} ({error.strerror})") from error
        raise


def _copy(file: Any, target: Path, *, name: str) -> None:
    so_far = 0
    with target.open("wb") as copy:
        while block := file.read(_BLOCK):
            if not isinstance(block, bytes):
                raise VideoError(f"{name}: is read as text; open it as a binary file, with mode 'rb'")
            so_far += len(block)
            check_size(so_far, name=name)
            copy.write(block)
    if not so_far:
        raise VideoError(f"{name}: holds nothing from where it stands; go to its beginning with seek(0)")


def _described(video: object) -> str:
    if isinstance(video, (list, tuple)):
        kinds = sorted({type(one).__name__ for one in video})
        return f"a list of {', '.join(kinds[:3])}"
    return f"{video!r:.80}" if video is None or isinstance(video, (int, float)) else f"a {type(video).__name__}"

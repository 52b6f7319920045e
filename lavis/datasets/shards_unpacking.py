"""Taking videos out of shards, into files that video readers can open."""

import io
import shutil
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from lavis.common.errors import VideoError
from lavis.datasets.shards import FRAMES_ENDING, INDEX, StoredVideo, read_index
from lavis.datasets.videos import EXTENSIONS, VideoFinder, VideoFolders
from lavis.video.frame_names import order_frames

_KEPT = 2


class Unpacker:
    """Writes videos to a temporary folder; only the last few of them stay there."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._paths: list[Path] = []
        self._count = 0

    def unpack(self, content: bytes, *, ending: str) -> Path:
        """Write a video and return where it is, until some more have been unpacked.

        Args:
            ending: of the member it was; it decides whether this is a file or a folder of frames.

        Raises:
            VideoError: it is a folder of frames, and damaged.
        """
        path = self._next_path()
        if ending == FRAMES_ENDING:
            _unpack_frames(content, path)
        else:
            path = path.with_suffix(ending if ending in EXTENSIONS else ".video")
            path.write_bytes(content)
        self._paths.append(path)
        return path

    def close(self) -> None:
        """Delete what is left."""
        if self._folder is not None:
            self._folder.cleanup()
        self._folder, self._paths = None, []

    def __enter__(self) -> "Unpacker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_path(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sevila-")
        while len(self._paths) >= _KEPT:
            oldest = self._paths.pop(0)
            if oldest.is_dir():
                shutil.rmtree(oldest)
            else:
                oldest.unlink(missing_ok=True)
        self._count += 1
        return Path(self._folder.name) / f"{self._count:08d}"


class ShardedVideos:
    """The videos of a folder of shards, by name; can be sent to other processes.

    Raises:
        ConfigError: it is no folder of shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored: dict[tuple[str, str | None], StoredVideo] = {}
        for entry in read_index(folder):
            known = self._stored.get((entry.video, entry.source))
            if known is None or not known.ending:
                self._stored[entry.video, entry.source] = entry
        self._unpacker = Unpacker()

    def find(self, name: str, *, source: str | None = None) -> Path:
        """Take a video out and return where it is, until some more have been taken out.

        Raises:
            VideoError: it was missing when the shards were written, or its shard is missing or cut.
        """
        entry = self._stored.get((name, source))
        if entry is None:
            raise VideoError(f"no video {name!r} in the shards of {self._folder}")
        if not entry.ending:
            raise VideoError(f"no video {name!r} in {self._folder}: it was missing when the shards were written")
        try:
            with (self._folder / entry.file).open("rb") as shard:
                shard.seek(entry.offset)
                content = shard.read(entry.size)
        except OSError as error:
            raise VideoError(f"{self._folder / entry.file}: {error.strerror}") from error
        if len(content) != entry.size:
            raise VideoError(f"{self._folder / entry.file} is cut: it ends within the video {name!r}")
        return self._unpacker.unpack(content, ending=entry.ending)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_unpacker": Unpacker()}


def video_storage(storage: Any, *, place: str) -> VideoFinder:
    """Return where `storage` says that videos are: a folder of shards, or what `VideoFolders` takes.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(storage, str) and holds_shards(Path(storage)):
        return ShardedVideos(Path(storage))
    return VideoFolders.from_storage(storage, place=place)


def holds_shards(folder: Path) -> bool:
    """Say whether this is a folder of shards."""
    return (folder / INDEX).is_file()


def _unpack_frames(content: bytes, folder: Path) -> None:
    folder.mkdir()
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as frames:
            members = {member.name: member for member in frames if member.isfile()}
            order = order_frames(members, place="a folder of frames in a shard")
            for name, place in zip(order.names, order.places, strict=True):
                picture = frames.extractfile(members[name])
                if picture is not None:
                    (folder / f"{place:06d}{Path(name).suffix.lower()}").write_bytes(picture.read())
    except (tarfile.TarError, EOFError) as error:
        raise VideoError(f"a folder of frames in a shard is damaged ({error})") from error

"""Where a dataset's videos lie: one folder, several, or one per source; shards are only recognised here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lavis.common.errors import ConfigError, VideoError, did_you_mean
from lavis.video.frames import VIDEO_ENDINGS

SHARDS_INDEX = "shards.json"  # of a folder of shards, see `lavis.datasets.shards`
EXTENSIONS = (*VIDEO_ENDINGS, *(ending.upper() for ending in VIDEO_ENDINGS))


class VideoFolders:
    """Finds videos in folders by source, which are only told apart where an annotation names one."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    @classmethod
    def from_storage(cls, storage: Any, *, place: str) -> "VideoFolders":
        """Read what a configuration says: a folder, a list of folders, or a mapping from source to folder.

        Raises:
            ConfigError: it is something else, or empty.
        """
        if isinstance(storage, str):
            storage = [storage]
        if isinstance(storage, Sequence):
            storage = {str(number): folder for number, folder in enumerate(storage)}
        if not isinstance(storage, Mapping) or not storage or not all(isinstance(v, str) for v in storage.values()):
            raise ConfigError(f"{place}: {storage!r} is no folder; give a folder, a list, or a folder for each source")
        return cls({str(source): Path(folder) for source, folder in storage.items()})

    @property
    def roots(self) -> list[Path]:
        """All folders."""
        return list(self._folders.values())

    def find(self, name: str, *, source: str | None = None) -> Path:
        """Return the video file, or folder of frames, of this name, with or without its ending.

        Raises:
            VideoError: there is none, or no folder for this source.
        """
        return next(self._candidates(name, source))

    def find_all(self, name: str, *, source: str | None = None) -> list[Path]:
        """Return every file or folder of this name, each once, the first as `find` returns it; errors as there."""
        # One file may have several names: by a link, or where upper and lower case mean the same.
        return list({_identity(path): path for path in reversed(list(self._candidates(name, source)))}.values())[::-1]

    def _candidates(self, name: str, source: str | None) -> Iterator[Path]:
        folders = self._folders_of(source)
        found = False
        for path in (folder / f"{name}{ending}" for folder in folders for ending in ("", *EXTENSIONS)):
            if _identity(path) is not None:
                found = True
                yield path
        if not found:
            raise VideoError(f"no video {name!r} in {', '.join(map(str, self._folders.values()))}")

    def _folders_of(self, source: str | None) -> list[Path]:
        if source is None or len(self._folders) == 1:
            return self.roots
        if source not in self._folders:
            raise VideoError(f"no folder for videos from {source!r}; {did_you_mean(source, self._folders)}")
        return [self._folders[source]]


def holds_shards(folder: Path) -> bool:
    """Say whether this is a folder of shards."""
    return (folder / SHARDS_INDEX).is_file()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from others; None if there is none, or there cannot be one of this name."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino

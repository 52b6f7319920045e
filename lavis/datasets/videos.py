"""Where a dataset's videos lie: one folder, several, or one per source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lavis.common.errors import ConfigError, VideoError
from lavis.common.naming import did_you_mean

EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts", ".gif")


class VideoFolders:
    """Finds videos by the names that annotations give them.

    Args:
        folders: by source; sources are only told apart where an annotation names one.
    """

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

    def find(self, name: str, *, source: str | None = None) -> Path:
        """Return the video file, or folder of frames, of this name, with or without its ending.

        Raises:
            VideoError: there is none, or no folder for this source.
        """
        if source is not None and len(self._folders) > 1:
            if source not in self._folders:
                raise VideoError(f"no folder for videos from {source!r}; {did_you_mean(source, self._folders)}")
            folders = [self._folders[source]]
        else:
            folders = list(self._folders.values())
        for folder in folders:
            for candidate in (folder / name, *(folder / f"{name}{ending}" for ending in EXTENSIONS)):
                if candidate.exists():
                    return candidate
        raise VideoError(f"no video {name!r} in {', '.join(map(str, folders))}")

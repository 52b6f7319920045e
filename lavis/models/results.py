"""What results know of the video and the model that they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING

from lavis.common.errors import VideoError
from lavis.common.types import Answer, FrameBatch, Integers, Moments, VideoInfo
from lavis.export.files import write_folder
from lavis.export.html import MOST_PICTURES, result_html
from lavis.export.records import Record
from lavis.export.results import result_files, result_pictures, result_record
from lavis.video.given import GivenVideo

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Origin:
    """Makes of a result what needs its video, which is opened again for its pictures; see `ResultOrigin`.

    It knows nothing of what the model saw, so that results of many videos can be kept.
    """

    given: GivenVideo
    info: VideoInfo
    model: str
    timings_s: Mapping[str, float]

    def record(self, result: Answer | Moments) -> Record:
        """Return plain values for JSON."""
        return result_record(result, video=self.info, model=self.model, timings_s=self.timings_s)

    def save(self, result: Answer | Moments, folder: str | PathLike[str], *, force: bool) -> None:
        """Write the record, pictures and what else others read to a new folder."""
        files = result_files(result, record=self.record(result), read=self._read, video=self.info, model=self.model)
        write_folder(fspath(folder), files, force=force)

    def figure(self, result: Answer | Moments) -> "Figure":
        """Draw it."""
        from lavis.export.pictures import result_figure

        frames = result_pictures(result, self._read)
        return result_figure(result, video=self.info, model=self.model, frames=frames)

    def html(self, result: Answer | Moments) -> str:
        """Show it in a notebook, without pictures where the video is gone."""
        try:
            return result_html(result, result_pictures(result, self._read, most=MOST_PICTURES))
        except VideoError as error:
            return result_html(result, [], note=f"no pictures: {error}")

    def _read(self, frame_idx: Integers) -> FrameBatch:
        with self.given.open() as video:
            return video.read(frame_idx)

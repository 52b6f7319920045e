"""Of several streams, the one is read that FFmpeg and players choose."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.stream import Disposition

from lavis.common.errors import VideoError
from lavis.video import limits as limits_module
from lavis.video import open_video
from tests.integration.video.readers import FILE_READERS, needs_decord
from tests.videos import join_streams, shown_numbers, write_video

NONE, DEFAULT, COVER = Disposition(0), Disposition.default, Disposition.attached_pic


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    cover = folder / "cover.mp4"
    with av.open(str(cover), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        grey = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 128, np.uint8), format="rgb24")
        container.mux([*stream.encode(grey), *stream.encode()])
    return {
        "video": write_video(folder / "video.mp4", num_frames=50),
        "preview": write_video(folder / "preview.mp4", num_frames=10, fps=5, width=32, height=32),
        "grey": recoloured(folder / "grey.mp4", num_frames=50),
        "cover": cover,
    }


def recoloured(path, *, num_frames):
    """Write frames that are grey, as many and as large as those of the other videos."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(num_frames):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 128, np.uint8), format="rgb24"))
            )
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("reader", FILE_READERS)
@pytest.mark.parametrize(
    ("suffix", "names", "dispositions"),
    [
        ("mkv", ["preview", "video"], [NONE, DEFAULT]),
        ("mp4", ["preview", "video"], [NONE, DEFAULT]),
        ("mov", ["preview", "video"], [NONE, DEFAULT]),
        ("mkv", ["preview", "preview", "video"], [NONE, NONE, DEFAULT]),
        ("mkv", ["video", "preview"], [DEFAULT, NONE]),
        ("mp4", ["cover", "video"], [COVER, NONE]),
        ("mp4", ["video", "cover"], [DEFAULT, COVER]),
        ("mkv", ["grey", "video"], [NONE, DEFAULT]),
        ("mp4", ["grey", "video"], [NONE, DEFAULT]),
    ],
)
def test_the_stream_flagged_as_default_is_read_and_no_cover_or_preview(
    tmp_path, sources, suffix, names, dispositions, reader
):
    path = join_streams(tmp_path / f"joined.{suffix}", [sources[name] for name in names], dispositions=dispositions)
    try:
        video = open_video(path, reader=reader)
    except VideoError as error:  # decord's older FFmpeg may choose another one, and cannot be told which
        if reader != "decord" or "use the reader pyav" not in str(error):
            raise
        return
    with video:
        assert (video.info.num_frames, video.info.width, video.info.height, video.info.fps) == (50, 96, 64, 25)
        assert shown_numbers(video.read([0, 17, 49], size=224).frames) == [0, 17, 49]


def test_where_no_stream_is_flagged_the_one_of_more_data_is_read(tmp_path, sources):
    path = join_streams(tmp_path / "two.ts", [sources["preview"], sources["video"]], dispositions=[NONE, NONE])
    with open_video(path) as video:
        assert (video.info.num_frames, video.info.width) == (50, 96)


@needs_decord
def test_decord_is_not_trusted_to_choose_the_same_of_two_streams_of_one_size(tmp_path, sources):
    path = join_streams(tmp_path / "two.mp4", [sources["video"], sources["grey"]], dispositions=[NONE, DEFAULT])
    with pytest.raises(VideoError, match="decord may have chosen another of its video streams; use the reader pyav"):
        open_video(path, reader="decord")


class Unchosen:
    """Streams of which FFmpeg finds none the best."""

    def __init__(self, streams):
        self.video, self.audio, self._all = streams.video, streams.audio, streams

    def __iter__(self):
        return iter(self._all)

    def best(self, kind):
        return None


def test_a_cover_that_is_flagged_as_default_is_no_video(tmp_path, sources, monkeypatch):
    path = join_streams(tmp_path / "cover.mp4", [sources["cover"], sources["video"]], dispositions=[COVER, NONE])
    # What FFmpeg chooses where a video is as short as a cover.
    choose = limits_module._video_stream
    monkeypatch.setattr(
        limits_module, "_video_stream", lambda found: choose(SimpleNamespace(streams=Unchosen(found.streams)))
    )
    with open_video(path) as video:
        assert video.info.num_frames == 50

from pathlib import Path

import pytest

from lavis.common.errors import ConfigError, VideoError
from lavis.datasets.videos import VideoFolders


def test_videos_are_found_in_any_folder_with_any_ending(tmp_path: Path) -> None:
    (tmp_path / "a" / "sub").mkdir(parents=True)
    (tmp_path / "b" / "frames").mkdir(parents=True)
    (tmp_path / "a" / "sub" / "x.webm").touch()
    (tmp_path / "b" / "x.v1.mp4").touch()
    folders = VideoFolders.from_storage([str(tmp_path / "a"), str(tmp_path / "b")], place="here")
    assert folders.find("sub/x") == tmp_path / "a" / "sub" / "x.webm"
    assert folders.find("x.v1") == tmp_path / "b" / "x.v1.mp4"
    assert folders.find("x.v1.mp4") == tmp_path / "b" / "x.v1.mp4"
    assert folders.find("frames") == tmp_path / "b" / "frames"
    with pytest.raises(VideoError, match=r"no video 'y' in .*a, .*b"):
        folders.find("y")


def test_a_source_names_its_folder(tmp_path: Path) -> None:
    for name in ("tvqa", "youtube"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").touch()
    folders = VideoFolders.from_storage({name: str(tmp_path / name) for name in ("tvqa", "youtube")}, place="here")
    assert folders.find("x", source="youtube") == tmp_path / "youtube" / "x.mp4"
    with pytest.raises(VideoError, match="did you mean 'youtube'"):
        folders.find("x", source="youtub")


@pytest.mark.parametrize("storage", [None, 3, [], {}, [1], {"a": None}])
def test_storage_that_is_no_folder_is_refused(storage: object) -> None:
    with pytest.raises(ConfigError, match=r"here: .* is no folder"):
        VideoFolders.from_storage(storage, place="here")

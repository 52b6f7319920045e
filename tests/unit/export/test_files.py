"""Names of result files, pictures in them, and result folders."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lavis.common.errors import UserError
from lavis.export.files import check_folder, jpeg, keyframe_name, slug, thumbnail, write_folder
from tests.unit.export.results import plain

FILES = {"answer.json": b"{}", "01_a/scores.png": b"png"}


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("exists", [False, True])
def test_files_are_written_to_a_new_or_empty_folder(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "deep" / "results"
    if exists:
        target.mkdir(parents=True)
    write_folder(target, FILES)
    assert content(tmp_path) == {f"deep/results/{name}": data for name, data in FILES.items()}


def test_folder_with_files_is_not_touched(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", {"answer.json": b"old"})
    with pytest.raises(UserError) as raised:
        write_folder(tmp_path / "results", FILES)
    assert str(raised.value) == (
        f"{tmp_path / 'results'} already holds files; choose another folder, or pass --force to replace old results"
    )
    assert content(tmp_path) == {"results/answer.json": b"old"}


def test_old_results_are_replaced_when_forced(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", {"keyframe_1_00m01.00s_frame1.jpg": b"old", "02_b/answer.json": b"old"})
    write_folder(tmp_path / "results", FILES, force=True)
    assert content(tmp_path) == {f"results/{name}": data for name, data in FILES.items()}


@pytest.mark.parametrize("name", ["thesis.txt", "01_a/thesis.txt"])
def test_folder_with_files_of_others_is_not_replaced_even_when_forced(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "results", {"answer.json": b"old", name: b"years of work"})
    with pytest.raises(UserError, match=r"holds 'thesis\.txt', which is no result of an earlier run"):
        write_folder(tmp_path / "results", FILES, force=True)
    assert content(tmp_path) == {"results/answer.json": b"old", f"results/{name}": b"years of work"}


def test_results_of_an_earlier_run_survive_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "results"
    write_folder(target, {"answer.json": b"old"})
    rename = Path.rename

    def fail_on_new(self: Path, other: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_on_new)
    with pytest.raises(UserError) as raised:
        write_folder(target, FILES, force=True)
    assert str(raised.value) == f"cannot write to {target}: No space left on device"
    assert content(tmp_path) == {"results/answer.json": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_nothing_stays_behind_where_a_file_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write to .*results: File name too long"):
        write_folder(tmp_path / "results", {"answer.json": b"{}", "x" * 300: b""})
    assert list(tmp_path.iterdir()) == []


def test_folder_below_a_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("text")
    with pytest.raises(UserError) as raised:
        check_folder(file / "results")
    assert str(raised.value) == f"cannot write to {file / 'results'}: {file} is not a folder"


def test_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(UserError) as raised:
        check_folder(tmp_path / "results")
    assert str(raised.value) == f"cannot write to {tmp_path / 'results'}: no permission to write in {tmp_path}"


@pytest.mark.parametrize(
    ("time_s", "name"),
    [
        (5.27, "keyframe_1_00m05.27s_frame79.jpg"),
        (0.0, "keyframe_1_00m00.00s_frame79.jpg"),
        (59.999, "keyframe_1_01m00.00s_frame79.jpg"),
        (3725.5, "keyframe_1_62m05.50s_frame79.jpg"),
    ],
)
def test_keyframe_is_named_by_its_time(time_s: float, name: str) -> None:
    assert keyframe_name(1, time_s=time_s, frame_idx=79) == name


@pytest.mark.parametrize(
    ("text", "name"), [("What's that?", "what_s_that"), ("../../etc", "etc"), ("\u4f60", ""), ("x" * 60, "x" * 40)]
)
def test_slug_is_a_safe_file_name(text: str, name: str) -> None:
    assert slug(text) == name


def test_jpeg_keeps_the_size_and_nearly_the_colour() -> None:
    picture = Image.open(BytesIO(jpeg(plain((10, 200, 30)))))
    assert (picture.format, picture.size) == ("JPEG", (32, 24))
    assert np.abs(np.asarray(picture, np.int64) - [10, 200, 30]).max() <= 3


def test_thumbnail_is_small_and_keeps_the_ratio() -> None:
    assert thumbnail(np.zeros((1080, 1920, 3), np.uint8)).shape == (360, 640, 3)
    assert thumbnail(plain((1, 2, 3))).shape == (24, 32, 3)

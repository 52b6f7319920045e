"""The page's folder goes with it or the next page; only uploads are opened by path, and nothing stays too long."""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lavis.common.errors import VideoError
from lavis.demo.files import VisitorFiles, visitors_folder

ROOT = Path(__file__).resolve().parents[3]
KILLED = """
import os, signal
from lavis.demo.files import visitors_folder
with visitors_folder() as folder:
    (folder / "clip.mp4").write_bytes(b"private")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_private_empty_and_gone_afterwards(temporary: Path) -> None:
    def fails() -> None:
        (page,) = temporary.iterdir()
        assert page.name.startswith("sevila_demo_")
        assert page.stat().st_mode & 0o077 == 0
        assert list(folder.iterdir()) == []
        (folder / "clip.mp4").write_bytes(b"private")
        raise LookupError

    with pytest.raises(LookupError), visitors_folder() as folder:
        fails()
    assert list(temporary.iterdir()) == []


def test_pages_of_one_process_leave_each_other_alone(temporary: Path) -> None:
    with visitors_folder() as first:
        (first / "clip.mp4").touch()
        with visitors_folder() as second:
            assert first != second
            assert (first / "clip.mp4").exists()
        assert [first.parent] == list(temporary.iterdir())


def test_what_a_killed_process_left_is_removed(temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", KILLED], env=environment).returncode == -9
    (left,) = temporary.glob("*/*/clip.mp4")
    with visitors_folder() as folder:
        assert not left.exists()
        assert [folder.parent] == list(temporary.iterdir())


@pytest.mark.parametrize("name", ["sevila_demo_other", "other"])
def test_folders_of_others_stay(temporary: Path, name: str) -> None:
    (temporary / name).mkdir()
    (temporary / name / "precious").touch()
    (temporary / "sevila_demo_link").symlink_to(temporary / name)
    with visitors_folder():
        pass
    assert (temporary / name / "precious").exists()


def test_it_is_named_without_links(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary / "real").mkdir()
    (temporary / "link").symlink_to(temporary / "real")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "link"))
    with visitors_folder() as folder:
        assert folder == folder.resolve()


def put(path: Path, content: bytes = b"x", *, age_s: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_an_upload_is_found_by_its_path(files: VisitorFiles) -> None:
    upload = put(files.folder / "hash" / "clip.mp4")
    assert files.uploaded(str(upload)) == upload


@pytest.mark.parametrize(
    "path",
    [
        "{outside}/secret.mp4",
        "{folder}/hash/../../outside/secret.mp4",
        "{folder}/hash/link.mp4",
        "{folder}/hash",
        "{folder}/temporary",
        "{folder}/made/token/answer.json",
        "{folder}/kept/clips/clip.mp4",
        "{folder}/hash/gone.mp4",
        "hash/clip.mp4",
        "http://example.org/clip.mp4",
        "",
        "\0",
    ],
)
def test_no_other_path_is_opened(files: VisitorFiles, tmp_path: Path, path: str) -> None:
    outside = put(tmp_path / "outside" / "secret.mp4")
    put(files.folder / "hash" / "clip.mp4")
    put(files.folder / "temporary")
    put(files.folder / "made" / "token" / "answer.json")
    put(files.folder / "kept" / "clips" / "clip.mp4")
    (files.folder / "hash" / "link.mp4").symlink_to(outside)
    with pytest.raises(VideoError, match=r"^This video is no longer here; upload it again\.$"):
        files.uploaded(path.format(folder=files.folder, outside=outside.parent))


def test_files_are_made_where_nobody_finds_them_by_guessing(files: VisitorFiles) -> None:
    first, second = files.write("../a b.json", b"1"), files.write("../a b.json", b"2")
    assert first.parent != second.parent
    assert len(first.parent.name) == 32
    assert first.name == "_a_b.json"
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")


def test_sweeping_removes_what_is_too_old_with_its_folder_and_keeps_the_clips(files: VisitorFiles) -> None:
    old = put(files.folder / "hash" / "clip.mp4", age_s=3700)
    made = files.write("answer.json", b"{}")
    put(made, age_s=3700)
    temporary = put(files.folder / "tmpabc", age_s=3700)
    fresh = put(files.folder / "other" / "clip.mp4", age_s=3500)
    clip = put(files.keep_forever("clips") / "clip.mp4", age_s=99999)
    files.sweep()
    assert not old.parent.exists()
    assert not made.parent.exists()
    assert not temporary.exists()
    assert fresh.exists()
    assert clip.exists()


def test_the_size_counts_what_visitors_brought_and_made(files: VisitorFiles) -> None:
    put(files.folder / "hash" / "clip.mp4", b"12345")
    files.write("answer.json", b"123")
    put(files.keep_forever("clips") / "clip.mp4", b"1234567")
    assert files.size() == 8


def test_an_upload_may_have_an_owner_until_it_is_swept(files: VisitorFiles) -> None:
    owned, free = (files.take("clip.mp4", io.BytesIO(b"x"), owner=owner) for owner in ("ada", None))
    assert [files.is_anothers(str(owned), visitor) for visitor in ("ada", "bob", None)] == [False, True, True]
    assert [files.is_anothers(str(free), visitor) for visitor in ("ada", None)] == [False, False]
    put(owned, age_s=3700)
    files.sweep()
    assert files._owners == {}
    assert not files.is_anothers(str(owned), "bob")


def test_an_upload_that_cannot_be_kept_leaves_nothing(files: VisitorFiles) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        files.take("clip.mp4", Broken())
    assert sorted(path.name for path in files.folder.iterdir()) == ["kept", "made"]

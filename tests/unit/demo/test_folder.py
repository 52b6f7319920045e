"""The folder of a page goes with it, or with the next page."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lavis.demo.folder import visitors_folder

ROOT = Path(__file__).resolve().parents[3]
KILLED = """
import os, signal
from lavis.demo.folder import visitors_folder
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

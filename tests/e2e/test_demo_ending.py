"""`sevila demo` leaves nothing of its visitors behind, however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


def hear_all_signals() -> None:
    """Undo what `nohup` and schedulers set: a process started with a signal ignored hands that on, and so does ours."""
    for heard in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(heard, signal.SIG_DFL)


@contextmanager
def page(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve the page with the real command, with its files in a folder; yields the process and the address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-m", "lavis", "demo", "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=hear_all_signals,
    ) as process:
        assert process.stdout is not None
        (url,) = re.findall(r"http://\S+", process.stdout.readline())
        try:
            yield process, url
        finally:
            process.kill()


def upload(url: str) -> Path:
    (path,) = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.mp4", b"private")}).json()
    return Path(path)


def folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if "sevila_demo" in path.name]


@pytest.mark.parametrize(
    ("ending", "code", "line"),
    [
        (signal.SIGTERM, 143, "terminated: asked to end (SIGTERM); visitors' files are removed\n"),
        (signal.SIGHUP, 143, "terminated: asked to end (SIGHUP); visitors' files are removed\n"),
        (signal.SIGINT, 130, "interrupted\n"),
    ],
)
def test_nothing_is_left_when_it_is_asked_to_end(tmp_path: Path, ending: signal.Signals, code: int, line: str) -> None:
    with page(tmp_path) as (process, url):
        stored = upload(url)
        assert stored.read_bytes() == b"private"
        # Somebody is looking at the page, and somebody else is in the middle of an upload.
        with httpx.stream("GET", f"{url}gradio_api/heartbeat/a"):
            process.send_signal(ending)
            _, said = process.communicate(timeout=60)
    assert not stored.exists()
    assert folders(tmp_path) == []
    assert (process.returncode, said) == (code, line)


def test_what_a_killed_page_left_is_removed_by_the_next_and_a_live_one_s_is_not(tmp_path: Path) -> None:
    with page(tmp_path) as (_, live):
        kept = upload(live)
        with page(tmp_path) as (process, url):
            left = upload(url)
            process.kill()
            process.wait()
        assert left.exists()
        with page(tmp_path):
            assert not left.exists()
            assert kept.exists()
            assert httpx.get(f"{live}gradio_api/file={kept}").content == b"private"
            assert len(folders(tmp_path)) == 2

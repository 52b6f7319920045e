"""Clips that the end-to-end tests ask about, and the command as a person runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[2]
Sevila = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames at 25 frames per second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=100, width=160, height=96)


@pytest.fixture
def sevila(tmp_path: Path) -> Sevila:
    """Runs `sevila` in a process of its own, in the test's folder."""

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "lavis", *map(str, arguments)]
        searched = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": searched}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=600
        )

    return run

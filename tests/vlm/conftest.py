"""Tiny models of each family in folders, and a video that they are asked about."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import sevila  # noqa: F401  # a fixture
from tests.videos import write_video
from tests.vlm.families import save_tiny


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves the tiny model of a family when it is first asked for."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_tiny(family, tmp_path_factory.mktemp("models") / family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames, wider than high."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=20, width=48, height=40)

"""The page served as a person serves it, asked by programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import lavis
from lavis.demo.files import VisitorFiles
from lavis.demo.serve import Served, serving
from lavis.demo.settings import Settings

SETTINGS = Settings(max_upload_mb=1, max_duration_s=60, max_sessions=8)


@pytest.fixture(scope="session")
def model() -> Any:
    return lavis.load_model("sevila", "tiny", device="cpu")


@pytest.fixture(scope="session")
def served(model: Any) -> Iterator[Served]:
    with serving(model, model_name=model.config.name, port=None, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=600) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> VisitorFiles:
    return VisitorFiles(tmp_path / "served", keep_s=3600)

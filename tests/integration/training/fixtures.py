"""Tiny data and models, made once for all tests that train; a conftest names those that its tests use."""

from pathlib import Path

import pytest

from tests.integration.training.tiny_run import write_tiny_data, write_tiny_model


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dropout: random numbers have to go on where they were."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def steady_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, so that runs can be compared."""
    return write_tiny_model(tmp_path_factory.mktemp("steady"), dropout=0.0)

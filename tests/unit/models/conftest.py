from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from lavis.common.files import checkpoints_dir
from lavis.models.language.t5 import T5LanguageModel
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.model import SeViLA
from tests.precision import in_float64
from tests.unit.models.tiny import CONFIG
from tests.videos import write_video


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(checkpoints_dir() / "sevila_tiny" / "tokenizer")


@pytest.fixture(scope="session")
def tiny_model() -> SeViLA:
    """Shared by all tests: none may change it."""
    return SeViLA.untrained(CONFIG)


@pytest.fixture(scope="session")
def exact_model(tiny_model: SeViLA) -> SeViLA:
    """The same model in float64, which all ways of computing it are compared with."""
    return in_float64(tiny_model)


@pytest.fixture
def own_model() -> SeViLA:
    """The same model for a test that changes it."""
    return SeViLA.untrained(CONFIG)


@pytest.fixture(scope="session")
def language(tiny_model: SeViLA) -> T5LanguageModel:
    return tiny_model.language


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames at 25 frames per second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=50)

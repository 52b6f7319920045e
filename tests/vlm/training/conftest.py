"""Tiny models with adapters that change what they say."""

from pathlib import Path

import pytest
import torch

from lavis.models.loading import load_model
from tests.integration.training.fixtures import data
from tests.vlm.families import save_tiny

__all__ = ["data"]

RANK, ALPHA = 4, 8.0
LORA = [f"model.lora.rank={RANK}", f"model.lora.alpha={ALPHA}", "model.lora.dropout=0.3"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without adapters."""
    return save_tiny("smolvlm", tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both roles' adapters of it, as saved."""
    return save_adapters(base, tmp_path_factory.mktemp("adapters"))


def save_adapters(base: Path, folder: Path) -> Path:
    """Save adapters that say something else than the model."""
    model = load_model("hf", str(base), device="cpu", lora={"rank": RANK, "alpha": ALPHA, "dropout": 0.3})
    random = torch.Generator().manual_seed(0)
    for _, parameter in model.adapters.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) * 0.2
    model.save_pretrained(folder)
    return folder

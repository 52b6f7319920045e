"""Resized position tables are those of the published code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavis.models.vision.blip2 import interpolate_position_embedding

TABLES = load_file(Path(__file__).parent / "golden" / "position_tables.safetensors")


@pytest.mark.parametrize(("case", "grid"), [("2to4", 4), ("3to3", 3), ("4to2", 2), ("4to7", 7)])
def test_a_resized_position_table_is_the_published_one(case: str, grid: int) -> None:
    resized = interpolate_position_embedding(TABLES[f"pos_embed/{case}/in"], grid)
    wanted = TABLES[f"pos_embed/{case}/out"]
    assert resized.shape == wanted.shape
    torch.testing.assert_close(resized, wanted, rtol=0, atol=1e-6)


def test_every_published_case_is_compared() -> None:
    assert {name.split("/")[1] for name in TABLES} == {"2to4", "3to3", "4to2", "4to7"}

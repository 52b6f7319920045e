"""Resized position tables are those of the published code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavis.models.vision.blip2 import interpolate_position_embedding
from tests.precision import assert_near_float64

FIGURES = load_file(Path(__file__).parents[1] / "golden" / "tensors.safetensors")
TABLES = {name: value for name, value in FIGURES.items() if name.startswith("pos_embed/")}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("case", "grid"), [("2to4", 4), ("3to3", 3), ("4to2", 2), ("4to7", 7)])
def test_a_resized_position_table_is_the_published_one(case: str, grid: int, dtype: torch.dtype) -> None:
    resized = interpolate_position_embedding(TABLES[f"pos_embed/{case}/in"].to(dtype), grid)
    assert resized.dtype == dtype
    assert_near_float64(resized, TABLES[f"pos_embed/{case}/out"])


def test_every_published_case_is_compared() -> None:
    assert {name.split("/")[1] for name in TABLES} == {"2to4", "3to3", "4to2", "4to7"}

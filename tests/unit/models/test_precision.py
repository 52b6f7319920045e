import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lavis
from lavis.common.errors import ConfigError, MissingExtraError
from lavis.models.precision import dtype_name, quantize_parts, widened
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import encoded, random_pixels

# Rounding errors of all of a layer's outputs together, as a share of them.
INT8, INT4 = 0.02, 0.15


def layers(*, width: int = 64) -> nn.ModuleDict:
    torch.manual_seed(0)
    parts = {"inner": nn.Linear(width, 32), "wo": nn.Linear(width, 32), "odd": nn.Linear(33, 8)}
    return nn.ModuleDict({**parts, "lm_head": nn.Linear(width, 16), "embedding": nn.Embedding(8, width)})


def error(plain: nn.Module, ours: nn.Module, rows: torch.Tensor) -> float:
    expected, found = plain(rows), ours(rows)
    return float((found - expected).norm() / expected.norm())


def test_an_unknown_quantization_is_refused_with_the_nearest_before_a_model_is_looked_for() -> None:
    with pytest.raises(ConfigError, match=r"unknown quantization 'int9'; did you mean 'int[48]'\? known: int4, int8"):
        lavis.load_model("sevila", "no such folder", quantize="int9")


def test_without_torchao_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingExtraError, match=r"torchao is not installed; .*pip install 'sevila\[quantize\]'"):
        lavis.load_model("sevila", "no such folder", quantize="int8")


@pytest.mark.parametrize(
    ("name", "dtype", "worst"),
    [("int8", torch.float32, INT8), ("int8", torch.bfloat16, INT8), ("int4", torch.bfloat16, INT4)],
)
@torch.inference_mode()
def test_linear_layers_compute_nearly_the_same_and_others_are_left_alone(
    name: str, dtype: torch.dtype, worst: float
) -> None:
    plain, ours = layers().to(dtype), layers().to(dtype)
    quantize_parts([ours], name)
    rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    for layer in ("inner", "wo"):
        assert 0 < error(plain[layer], ours[layer], rows) < worst
        assert type(ours[layer].weight) is not nn.Parameter
    for layer in ("odd", "lm_head", "embedding"):
        assert torch.equal(ours[layer].weight, plain[layer].weight)


@torch.inference_mode()
def test_outliers_cost_no_precision_where_t5_has_them() -> None:
    plain, ours = layers(), layers()
    for part in (plain, ours):
        part["wo"].weight[:, 0] = 0  # or the outlier itself would hide the error of the rest
    quantize_parts([ours], "int8")
    rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    rows[:, 0] = 100
    assert 0 < error(plain["wo"], ours["wo"], rows) < INT8


def test_four_bits_need_bf16() -> None:
    with pytest.raises(ConfigError, match="int4 weights need a model in bf16, not float32; set its dtype to bf16"):
        quantize_parts([layers()], "int4")


def test_a_torchao_without_its_prototype_of_four_bits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.prototype.quantization.int4.inference_workflow", None)
    with pytest.raises(ConfigError, match=r"^torchao \S+ has no int4 weights for CPUs; quantize to int8, or install"):
        quantize_parts([layers().to(torch.bfloat16)], "int4")


def test_four_bits_need_a_device_that_multiplies_them() -> None:
    with pytest.raises(ConfigError, match="int4 weights do not run on the device 'meta'; use cpu or cuda"):
        quantize_parts([layers().to("meta")], "int4")


@torch.inference_mode()
def test_a_quantised_model_answers_nearly_the_same_under_a_key_of_its_own(own_model: SeViLA) -> None:
    before, expected = own_model.watching_key(), verdicts(own_model)
    quantize_parts([own_model.vision, own_model.language.model], "int8")
    assert own_model.watching_key() != before
    assert 0 < np.abs(verdicts(own_model) - expected).max() < 0.1 * np.abs(expected).max()
    prompter = own_model.localizer.qformer.state_dict()
    assert {type(value) for value in prompter.values()} == {torch.Tensor}


def verdicts(model: SeViLA) -> np.ndarray:
    tokens = encoded(model, random_pixels(2))
    return model.score_frames(tokens["localizer"][None], ["is it red"]).yes.numpy()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("bf16", "bf16"),
        ("bfloat16", "bf16"),
        (torch.bfloat16, "bf16"),
        ("torch.float16", "fp16"),
        (torch.half, "fp16"),
        ("float32", "fp32"),
        (torch.float, "fp32"),
    ],
)
def test_precisions_are_known_by_torchs_names_too(written: Any, name: str) -> None:
    assert dtype_name(written) == name


@pytest.mark.parametrize("written", ["fp8", torch.int8, torch.float64])
def test_a_precision_that_no_model_computes_with_is_refused(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"^unknown dtype .*known: bf16, fp16, fp32$"):
        dtype_name(written)


class Pair(nn.Module):
    """Two layers with one weight, one of which fails if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.full((8,), 1.1))
        self.fails = False

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.second(self.first(values)) * self.scale
        if self.fails:
            raise RuntimeError("failed")
        return made


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fails", [False, True])
def test_a_model_computes_in_fp32_within_the_block_and_is_as_it_was_after_it(dtype: torch.dtype, fails: bool) -> None:
    model = Pair().to(dtype)
    exact = copy.deepcopy(model).float()
    before = {name: (weight.data_ptr(), weight.dtype) for name, weight in model.named_parameters()}
    model.fails = fails
    values = torch.randn(3, 8)
    with torch.no_grad(), widened(model) as is_wide:
        assert is_wide
        if fails:
            with pytest.raises(RuntimeError, match="failed"):
                model(values)
        else:
            torch.testing.assert_close(model(values), exact(values), rtol=0, atol=0)
    assert {name: (weight.data_ptr(), weight.dtype) for name, weight in model.named_parameters()} == before
    assert not model._forward_hooks
    assert not model.first._forward_pre_hooks


def test_quantised_weights_stay_as_they_are() -> None:
    pytest.importorskip("torchao")
    model = nn.Sequential(nn.Linear(64, 64)).to(torch.bfloat16)
    quantize_parts([model], "int8")
    with widened(model) as is_wide:
        assert not is_wide
        assert not model[0]._forward_pre_hooks

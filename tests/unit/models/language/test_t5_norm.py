import pytest
import torch
from transformers.models.t5.modeling_t5 import T5LayerNorm

from lavis.models.language.t5 import T5LanguageModel
from lavis.models.language.t5_norm import PreciseT5Norm

WIDTH = 24


def norm(kind: type[T5LayerNorm], dtype: torch.dtype) -> T5LayerNorm:
    made = kind(WIDTH, eps=1e-6)
    torch.nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(0))
    return made.to(dtype)


def hidden(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def test_every_norm_of_a_built_model_keeps_precision(language: T5LanguageModel) -> None:
    kinds = {type(module) for module in language.modules() if isinstance(module, T5LayerNorm)}
    assert kinds == {PreciseT5Norm}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_librarys_bits_come_out_in_fp32_and_half_precision(dtype: torch.dtype) -> None:
    ours, theirs = (norm(kind, dtype)(hidden(dtype)) for kind in (PreciseT5Norm, T5LayerNorm))
    assert ours.dtype == theirs.dtype == dtype
    assert torch.equal(ours, theirs)


def test_float64_is_not_rounded() -> None:
    values, made = hidden(torch.float64), norm(PreciseT5Norm, torch.float64)
    exact = made.weight * values / (values.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(made(values), exact, rtol=1e-14, atol=0)
    rounded = norm(T5LayerNorm, torch.float64)(values)
    assert (rounded - exact).abs().max() > 1e-10

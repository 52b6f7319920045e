import copy
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm

from lavis.models.language.t5 import LanguageInput, T5LanguageModel
from lavis.models.language.t5_layers import FoldedCrossAttention, PreciseT5Norm
from lavis.models.sevila.model import SeViLA
from tests.precision import assert_near_float64, in_float64
from tests.unit.models.tiny import CONFIG

LENGTH = 40


@pytest.fixture(scope="module")
def folded() -> T5LanguageModel:
    return SeViLA.untrained(CONFIG).language


@pytest.fixture(scope="module")
def plain(folded: T5LanguageModel) -> T5LanguageModel:
    copied = copy.deepcopy(folded)
    for attention in cross_attentions(copied):
        attention.__class__ = T5Attention
    return copied


@pytest.fixture(params=["padded", "full"])
def inputs(request: pytest.FixtureRequest, folded: T5LanguageModel) -> LanguageInput:
    embeds = torch.randn(3, LENGTH, folded.width, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, LENGTH, dtype=torch.int64)
    if request.param == "padded":
        mask[1, LENGTH // 2 :] = 0
    return LanguageInput(embeds, mask)


def cross_attentions(language: T5LanguageModel) -> list[Any]:
    return [block.layer[1].EncDecAttention for block in language.model.decoder.block]


def operations(language: T5LanguageModel, inputs: LanguageInput) -> int:
    with FlopCounterMode(display=False) as counter:
        language.first_step(inputs)
    return counter.get_total_flops()


def test_every_cross_attention_of_a_built_model_folds(folded: T5LanguageModel) -> None:
    assert {type(attention) for attention in cross_attentions(folded)} == {FoldedCrossAttention}


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@torch.no_grad()
def test_folded_steps_equal_projected_ones(
    folded: T5LanguageModel, plain: T5LanguageModel, inputs: LanguageInput, kernel: str
) -> None:
    exact = in_float64(plain)
    exact.model.set_attn_implementation("eager")
    theirs = exact.two_steps(inputs)
    for language in (copy.deepcopy(folded), in_float64(folded)):
        language.model.set_attn_implementation(kernel)
        ours = language.two_steps(inputs)
        assert_near_float64(ours.first_logits, theirs.first_logits)
        assert_near_float64(ours.second_logits, theirs.second_logits)
        assert ours.first_token.tolist() == theirs.first_token.tolist()


@pytest.mark.parametrize("positions", [1, 3, 12])
def test_teacher_forcing_and_its_gradient_equal_projected_ones(
    folded: T5LanguageModel, plain: T5LanguageModel, inputs: LanguageInput, positions: int
) -> None:
    labels = torch.arange(3 * positions).view(3, positions)

    def found(language: T5LanguageModel) -> tuple[torch.Tensor, torch.Tensor | None]:
        embeds = inputs.embeds.clone().to(language.dtype).requires_grad_()
        logits = language.teacher_forced(LanguageInput(embeds, inputs.mask), labels)
        logits.square().mean().backward()
        return logits.detach(), embeds.grad

    for language in (folded, in_float64(folded)):
        for ours, theirs in zip(found(language), found(in_float64(plain)), strict=True):
            assert_near_float64(ours, theirs)


@torch.no_grad()
def test_free_decoding_writes_the_same_tokens(
    folded: T5LanguageModel, plain: T5LanguageModel, inputs: LanguageInput
) -> None:
    ours, theirs = (language.generate_ids(inputs, max_new_tokens=6) for language in (folded, plain))
    assert ours.tolist() == theirs.tolist()


@torch.no_grad()
def test_a_verdict_takes_fewer_operations_than_keys_and_values_for_every_input(
    folded: T5LanguageModel, plain: T5LanguageModel
) -> None:
    inputs = LanguageInput(torch.zeros(1, LENGTH, folded.width), torch.ones(1, LENGTH, dtype=torch.int64))
    config = folded.model.config
    projections = 2 * 2 * LENGTH * config.d_model * config.num_heads * config.d_kv * config.num_decoder_layers
    assert operations(plain, inputs) - operations(folded, inputs) > projections / 2


def test_weights_that_are_not_plain_are_left_to_the_library(folded: T5LanguageModel) -> None:
    attention = copy.deepcopy(cross_attentions(folded)[0])
    attention.k.weight = QuantisedParameter(attention.k.weight.detach())
    hidden, encoded = torch.zeros(1, 1, folded.width), torch.zeros(1, LENGTH, folded.width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        attention(hidden, key_value_states=encoded)
    config = folded.model.config
    inner = config.num_heads * config.d_kv
    assert counter.get_total_flops() >= 2 * 2 * LENGTH * config.d_model * inner


class QuantisedParameter(torch.nn.Parameter):
    pass


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

import copy
import logging
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm

from lavis.common.errors import CheckpointError, ConfigError, QuestionError
from lavis.models.language.t5 import (
    IGNORED,
    FoldedCrossAttention,
    LanguageInput,
    PreciseT5Norm,
    T5LanguageModel,
)
from lavis.models.sevila.model import JointPacking, SeViLA
from tests.precision import assert_near_float64, in_float64
from tests.unit.models.tiny import CONFIG, random_tokens, recorded, with_language

TEXTS = ["Question: what is shown?", "yes", "What colour is the box? Option A: red Option B: green"]


@pytest.fixture(scope="module")
def inputs(language: T5LanguageModel) -> LanguageInput:
    return JointPacking().inputs(language, random_tokens(3, 2), language.tokenize(TEXTS, end_of_text=True))


def test_output_matrix_is_not_the_embedding_and_outputs_are_not_scaled(language: T5LanguageModel) -> None:
    model = language.model
    assert model.lm_head.weight.data_ptr() != model.shared.weight.data_ptr()
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert (model.config.tie_word_embeddings, model.config.scale_decoder_outputs) == (False, False)


def test_both_stacks_look_words_up_in_one_table(language: T5LanguageModel) -> None:
    assert language.model.encoder.embed_tokens is language.model.shared
    assert language.model.decoder.embed_tokens is language.model.shared


def test_activation_is_the_exact_gelu(language: T5LanguageModel) -> None:
    dense = language.model.encoder.block[0].layer[-1].DenseReluDense
    values = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(dense.act(values), torch.nn.functional.gelu(values), rtol=0, atol=0)
    assert language.model.config.is_gated_act


def test_texts_are_padded_on_the_right_to_the_longest(language: T5LanguageModel) -> None:
    tokens = language.tokenize(["yes", "Option A"], end_of_text=True)
    assert tokens.ids.tolist() == [[482, 1, 0], [446, 380, 1]]
    assert tokens.mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert language.tokenize(["Option A"], end_of_text=False).ids.tolist() == [[446, 380]]


@pytest.mark.parametrize(("words", "cut"), [(6, False), (7, False), (8, True), (500, True)])
def test_texts_beyond_the_limit_lose_their_end_but_not_the_end_token(words: int, cut: bool) -> None:
    language = SeViLA.untrained(with_language(max_text_length=8)).language
    tokens = language.tokenize([" ".join(["yes"] * words), "no"], end_of_text=True)
    kept = 7 if cut else words
    assert tokens.ids[0].tolist() == [482] * kept + [1]
    assert [lost.truncated for lost in tokens.unread] == [cut, False]
    assert language.num_cut_prompts == int(cut)


def test_cut_prompts_are_counted_and_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    language = SeViLA.untrained(with_language(max_text_length=8)).language
    long = " ".join(["yes"] * 20)
    with caplog.at_level(logging.WARNING):
        language.tokenize([long, "no", long], end_of_text=True)
        language.tokenize([long], end_of_text=True)
    assert language.num_cut_prompts == 3
    assert [record.message for record in caplog.records] == [
        "a prompt is longer than 8 tokens and loses its end (counted from here on)"
    ]


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_limits_that_leave_no_room_for_a_prompt_are_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match=rf"^max_text_length is {limit}; prompts need at least 8 tokens$"):
        SeViLA.untrained(with_language(max_text_length=limit))


def test_a_tokenizer_with_more_tokens_than_the_model_knows_is_refused() -> None:
    sizes = {**CONFIG.language.sizes, "vocab_size": 700}
    with pytest.raises(CheckpointError, match=r"^the tokenizer has 716 tokens and the language model 700; give the "):
        SeViLA.untrained(with_language(sizes=sizes))


def test_rows_are_chosen_without_padding_that_none_of_them_needs(language: T5LanguageModel) -> None:
    tokens = language.tokenize(TEXTS, end_of_text=True)
    chosen = tokens.rows(torch.tensor([1, 0, 1]))
    assert chosen.ids.tolist() == [[482, 1, 0, 0, 0, 0, 0], tokens.ids[0, :7].tolist(), [482, 1, 0, 0, 0, 0, 0]]
    assert chosen.mask.sum(1).tolist() == [2, 7, 2]


@pytest.mark.parametrize(("count", "letters"), [(2, "AB"), (5, "ABCDE"), (26, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")])
def test_option_ids_are_the_letters_own_tokens(language: T5LanguageModel, count: int, letters: str) -> None:
    assert language.tokenizer.convert_ids_to_tokens(language.option_ids(count)) == [f"▁{letter}" for letter in letters]


@pytest.mark.parametrize("count", [0, 1, 27])
def test_other_numbers_of_options_are_refused(language: T5LanguageModel, count: int) -> None:
    with pytest.raises(QuestionError, match=f"^{count} options? given; give 2 to 26$"):
        language.option_ids(count)


@torch.no_grad()
def test_one_step_runs_encoder_and_decoder_once_on_the_start_token(
    language: T5LanguageModel, inputs: LanguageInput
) -> None:
    with recorded(language.model.encoder) as encoded, recorded(language.model.decoder) as decoded:
        logits = language.first_step(inputs)
    assert logits.shape == (3, 1024)
    assert len(encoded) == 1
    assert [call["input_ids"].tolist() for call in decoded] == [[[0], [0], [0]]]


@torch.no_grad()
def test_two_steps_run_the_decoder_on_one_token_each(language: T5LanguageModel, inputs: LanguageInput) -> None:
    with recorded(language.model.encoder) as encoded, recorded(language.model.decoder) as decoded:
        steps = language.two_steps(inputs)
    assert len(encoded) == 1
    assert [call["input_ids"].tolist() for call in decoded] == [[[0], [0], [0]], steps.first_token[:, None].tolist()]
    torch.testing.assert_close(steps.first_logits, language.first_step(inputs), rtol=0, atol=0)
    assert steps.first_token.tolist() == steps.first_logits.argmax(1).tolist()


@torch.no_grad()
def test_second_step_equals_decoding_the_whole_sequence_at_once(
    language: T5LanguageModel, exact_model: SeViLA, inputs: LanguageInput
) -> None:
    exact = exact_model.language
    labels = torch.stack([exact.two_steps(inputs).first_token, torch.zeros(3, dtype=torch.int64)], dim=1)
    whole = exact.teacher_forced(inputs, labels)
    for model in (language, exact):
        steps = model.two_steps(inputs)
        assert_near_float64(steps.first_logits, whole[:, 0])
        assert_near_float64(steps.second_logits, whole[:, 1])


@torch.no_grad()
def test_free_decoding_starts_with_the_same_two_steps(language: T5LanguageModel, inputs: LanguageInput) -> None:
    steps = language.two_steps(inputs)
    ids, _ = language.generate_ids(inputs, max_new_tokens=2)
    assert ids[:, 0].tolist() == [0, 0, 0]
    assert ids[:, 1].tolist() == steps.first_token.tolist()
    going_on = ids[:, 1] != 1
    assert ids[going_on, 2].tolist() == steps.second_logits.argmax(1)[going_on].tolist()


@torch.no_grad()
def test_scores_do_not_depend_on_what_else_is_in_the_batch(language: T5LanguageModel, exact_model: SeViLA) -> None:
    frames = random_tokens(3, 2)

    def scores(language: T5LanguageModel, rows: list[int]) -> torch.Tensor:
        text = language.tokenize([TEXTS[row] for row in rows], end_of_text=True)
        return language.two_steps(JointPacking().inputs(language, frames[rows], text)).second_logits

    for row in range(3):
        alone = scores(exact_model.language, [row])[0]
        for model in (language, exact_model.language):
            assert_near_float64(scores(model, [0, 1, 2])[row], alone)


def test_labels_are_ignored_at_the_padding(language: T5LanguageModel) -> None:
    assert language.labels(["yes", "Option B"]).tolist() == [[482, 1, IGNORED], [446, 381, 1]]


@torch.no_grad()
def test_ignored_labels_are_not_decoded_from(language: T5LanguageModel, inputs: LanguageInput) -> None:
    labels = language.labels(["yes", "no", "Option B"])
    with recorded(language.model.decoder) as decoded:
        language.teacher_forced(inputs, labels)
    assert [call["input_ids"].tolist() for call in decoded] == [[[0, 482, 1], [0, 483, 1], [0, 446, 381]]]


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
def both_inputs(request: pytest.FixtureRequest, folded: T5LanguageModel) -> LanguageInput:
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
    folded: T5LanguageModel, plain: T5LanguageModel, both_inputs: LanguageInput, kernel: str
) -> None:
    exact = in_float64(plain)
    exact.model.set_attn_implementation("eager")
    theirs = exact.two_steps(both_inputs)
    for language in (copy.deepcopy(folded), in_float64(folded)):
        language.model.set_attn_implementation(kernel)
        ours = language.two_steps(both_inputs)
        assert_near_float64(ours.first_logits, theirs.first_logits)
        assert_near_float64(ours.second_logits, theirs.second_logits)
        assert ours.first_token.tolist() == theirs.first_token.tolist()


@pytest.mark.parametrize("positions", [1, 3, 12])
def test_teacher_forcing_and_its_gradient_equal_projected_ones(
    folded: T5LanguageModel, plain: T5LanguageModel, both_inputs: LanguageInput, positions: int
) -> None:
    labels = torch.arange(3 * positions).view(3, positions)

    def found(language: T5LanguageModel) -> tuple[torch.Tensor, torch.Tensor | None]:
        embeds = both_inputs.embeds.clone().to(language.dtype).requires_grad_()
        logits = language.teacher_forced(LanguageInput(embeds, both_inputs.mask), labels)
        logits.square().mean().backward()
        return logits.detach(), embeds.grad

    for language in (folded, in_float64(folded)):
        for ours, theirs in zip(found(language), found(in_float64(plain)), strict=True):
            assert_near_float64(ours, theirs)


@torch.no_grad()
def test_free_decoding_writes_the_same_tokens(
    folded: T5LanguageModel, plain: T5LanguageModel, both_inputs: LanguageInput
) -> None:
    ours, theirs = (language.generate_ids(both_inputs, max_new_tokens=6)[0] for language in (folded, plain))
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

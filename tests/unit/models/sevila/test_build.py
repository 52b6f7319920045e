import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerBase, T5ForConditionalGeneration

from lavis.common.errors import ConfigError
from lavis.models.language.t5 import t5_config
from lavis.models.sevila.config import SeViLAConfig, WeightsConfig
from lavis.models.sevila.model import JointPacking, SeViLA
from tests.unit.models.tiny import CONFIG, random_tokens, with_language, with_vision


def with_sizes(**sizes: object) -> SeViLAConfig:
    return with_language(sizes={**CONFIG.language.sizes, **sizes})


def weights_of(config: SeViLAConfig) -> dict[str, torch.Tensor]:
    return dict(SeViLA.untrained(config).named_parameters())


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    first = weights_of(CONFIG)
    torch.rand(7)
    second = weights_of(CONFIG)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_another_seed_gives_other_weights() -> None:
    first, other = weights_of(CONFIG), weights_of(replace(CONFIG, weights=WeightsConfig(seed=4)))
    assert not torch.equal(first["language.model.shared.weight"], other["language.model.shared.weight"])
    assert not torch.equal(
        first["vision.model.embeddings.patch_embedding.weight"], other["vision.model.embeddings.patch_embedding.weight"]
    )


def test_building_leaves_the_random_numbers_of_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded_gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded_gpus.append)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    SeViLA.untrained(CONFIG)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert seeded_gpus == []


def test_untrained_models_are_built_in_eval_mode() -> None:
    model = SeViLA.untrained(CONFIG)
    assert not any(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            with_vision(name="blip2_vit"),
            r"^unknown vision tower 'blip2_vit'; did you mean 'blip2_vit_g'\? known: blip2_",
        ),
        (with_vision(args={"wdth": 8}), r"^small: vision: args: unknown key 'wdth'; did you mean 'width'\? known: "),
        (with_vision(args={**CONFIG.vision.args, "num_heads": 3}), r"^vision tower blip2_vit_g: .*divisible.*$"),
        (with_vision(image_size=40), r"^image_size 40 is not a multiple of patch_size 16$"),
        (with_vision(image_size=0), r"^image_size 0 is not a multiple of patch_size 16$"),
        (replace(CONFIG, prompter={"quries": 8}), r"^small: prompter: unknown key 'quries'; did you mean 'num_queries"),
        (replace(CONFIG, prompter={**CONFIG.prompter, "num_heads": 5}), r"^small: prompter: .*not a multiple.*$"),
        (with_sizes(d_modl=8), r"^small: language: sizes: unknown key 'd_modl'; did you mean 'd_model'\? known: "),
        (
            with_sizes(dense_act_fn="gelo"),
            r"^small: language: sizes: dense_act_fn: unknown 'gelo'; did you mean 'gelu'",
        ),
        (with_sizes(d_model="wide"), r"^small: language: sizes: d_model\b"),
        (with_sizes(feed_forward_proj="a-b-c"), r"^small: language: sizes: feed_forward_proj: unknown 'a-b-c'"),
        (
            with_language(tokenizer=None),
            r"^the language model has no tokenizer; give language.tokenizer a folder or na",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(config: SeViLAConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SeViLA.from_config(config)
    assert "\n" not in str(caught.value)


@pytest.fixture
def saved_t5(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A Flan-T5 of its own kind, with the tanh approximation that BLIP-2 replaces, and its tokenizer."""
    sizes = {**CONFIG.language.sizes, "dense_act_fn": "gelu_new"}
    T5ForConditionalGeneration(t5_config(**sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    # As on the hub, where the activation follows from the kind of feed-forward layer.
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for name in ("dense_act_fn", "is_gated_act", "scale_decoder_outputs"):
        del config[name]
    file.write_text(json.dumps(config))
    return tmp_path


def test_a_language_model_by_name_keeps_its_weights_activation_and_tokenizer(saved_t5: Path) -> None:
    original = T5ForConditionalGeneration.from_pretrained(saved_t5)
    model = SeViLA.from_config(with_language(sizes={}, pretrained=str(saved_t5), tokenizer=None)).eval()
    ours = model.language.model
    assert ours.config.dense_act_fn == "gelu_new"
    assert ours.config.scale_decoder_outputs is False
    assert not torch.equal(ours.lm_head.weight, ours.shared.weight)
    for name in ("shared.weight", "lm_head.weight", "encoder.block.1.layer.1.DenseReluDense.wi_0.weight"):
        torch.testing.assert_close(ours.get_parameter(name), original.get_parameter(name), rtol=0, atol=0)
    assert (model.language.yes_id, model.language.no_id) == (482, 483)
    answer = model.answer(random_tokens(1, 2), ["Is it red?"], num_options=3, packing=JointPacking())
    assert answer.logits.shape == (1, 3)
    assert torch.isfinite(answer.logits).all()
    assert not any(value.requires_grad for value in ours.parameters())


def test_a_folder_that_holds_no_language_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 32}')
    with pytest.raises(ConfigError, match=r"^no language model at [^\n]*: 'bert' is not built like T5; known: [^\n]*$"):
        SeViLA.from_config(with_language(pretrained=str(tmp_path)))


def test_a_missing_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no language model at [^\n]*/none: [^\n]*$"):
        SeViLA.from_config(with_language(pretrained=str(tmp_path / "none")))


def test_a_language_model_that_is_not_built_like_t5_is_refused(tmp_path: Path) -> None:
    small = dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 1)
    BartForConditionalGeneration(
        BartConfig(vocab_size=1024, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, **small)
    ).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r": 'bart' is not built like T5; known: mt5, t5, umt5"):
        SeViLA.from_config(with_language(pretrained=str(tmp_path)))

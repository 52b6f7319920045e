"""Image-text models of transformers at the shapes of published ones, with random weights and a tokenizer made here.

The tokenizer is a byte-level BPE learned on the prompts themselves, so that common words are one token each, as in the
large vocabularies of published models; the embedding has the published number of rows.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from benchmarks.fixtures import questions
from lavis.common.types import Question
from lavis.models.hf.loading import HFConfig
from lavis.models.hf.model import HFModel
from lavis.models.precision import dtype_named
from lavis.processors.chat_prompts import MultipleChoiceChat

_SEED = 0
# Widths and depths; "smol" is a SigLIP-B/16 at 512 pixels, of which 64 tokens are left, before a Llama.
_SMOL = {
    "500m": {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "heads": (15, 5)},
    "256m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "heads": (9, 3)},
    "tiny": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "heads": (3, 1)},
}
_QWEN = {
    "qwen3-vl-2b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "heads": (16, 8)},
    "qwen3-vl-4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "heads": (32, 8)},
    "qwen3-vl-tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "heads": (4, 2)},
}
SHAPES = (*_SMOL, *_QWEN)

_CHAT = (
    "{{ '<|im_start|>' }}{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_SMOL_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
_QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def hf_model_of(shape: str, *, dtype: str, device: torch.device) -> HFModel:
    """Return a model of one of the `SHAPES`; its weights are the same each time on one kind of device."""
    torch.manual_seed(_SEED)
    with device:
        network, processor = (_smol if shape in _SMOL else _qwen)(shape, dtype_named(dtype))
    network.requires_grad_(requires_grad=False).eval()
    return HFModel(network=network, processor=processor, config=HFConfig(name=shape, base=shape)).eval()


def hf_questions(count: int) -> list[Question]:
    """Return this many questions of four options about one video."""
    return [replace(one, options=one.options[:4]) for one in questions(count, size="base")]


def _smol(shape: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    words = _tokenizer(_SMOL_TOKENS)
    tiny = shape == "tiny"
    side, scale = (64, 2) if tiny else (512, 4)
    longest = {"longest_edge": side}
    pictures = SmolVLMImageProcessor(size=longest, max_image_size=longest, do_image_splitting=False)
    processor = SmolVLMProcessor(
        pictures,
        words,
        SmolVLMVideoProcessor(),
        image_seq_len=(side // 16 // scale) ** 2,
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    small = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    kind: Any = SmolVLMConfig
    config = kind(
        vision_config={**(small if tiny else vision), "image_size": side, "patch_size": 16},
        text_config={
            "model_type": "llama",
            **_text(_SMOL[shape], words),
            "vocab_size": len(words) if tiny else 49280,
            "rope_theta": 100000.0,
            "max_position_embeddings": 8192,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=scale,
        pad_token_id=words.pad_token_id,
    )
    return SmolVLMForConditionalGeneration._from_config(config, dtype=dtype), processor  # noqa: SLF001


def _qwen(shape: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    words = _tokenizer(_QWEN_TOKENS)
    tiny = shape == "qwen3-vl-tiny"
    pictures = Qwen2VLImageProcessor(
        patch_size=16,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 64**2, "longest_edge": 128**2 if tiny else 4096**2},
    )
    processor = Qwen3VLProcessor(
        pictures,
        words,
        Qwen3VLVideoProcessor(),
        chat_template=_CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    text = _text(_QWEN[shape], words)
    vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
    small = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    kind: Any = Qwen3VLConfig
    config = kind(
        vision_config={
            **(small if tiny else vision),
            "patch_size": 16,
            "spatial_merge_size": 2,
            "out_hidden_size": text["hidden_size"],
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [0, 1] if tiny else [5, 11, 17],
        },
        text_config={
            **text,
            "head_dim": 16 if tiny else 128,
            "vocab_size": len(words) if tiny else 151936,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [2, 3, 3] if tiny else [24, 20, 20],
                "mrope_interleaved": True,
            },
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
        },
        tie_word_embeddings=True,
        **{name: words.convert_tokens_to_ids(token) for name, token in zip(names, _QWEN_TOKENS, strict=True)},
    )
    return Qwen3VLForConditionalGeneration._from_config(config, dtype=dtype), processor  # noqa: SLF001


def _text(shape: dict[str, Any], words: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return the configuration of a language model."""
    heads, key_value_heads = shape["heads"]
    return {
        **{name: value for name, value in shape.items() if name != "heads"},
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }


def _tokenizer(special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
    )
    backend.train_from_iterator(_texts(), trainer)
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    words.add_tokens(list(special), special_tokens=True)
    return words


def _texts() -> Iterator[str]:
    prompt = MultipleChoiceChat()
    yield from ("yes no Yes No", " yes no Yes No", "User:", "Assistant:")
    for question in hf_questions(8):
        yield from (prompt.localizer(question), prompt.answerer(question))
    yield from map(prompt.frame_label, range(40))

"""What the configuration of a model may say of its parts: an allow-list of names, each with its type and bounds.

A model's folder may come from a stranger. Whatever it says beyond this is refused before anything is built of it.
"""

from dataclasses import dataclass
from typing import Annotated

from lavis.common.config import Decay, Limit, NotNegative, Positive, between, one_of

Layers = Annotated[int, between(1, 512)]
Heads = Annotated[int, between(1, 1024)]
Width = Annotated[int, between(1, 65_536)]
Pixels = Annotated[int, between(1, 4096)]

_ACTIVATIONS = ("relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "swish")


@dataclass(frozen=True)
class Blip2VisionSizes:
    """`vision.args` of the tower blip2_vit_g; the values here stand for those that are left out."""

    patch_size: Pixels = 14
    width: Width = 1408
    depth: Layers = 39
    num_heads: Heads = 16
    intermediate_size: Width = 6144


@dataclass(frozen=True)
class TimmVisionArgs:
    """`vision.args` of a timm tower."""

    pretrained: bool = False


@dataclass(frozen=True)
class PrompterSizes:
    """`prompter`."""

    num_queries: Width = 32
    width: Width = 768
    depth: Layers = 12
    num_heads: Heads = 12
    intermediate_size: Width = 3072
    cross_attention_frequency: Layers = 2
    dropout: Decay = 0.1


@dataclass(frozen=True)
class LanguageSizes:
    """`language.sizes`, as transformers' `T5Config` names them."""

    vocab_size: Annotated[int, between(1, 4_000_000)] = 32128
    d_model: Width = 512
    d_kv: Width = 64
    d_ff: Width = 2048
    num_layers: Layers = 6
    num_decoder_layers: Layers | None = None
    num_heads: Heads = 8
    relative_attention_num_buckets: Annotated[int, between(4, 4096)] = 32
    relative_attention_max_distance: Annotated[int, between(4, 65_536)] = 128
    dropout_rate: Decay = 0.1
    classifier_dropout: Decay = 0.0
    layer_norm_epsilon: Positive = 1e-6
    initializer_factor: NotNegative = 1.0
    feed_forward_proj: Annotated[str, one_of(*_ACTIVATIONS, *(f"gated-{name}" for name in _ACTIVATIONS))] = "gated-gelu"
    dense_act_fn: Annotated[str, one_of(*_ACTIVATIONS)] = "gelu"
    pad_token_id: Annotated[int, between(0, 4_000_000)] | None = 0
    eos_token_id: Annotated[int, between(0, 4_000_000)] | None = 1
    decoder_start_token_id: Annotated[int, between(0, 4_000_000)] | None = 0


@dataclass(frozen=True)
class HubLanguageSizes(LanguageSizes):
    """What is read of the `config.json` of a T5 of transformers."""

    is_gated_act: bool = True
    tie_word_embeddings: bool = False
    scale_decoder_outputs: bool = False


def _is_line(text: str) -> bool:
    return len(text) <= 2000 and all(sign.isprintable() or sign == "\u00a0" for sign in text)


# What is said of a model reaches terminals: nothing there can move their cursor.
Line = Annotated[str, Limit("one line of up to 2000 printable characters", _is_line)]

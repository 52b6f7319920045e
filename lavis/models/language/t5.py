"""A frozen encoder-decoder language model (Flan-T5) read at exactly the decoder steps that count.

Two of its layers are computed in another way than transformers does, with the same parameters: cross-attention of few
decoder positions does not project the encoder's outputs to keys and values, which gives the same results sooner, and
norms compute float64 in float64, which the library rounds to float32.

Shapes: N sequences, L tokens, S decoder positions, E width, H heads, D width of a head, V vocabulary.
"""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Encoding
from torch import nn
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm

from lavis.common.errors import CheckpointError, ConfigError, QuestionError, counted
from lavis.common.types import Unread
from lavis.models.language.tokenizer import rust_errors, single_token_id, text_tokenizer
from lavis.models.precision import at_least_fp32
from lavis.processors.prompts import OPTION_LETTERS

logger = logging.getLogger(__name__)

# Label positions that no loss is taken at.
IGNORED = -100
# Shorter would cut the frames' own prefixes ("Frame 10: ").
_MIN_TEXT_LENGTH = 8


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Token ids and mask, both [N, L], and what each text lost."""

    ids: torch.Tensor
    mask: torch.Tensor
    unread: tuple[Unread, ...]

    def rows(self, index: torch.Tensor) -> "Tokens":
        """Select texts by index [M], without the padding that none of them needs."""
        length = int(self.mask[index].sum(1).max())
        return Tokens(
            ids=self.ids[index, :length],
            mask=self.mask[index, :length],
            unread=tuple(self.unread[i] for i in index.tolist()),
        )


@dataclasses.dataclass(frozen=True)
class LanguageInput:
    """What the encoder reads: embeddings [N, L, E] and mask [N, L]."""

    embeds: torch.Tensor
    mask: torch.Tensor


@dataclasses.dataclass(frozen=True)
class TwoSteps:
    """Greedy decoding read at its first two steps.

    Attributes:
        first_logits: [N, V] after the start token.
        first_token: [N] the greedy choice there ("Option" with trained weights).
        second_logits: [N, V] after that token: here the option letters are compared.
    """

    first_logits: torch.Tensor
    first_token: torch.Tensor
    second_logits: torch.Tensor


def t5_config(**sizes: Any) -> T5Config:
    """Make the configuration of a Flan-T5 of given sizes (`LanguageSizes`), as BLIP-2 uses it.

    BLIP-2 runs Flan-T5 with the exact (erf) GELU instead of its tanh approximation. Flan-T5's
    `lm_head` is its own matrix; transformers 5 ties it to the embedding whatever it is given, so
    that is set back after construction.
    """
    config = T5Config(**{"feed_forward_proj": "gated-gelu", **sizes, "tie_word_embeddings": False})
    config.tie_word_embeddings = False
    config.dense_act_fn = sizes.get("dense_act_fn", "gelu")
    config._attn_implementation = "sdpa"  # noqa: SLF001  # transformers' documented way round the hub
    return config


class T5LanguageModel(nn.Module):
    """The language model with its tokenizer.

    Args:
        model: a T5-like encoder-decoder of transformers.
        max_text_length: tokens a prompt may have (published: 77); longer ones lose their end.

    Raises:
        ConfigError: `max_text_length` is too short for any prompt.
        CheckpointError: the tokenizer does not fit the model, or holds no "yes" or "no".
    """

    # transformers' annotations promise less than its modules do.
    model: Any
    tokenizer: Any

    def __init__(
        self, *, model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, max_text_length: int = 77
    ) -> None:
        super().__init__()
        if max_text_length < _MIN_TEXT_LENGTH:
            raise ConfigError(f"max_text_length is {max_text_length}; prompts need at least {_MIN_TEXT_LENGTH} tokens")
        if len(tokenizer) > model.shared.num_embeddings:
            raise CheckpointError(
                f"the tokenizer has {len(tokenizer)} tokens and the language model {model.shared.num_embeddings}; "
                "give the tokenizer the model was trained with"
            )
        # Both stacks must look words up in one table; without tying they would each hold a copy.
        model.encoder.set_input_embeddings(model.shared)
        model.decoder.set_input_embeddings(model.shared)
        if type(model) is T5ForConditionalGeneration:
            fold_cross_attention(model)
            keep_precision_of_norms(model)
        self.model = model
        self.tokenizer = tokenizer
        self.max_text_length = max_text_length
        self.num_cut_prompts = 0
        self.num_unspelt_prompts = 0
        self._text_tokenizer = text_tokenizer(tokenizer)
        # Such as a compiled function, in place of the encoder's forward pass.
        self.run_encoder: Callable[..., BaseModelOutput] | None = None
        # transformers 5.24 renames the argument.
        self._cache = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        self.yes_id = single_token_id(tokenizer, "yes")
        self.no_id = single_token_id(tokenizer, "no")

    @property
    def width(self) -> int:
        """E."""
        return self.model.config.d_model

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.model.shared.weight.dtype

    def option_ids(self, num_options: int) -> list[int]:
        """Return the token ids of the letters A, B, ... of `num_options` options.

        Raises:
            QuestionError: not 2 to 26 options.
            CheckpointError: the tokenizer splits one of the letters.
        """
        if not 2 <= num_options <= len(OPTION_LETTERS):
            raise QuestionError(f"{counted(num_options, 'option')} given; give 2 to {len(OPTION_LETTERS)}")
        return [single_token_id(self.tokenizer, letter) for letter in OPTION_LETTERS[:num_options]]

    def tokenize(self, texts: Sequence[str], *, end_of_text: bool) -> Tokens:
        """Tokenize texts, padded to the longest; `end_of_text` appends the end token.

        Texts are read as they are: what looks like a special token is no such token.
        """
        limit = self.max_text_length
        with rust_errors("the tokenizer is damaged"):
            read = self._text_tokenizer.encode_batch(list(texts), add_special_tokens=end_of_text)
        unread = tuple(
            Unread(len(row.ids) > limit, self._unspelt(text, row)) for text, row in zip(texts, read, strict=True)
        )
        self._count(unread)
        ending = [self.tokenizer.eos_token_id] if end_of_text else []
        rows = [
            row.ids[: limit - len(ending)] + ending if lost.truncated else row.ids
            for row, lost in zip(read, unread, strict=True)
        ]
        padded = self.tokenizer.pad({"input_ids": rows}, padding="longest", return_tensors="pt").to(self._device)
        return Tokens(ids=padded.input_ids, mask=padded.attention_mask, unread=unread)

    def _unspelt(self, text: str, read: Encoding) -> tuple[str, ...]:
        unknown = self.tokenizer.unk_token_id
        places = (place for place, token in zip(read.offsets, read.ids, strict=True) if token == unknown)
        return tuple(dict.fromkeys(text[start:end] for start, end in places))

    def _count(self, unread: Sequence[Unread]) -> None:
        cut, unspelt = sum(lost.truncated for lost in unread), [lost.unspelt for lost in unread if lost.unspelt]
        if cut and not self.num_cut_prompts:
            limit = self.max_text_length
            logger.warning("a prompt is longer than %d tokens and loses its end (counted from here on)", limit)
        if unspelt and not self.num_unspelt_prompts:
            logger.warning(
                "a prompt holds text that the tokenizer cannot spell, such as %r (counted from here on)", unspelt[0][0]
            )
        self.num_cut_prompts += cut
        self.num_unspelt_prompts += len(unspelt)

    def embed(self, tokens: Tokens) -> torch.Tensor:
        """Look up token embeddings [N, L, E]."""
        return self.model.shared(tokens.ids)

    def encode(self, inputs: LanguageInput) -> BaseModelOutput:
        """Run the encoder."""
        run = self.run_encoder or self.model.encoder
        return run(inputs_embeds=inputs.embeds.to(self.dtype), attention_mask=inputs.mask)

    def first_step(self, inputs: LanguageInput) -> torch.Tensor:
        """Run the encoder and one decoder step; return its logits [N, V]."""
        return self._decode(self.encode(inputs), inputs.mask, self._start(len(inputs.mask)))[:, 0]

    def two_steps(self, inputs: LanguageInput) -> TwoSteps:
        """Run the encoder and two decoder steps, the second after the greedy token of the first."""
        encoded = self.encode(inputs)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        first = self._decode(encoded, inputs.mask, self._start(len(inputs.mask)), cache=cache)
        token = first[:, 0].argmax(-1)
        second = self._decode(encoded, inputs.mask, token[:, None], cache=cache)
        return TwoSteps(first[:, 0], token, second[:, 0])

    def labels(self, targets: Sequence[str]) -> torch.Tensor:
        """Tokenize target texts to labels [N, L_target], with `IGNORED` at the padding."""
        tokens = self.tokenize(targets, end_of_text=True)
        return tokens.ids.masked_fill(tokens.mask == 0, IGNORED)

    def teacher_forced(self, inputs: LanguageInput, labels: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, L_target, V] at every position of `labels` [N, L_target]."""
        before = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, self.model.config.pad_token_id)
        shifted = torch.cat([self._start(len(labels)), before], dim=1)
        return self._decode(self.encode(inputs), inputs.mask, shifted)

    def generate(self, inputs: LanguageInput) -> tuple[list[str], list[bool]]:
        """Decode greedily (published: at most 30 tokens); return the texts, and whether each had finite logits only."""
        ids, finite = self.generate_ids(inputs, max_new_tokens=30)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts], finite.tolist()

    def generate_ids(self, inputs: LanguageInput, *, max_new_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode greedily: token ids, the start token first, [N, 1 + steps], and [N] whether all logits were finite."""
        made = self.model.generate(
            inputs_embeds=inputs.embeds.to(self.dtype),
            attention_mask=inputs.mask,
            do_sample=False,
            num_beams=1,
            decoder_start_token_id=self.model.config.pad_token_id,
            max_new_tokens=max_new_tokens,
            return_dict_in_generate=True,
            output_logits=True,
        )
        return made.sequences, torch.stack([step.isfinite().all(1) for step in made.logits]).all(0)

    @property
    def _device(self) -> torch.device:
        return self.model.shared.weight.device

    def _start(self, count: int) -> torch.Tensor:
        # T5 decoding starts from the padding token.
        return torch.full((count, 1), self.model.config.pad_token_id, device=self._device)

    def _decode(
        self,
        encoded: BaseModelOutput,
        mask: torch.Tensor,
        ids: torch.Tensor,
        *,
        cache: EncoderDecoderCache | None = None,
    ) -> torch.Tensor:
        return self.model(
            encoder_outputs=encoded,
            attention_mask=mask,
            decoder_input_ids=ids,
            use_cache=cache is not None,
            **{self._cache: cache},
        ).logits


def fold_cross_attention(model: T5ForConditionalGeneration) -> None:
    """Let the decoder's cross-attention fold its projections; parameters and results stay what they are."""
    blocks: Any = model.decoder.block  # transformers' annotations promise less than its modules do
    for block in blocks:
        # As torch's own parametrizations do: the module stays in place, only its computation is another one.
        block.layer[1].EncDecAttention.__class__ = FoldedCrossAttention


class FoldedCrossAttention(T5Attention):
    """T5's cross-attention, with the key projection folded into the queries and the value projection into the outputs.

    `q · (k x) = (k^T q) · x`, and a weighted sum of `v x` is `v` of the weighted sum. Keys and values cost
    2 L E H D multiplications whatever S is; folded, each position costs 2 E H (D + L). A verdict is read
    at a single position, where this takes off about a seventh of the language model's work.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        *rest: Any,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Attend from [N, S, E] to `key_value_states` [N, L, E]; arguments and results as in `T5Attention`."""
        if key_value_states is None or not self._pays(hidden_states.shape[1], key_value_states.shape[1]):
            return super().forward(hidden_states, mask, key_value_states, position_bias, *rest, **options)
        heads = (self.n_heads, self.key_value_proj_dim, self.d_model)
        rows, positions, _ = hidden_states.shape
        query = self.q(hidden_states).unflatten(-1, heads[:2])
        folded = torch.einsum("nshd,hde->nshe", query, self.k.weight.view(heads)).flatten(1, 2)
        scores = (folded @ key_value_states.transpose(1, 2)).view(rows, positions, self.n_heads, -1)
        if mask is not None:
            scores = _masked(scores, mask.transpose(1, 2))
        weights = scores.softmax(dim=-1, dtype=at_least_fp32(scores.dtype)).to(scores.dtype)
        mixed = (weights.flatten(1, 2) @ key_value_states).view(rows, positions, self.n_heads, -1)
        values = torch.einsum("nshe,hde->nshd", mixed, self.v.weight.view(heads))
        return self.o(values.flatten(2)), position_bias, None

    def _pays(self, positions: int, length: int) -> bool:
        """Tell whether folding saves work; only plain weights can be folded, not quantised or sharded ones."""
        plain = type(self.k.weight) is nn.Parameter and type(self.v.weight) is nn.Parameter
        dropping = self.training and self.dropout > 0
        # With a margin of two, since the folded products are thinner.
        width = self.key_value_proj_dim
        return plain and not dropping and 2 * positions * (width + length) < width * length


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Apply a mask that broadcasts to [N, S, H, L]: true or zero where attention may go."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask


def keep_precision_of_norms(model: nn.Module) -> None:
    """Let the norms of a T5 compute float64 in float64; in fp32 and half precision the results are the same bits."""
    for module in model.modules():
        if type(module) is T5LayerNorm:
            # As torch's own parametrizations do: the module stays in place, only its computation is another one.
            module.__class__ = PreciseT5Norm


class PreciseT5Norm(T5LayerNorm):
    """The library's norm, with the variance taken in float32 or better."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Scale [..., E] to a root mean square of 1, then by the weight."""
        variance = hidden_states.to(at_least_fp32(hidden_states.dtype)).pow(2).mean(-1, keepdim=True)
        scaled = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            scaled = scaled.to(self.weight.dtype)
        return self.weight * scaled

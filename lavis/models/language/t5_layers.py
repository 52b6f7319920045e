"""Layers of T5 computed in another way than transformers does, with the same parameters.

Cross-attention of few decoder positions does not project the encoder's outputs to keys and values, which gives the same
results sooner. The norm computes float64 in float64, which the library rounds to float32.

Shapes: N sequences, S decoder positions, L encoder outputs, E width, H heads, D width of a head.
"""

from typing import Any

import torch
from torch import nn
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm

from lavis.models.precision import at_least_fp32


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

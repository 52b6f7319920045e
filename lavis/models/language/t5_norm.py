"""T5's root-mean-square norm in the precision of what it reads; the library's own rounds float64 to float32."""

import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from lavis.models.precision import at_least_fp32


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

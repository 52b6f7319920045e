"""Choosing K of T frames so that a loss on the chosen frames reaches their scores: what trained selectors learn by.

B questions, T frames each, K <= T chosen. Weights [B, K, T] say what each chosen frame is made of; rows sum to 1, and
lie in time order.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import one_hot


def gumbel_top_k(logits: torch.Tensor, k: int, *, temperature: float = 1.0, hard: bool = True) -> torch.Tensor:
    """Draw K different frames, each by the softmax of the logits [B, T] of those that are left: weights [B, K, T].

    The weights are exactly 0 and 1; gradients are those of the softmaxes (straight-through Gumbel-softmax). For K = 1
    that is the atemporal probe's selector (Buch et al., CVPR 2022, arXiv 2206.01720); Gumbel top-k extends it to more.

    Args:
        temperature: of the softmaxes.
        hard: False gives the softmaxes themselves, without noise, as the published code does with `use_ste=False`.
    """
    if hard:
        logits = logits - torch.empty_like(logits).exponential_().log()
    chosen = logits.topk(k).indices
    picked = one_hot(chosen, logits.shape[-1]).to(logits.dtype)
    taken_before = (picked.cumsum(dim=1) - picked).bool()
    soft = (logits / temperature)[:, None].masked_fill(taken_before, -torch.inf).softmax(dim=-1)
    # The difference is exactly 0, so that a chosen frame is read as it is.
    weights = picked + (soft - soft.detach()) if hard else soft
    in_time = chosen.argsort(dim=1)[..., None].expand_as(weights)
    return weights.gather(1, in_time)


def perturbed_top_k(scores: torch.Tensor, k: int, *, sigma: float, num_samples: int) -> torch.Tensor:
    """Return the mean indicator of the top K under noise, E[top K of (scores + sigma Z)], Z normal: weights [B, K, T].

    The gradient is that of the expectation, E[indicator Zᵀ] / sigma, estimated on the same draws (Cordonnier et al.,
    CVPR 2021, arXiv 2104.03059, section 3.2; Berthet et al., NeurIPS 2020, arXiv 2002.08676).

    Args:
        scores: [B, T]; the published ones lie between 0 and 1.
        sigma: standard deviation of the noise.
        num_samples: draws for each question.
    """
    weights: torch.Tensor = _PerturbedTopK.apply(scores, k, sigma, num_samples)
    return weights


class _PerturbedTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, k: int, sigma: float, num_samples: int) -> torch.Tensor:
        batch, count = scores.shape
        noise = torch.randn(batch, num_samples, count, dtype=scores.dtype, device=scores.device)
        chosen = (scores[:, None] + sigma * noise).topk(k, dim=-1).indices.sort(dim=-1).values
        ctx.save_for_backward(noise, chosen)
        ctx.sigma = sigma
        counts = scores.new_zeros(batch, k, count)
        counts.scatter_add_(2, chosen.transpose(1, 2), counts.new_ones(batch, k, num_samples))
        return counts / num_samples

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        noise, chosen = ctx.saved_tensors
        # What each draw's indicator is worth to the loss, [B, draws].
        worth = grad.gather(2, chosen.transpose(1, 2)).sum(dim=1)
        return torch.einsum("bn,bnt->bt", worth, noise) / (ctx.sigma * noise.shape[1]), None, None, None

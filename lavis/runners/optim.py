"""The optimizer as published: AdamW, with weight decay on matrices only."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float
) -> list[dict[str, Any]]:
    """Split trainable parameters into those that decay and those that do not (biases, LayerNorms: one dimension)."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for _, parameter in named_parameters:
        if parameter.requires_grad:
            (kept if parameter.ndim < 2 else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def build_adamw(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
) -> AdamW:
    """Build the published optimizer; defaults are the published ones."""
    return AdamW(parameter_groups(named_parameters, weight_decay=weight_decay), lr=lr, betas=betas, eps=1e-8)

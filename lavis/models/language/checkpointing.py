"""Activation checkpointing: what a block would keep for the backward pass is computed there again.

The language model is frozen, but the gradients of the visual prompters pass through all of it. With checkpointing
each block keeps its inputs alone, for one more forward pass of it in each step. Gradients, names of weights, and
everything that is computed without gradients stay what they are.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache

from lavis.common.errors import ConfigError, MissingExtraError, did_you_mean

CHECKPOINTING = ("none", "torch", "fairscale")

_Forward = Callable[..., Any]


def check_checkpointing(method: str) -> None:
    """Refuse a method of `checkpoint_activations` that is unknown or not installed.

    Raises:
        ConfigError: it is unknown.
        MissingExtraError: fairscale is not installed.
    """
    if method not in CHECKPOINTING:
        raise ConfigError(f"unknown model.checkpointing {method!r}; {did_you_mean(method, CHECKPOINTING)}")
    if method == "fairscale" and importlib.util.find_spec("fairscale") is None:
        raise MissingExtraError("fairscale", "fairscale")


def checkpoint_activations(
    module: nn.Module, *, method: str, again: Callable[[], AbstractContextManager[None]] = nullcontext
) -> None:
    """Let every block of a module, such as a language model or a visual prompter, checkpoint its activations.

    Args:
        method: "torch" is torch's own; "fairscale" is fairscale's wrapper, which moves what is kept to the CPU's
            memory; "none" changes nothing.
        again: called in the forward pass, for what the recomputation runs in (torch's own only).

    Raises:
        ConfigError: an unknown method.
        MissingExtraError: fairscale is not installed.
    """
    check_checkpointing(method)
    if method == "none":
        return
    for block in outermost_blocks(module):
        with_torch = partial(
            checkpoint, block.forward, use_reentrant=False, context_fn=lambda: (nullcontext(), again())
        )
        # Module, names and hooks stay in place; only what they call to compute is another function.
        recomputed = with_torch if method == "torch" else _with_fairscale(block)
        block.forward = partial(_where_gradients_pass, block, block.forward, recomputed)


def outermost_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the repeated blocks of a module (members of a `ModuleList`), but none inside another."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from outermost_blocks(child)


def _where_gradients_pass(block: nn.Module, plain: _Forward, recomputed: _Forward, *args: Any, **options: Any) -> Any:
    """Compute with checkpointing only where something would be kept, and never write a decoder's cache twice."""
    given = (*args, *options.values())
    learns = any(isinstance(value, torch.Tensor) and value.requires_grad for value in (*given, *block.parameters()))
    if torch.is_grad_enabled() and learns and not any(isinstance(value, Cache) for value in given):
        return recomputed(*args, **options)
    return plain(*args, **options)


def _with_fairscale(block: nn.Module) -> _Forward:
    from fairscale.nn.checkpoint import checkpoint_wrapper

    return partial(_fairscale_pass, checkpoint_wrapper(_Recomputed(block.forward), offload_to_cpu=True))


def _fairscale_pass(wrapped: nn.Module, hidden: torch.Tensor, *args: Any, **options: Any) -> Any:
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    with torch.autocast(device, enabled=False):
        made = wrapped(device, dtype, hidden, *args, **options)
    if isinstance(made, torch.Tensor):
        return made
    # Only hidden states carry gradients, but fairscale marks all outputs: a position bias that all blocks share would
    # get, and keep, gradients in every one of them.
    return made[0], *(value.detach() if isinstance(value, torch.Tensor) else value for value in made[1:])


class _Recomputed(nn.Module):
    """Computes a block in the autocast mode it was first computed in; fairscale would take fp16 whatever it was."""

    def __init__(self, compute: _Forward) -> None:
        super().__init__()
        self._compute = compute
        # Where it moves inputs to the CPU, fairscale sees by the parameters alone whether outputs have gradients.
        self.learns = nn.Parameter(torch.empty(0))

    def forward(self, device: str, dtype: torch.dtype | None, *args: Any, **options: Any) -> Any:
        """Compute under autocast to `dtype`, or without it where that is None."""
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            return self._compute(*args, **options)

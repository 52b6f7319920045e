"""Comparing what is computed in any precision, in any of the fast ways, with the plain way in float64."""

import copy
from typing import Any, TypeVar

import torch
from torch import nn

Part = TypeVar("Part", bound=nn.Module)

# How many roundings of the largest value a result of the small models may be off by. Measured: at most 31 in fp32 (a
# gradient) and 3 in bf16; other processors, which add up in other orders, change that by a small factor.
ROUNDINGS = {torch.float64: 256, torch.float32: 256, torch.float16: 16, torch.bfloat16: 16}


def in_float64(part: Part) -> Part:
    """Return a copy that computes in float64."""
    return copy.deepcopy(part).double()


def assert_near_float64(ours: Any, exact: Any, *, dtype: torch.dtype | None = None) -> None:
    """Assert that numbers differ from those computed in float64 by no more than some roundings of the largest.

    Args:
        dtype: what ours were computed in; None is their own.
    """
    a, b = torch.as_tensor(ours), torch.as_tensor(exact)
    assert b.dtype == torch.float64
    assert a.shape == b.shape
    dtype = dtype or a.dtype
    if not b.numel():
        return
    error, rounding = float((a.double() - b).abs().max()), float(b.abs().max()) * torch.finfo(dtype).eps
    assert error <= ROUNDINGS[dtype] * rounding, f"off by {error:.2g}, where a rounding is {rounding:.2g}"

"""Digests of what answers depend on: a model's weights as they are computed with, facts about it, and videos."""

import hashlib
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lavis.common.errors import VideoError
from lavis.common.files import file_digest
from lavis.models.base import TrainableModel
from lavis.video.frames import order_frames

# An odd number whose bits are spread, as a signed one: 2^64 by the golden ratio.
_SPREAD = 0x9E3779B97F4A7C15 - 2**64
_AT_ONCE = 2**18  # numbers that are mixed in one go; they stay in a processor's caches
_WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_digest(model: nn.Module | TrainableModel) -> str:
    """Return a digest of all weights as they are computed with, wherever they were loaded from."""
    return digest({}, {"": model})


@torch.no_grad()
def digest(facts: Mapping[str, Any], parts: Mapping[str, nn.Module | TrainableModel] | None = None) -> str:
    """Return a digest of facts, which are JSON values, and of the weights and buffers of modules by name.

    Weights are read each time: training changes them in place.
    """
    found = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, part in (parts or {}).items():
        for tensor_name, tensor in chain(part.named_parameters(), part.named_buffers()):
            line = f"{name}.{tensor_name} {tensor.dtype} {tuple(tensor.shape)} {_bits(tensor)}\n"
            found.update(line.encode())
    return found.hexdigest()


def video_digest(path: Path) -> str:
    """Return the SHA-256 of a video's bytes; of a folder of frames, that of its frames' places and bytes.

    Raises:
        VideoError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            order = order_frames((file.name for file in path.iterdir() if file.is_file()), place=str(path))
            for number, name in zip(order.places.tolist(), order.names, strict=True):
                digest.update(f"{number} {file_digest(path / name)}\n".encode())
            return digest.hexdigest()
        return file_digest(path)
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}") from error


def _bits(tensor: torch.Tensor) -> str:
    """Return the mixed bits of a tensor, or of those that a quantised one is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        return str(_mixed_bits(tensor))
    names, _ = tensor.__tensor_flatten__()
    return " ".join(_bits(getattr(tensor, name)) for name in names)


def _mixed_bits(tensor: torch.Tensor) -> int:
    """Return a sum over a tensor's numbers: their bits, mixed with their places, as whole numbers modulo 2^64.

    Exact in any order, so every device computes the same, and quick where hashing gigabytes is not. The shift keeps
    the sum from being linear, where changes of several numbers could make up for each other.
    """
    values = tensor.detach().contiguous().view(-1)
    bits = values.view(_WHOLE_NUMBERS[values.element_size()])
    total = 0
    for start in range(0, len(bits), _AT_ONCE):
        mixed = bits[start : start + _AT_ONCE].to(torch.int64, copy=True)
        mixed *= torch.arange(2 * start + 1, 2 * (start + len(mixed)), 2, device=bits.device) * _SPREAD
        mixed ^= mixed >> 29
        total += int(mixed.sum())
    return total % 2**64

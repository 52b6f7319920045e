"""What makes a model the model it is: digests of its weights, and of what its tokens and answers depend on."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from lavis.models.sevila.model import SeViLA

# An odd number whose bits are spread, as a signed one: 2^64 by the golden ratio.
_SPREAD = 0x9E3779B97F4A7C15 - 2**64
_AT_ONCE = 2**18  # numbers that are mixed in one go; they stay in a processor's caches
_NO_PART_OF_IT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
_WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def watching_key(model: "SeViLA") -> str:
    """Return a digest of preprocessing, vision tower, visual prompters, their precision, and the kind of device.

    The language model reads tokens and makes none, so it is not part of it. Weights are read each time: training
    changes them in place.
    """
    facts = {"vision": _vision(model), "device": model.device.type, "replaced_runs": model.replaced_runs}
    parts = {name: model.get_submodule(name) for name in ("vision", "localizer", "answerer")}
    return _digest(facts, parts.items())


def make_digest(model: "SeViLA") -> str:
    """Return a digest of how a model is made: all that its answers depend on beside weights, precision and device."""
    language = model.language
    made = {name: value for name, value in language.model.config.to_dict().items() if name not in _NO_PART_OF_IT}
    tokenizer = language.tokenizer
    rules = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    words = [rules, tokenizer.special_tokens_map, language.max_text_length]
    return _digest({"vision": _vision(model), "language": made, "words": words}, [])


def weights_digest(model: nn.Module) -> str:
    """Return a digest of all weights as they are computed with, wherever they were loaded from."""
    return _digest({}, [("", model)])


@torch.no_grad()
def _digest(facts: dict[str, Any], parts: Iterable[tuple[str, nn.Module]]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, part in parts:
        for tensor_name, tensor in chain(part.named_parameters(), part.named_buffers()):
            line = f"{name}.{tensor_name} {tensor.dtype} {tuple(tensor.shape)} {_bits(tensor)}\n"
            digest.update(line.encode())
    return digest.hexdigest()


def _vision(model: "SeViLA") -> list[Any]:
    config = model.config
    return [asdict(config.vision), config.prompter, config.image_mean, config.image_std]


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
        mixed = bits[start : start + _AT_ONCE].long()
        mixed *= torch.arange(2 * start + 1, 2 * (start + len(mixed)), 2, device=bits.device) * _SPREAD
        mixed ^= mixed >> 29
        total += int(mixed.sum())
    return total % 2**64

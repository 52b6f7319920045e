"""What the tokens of a frame depend on beside its pixels."""

import hashlib
import json
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from lavis.models.sevila.model import SeViLA

_WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def watching_key(model: "SeViLA") -> str:
    """Return a digest of preprocessing, vision tower, visual prompters, their precision, and the kind of device.

    The language model reads tokens and makes none, so it is not part of it. Weights are read each time: training
    changes them in place.
    """
    config = model.config
    facts = {
        "vision": asdict(config.vision),
        "prompter": config.prompter,
        "image": [config.image_mean, config.image_std],
        "device": model.device.type,
        "replaced_runs": model.replaced_runs,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in ("vision", "localizer", "answerer"):
        part = model.get_submodule(name)
        for tensor_name, tensor in chain(part.named_parameters(), part.named_buffers()):
            line = f"{name}.{tensor_name} {tensor.dtype} {tuple(tensor.shape)} {_bits(tensor)}\n"
            digest.update(line.encode())
    return digest.hexdigest()


def _bits(tensor: torch.Tensor) -> str:
    """Return the mixed bits of a tensor, or of those that a quantised one is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        return str(_mixed_bits(tensor))
    names, _ = tensor.__tensor_flatten__()
    return " ".join(_bits(getattr(tensor, name)) for name in names)


def _mixed_bits(tensor: torch.Tensor) -> int:
    """Return the sum of a tensor's bits as whole numbers, each times an odd number of its own, modulo 2^64.

    Exact in any order, so every device computes the same, and quick where hashing gigabytes is not.
    """
    values = tensor.detach().contiguous().view(-1)
    bits = values.view(_WHOLE_NUMBERS[values.element_size()]).long()
    places = torch.arange(1, 2 * len(bits), 2, device=bits.device)
    return int((bits * places).sum())

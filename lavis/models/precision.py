"""In which precision a model computes: where half precision would not do, and whole-number weights (torchao).

Of a model that is quantised, linear layers are; embeddings, norms, and visual prompters, which are small, stay as they
are.
"""

import importlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from lavis.common.errors import ConfigError, MissingExtraError, did_you_mean

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# As torch calls them, and people after it.
_LONG_NAMES = {"float32": "fp32", "float": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16"}
QUANTIZATIONS = ("int8", "int4")

# Numbers that share a scale; torchao's smallest, and so the most exact.
_GROUP = 32


def dtype_named(name: str) -> torch.dtype:
    """Return a precision by its name in `DTYPES`; a ConfigError says that there is none."""
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r}; {did_you_mean(name, DTYPES)}")
    return DTYPES[name]


def dtype_name(dtype: str | torch.dtype) -> str:
    """Return the name in `DTYPES` of a precision that is torch's own, or named as torch does.

    Raises:
        ConfigError: it is none that a model computes with.
    """
    name = str(dtype).removeprefix("torch.")
    short = _LONG_NAMES.get(name, name)
    dtype_named(short)
    return short


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for half precision, and every wider floating-point type as it is.

    Softmax, losses and variances are taken so. A plain cast to float32 would round float64, in which the model is
    compared with the published one.
    """
    return torch.promote_types(dtype, torch.float32)


def check_quantization(name: str) -> None:
    """Make sure that weights can be quantised so, before time is spent on loading them.

    Raises:
        ConfigError: neither "int8" nor "int4".
        MissingExtraError: torchao is not installed.
    """
    if name not in QUANTIZATIONS:
        raise ConfigError(f"unknown quantization {name!r}; {did_you_mean(name, QUANTIZATIONS)}")
    _torchao()


def quantize_parts(parts: Iterable[nn.Module], name: str) -> None:
    """Replace the weights of linear layers in these parts by whole numbers, in place; they can only be run then.

    "int8": weights have 8 bits and a scale per row, and what they are multiplied with is rounded to 8 bits too, with a
    scale per token. "int4": weights alone, with 4 bits and a scale for every 32 of them.

    Raises:
        ConfigError: neither of these, or weights whose precision or device has no product with 4 bits.
        MissingExtraError: torchao is not installed.
    """
    check_quantization(name)
    torchao = _torchao()
    for part in parts:
        if name == "int8":
            torchao.quantize_(part, torchao.Int8WeightOnlyConfig(set_inductor_config=False), filter_fn=_reads_outliers)
            both = torchao.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
            torchao.quantize_(part, both, filter_fn=lambda *layer: _suits(*layer) and not _reads_outliers(*layer))
        else:
            torchao.quantize_(part, _four_bits(torchao, next(part.parameters())), filter_fn=_suits)


def _suits(module: nn.Module, path: str) -> bool:
    # The vocabulary's matrix decides between yes and no by small differences, and is a small part of the work.
    return type(module) is nn.Linear and module.in_features % _GROUP == 0 and _name(path) != "lm_head"


def _reads_outliers(module: nn.Module, path: str) -> bool:
    # T5's feed-forward layers make few values that are much larger than the rest, which no common scale fits;
    # transformers keeps this layer in fp32 for that.
    return _suits(module, path) and _name(path) == "wo"


def _name(path: str) -> str:
    return path.rpartition(".")[-1]


def _four_bits(torchao: Any, weight: torch.Tensor) -> Any:
    place = weight.device.type
    if place not in ("cpu", "cuda"):
        raise ConfigError(f"int4 weights do not run on the device {place!r}; use cpu or cuda, or quantize to int8")
    if weight.dtype != torch.bfloat16:
        precision = str(weight.dtype).removeprefix("torch.")
        raise ConfigError(f"int4 weights need a model in bf16, not {precision}; set its dtype to bf16")
    if place == "cuda":
        return torchao.Int4WeightOnlyConfig(
            group_size=_GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    # torchao counts its layout for CPUs among the prototypes, which may go in any release.
    try:
        prototype = importlib.import_module("torchao.prototype.quantization.int4.inference_workflow")
        return prototype.PrototypeInt4WeightOnlyConfig(group_size=_GROUP, set_inductor_config=False)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"torchao {version('torchao')} has no int4 weights for CPUs; quantize to int8, or install torchao 0.18"
        ) from error


def _torchao() -> Any:
    try:
        return importlib.import_module("torchao.quantization")
    except ImportError as error:
        raise MissingExtraError("torchao", "quantize") from error

"""In which precision a model computes: where half precision would not do, and whole-number weights (torchao).

Of a model that is quantised, linear layers are; embeddings, norms, and visual prompters, which are small, stay as they
are.
"""

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from lavis.common.errors import ConfigError, MissingExtraError, did_you_mean

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# As torch calls them, and people after it.
_LONG_NAMES = {"float32": "fp32", "float": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16"}
_HALF = (torch.bfloat16, torch.float16)
QUANTIZATIONS = ("int8", "int4")

# Numbers that share a scale; torchao's smallest, and so the most exact.
_GROUP = 32
# Products with 4 bits make so many outputs at a time, on a CPU.
_FOUR_BIT_OUTPUTS = 16


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


@contextmanager
def widened(model: nn.Module) -> Iterator[bool]:
    """Let a model compute in fp32: the half-precision weights of each module are made wide while it runs.

    So memory grows by the weights of the largest module alone, and by the first ones of the model and of parts that are
    models of transformers: these take the first weight's precision for their own. Nothing is compiled within the block.

    Yields:
        Whether it is so; weights in whole numbers, or spread over processes, stay as they are.
    """
    if any(type(parameter) is not nn.Parameter for parameter in model.parameters()):
        yield False
        return
    narrow: dict[nn.Module | None, list[tuple[nn.Parameter, torch.Tensor]]] = {}

    def widen_all(parameters: Iterable[nn.Parameter], key: nn.Module | None) -> None:
        own = narrow.setdefault(key, [])
        for parameter in parameters:
            if parameter.dtype in _HALF:
                own.append((parameter, parameter.data))
                parameter.data = parameter.data.float()

    def widen(module: nn.Module, *_: Any) -> None:
        widen_all(module.parameters(recurse=False), module)

    def restore(module: nn.Module | None, *_: Any) -> None:
        for parameter, value in narrow.pop(module, ()):
            parameter.data = value

    modules = [one for one in model.modules() if any(weight.dtype in _HALF for weight in one.parameters(recurse=False))]
    hooks = [one.register_forward_pre_hook(widen) for one in modules]
    hooks += [one.register_forward_hook(restore, always_call=True) for one in modules]
    try:
        firsts = [next(one.parameters(), None) for one in model.modules() if hasattr(type(one), "dtype")]
        widen_all((one for one in firsts if one is not None), None)
        with torch.compiler.set_stance("force_eager"):
            yield True
    finally:
        for hook in hooks:
            hook.remove()
        for module in list(narrow):
            restore(module)


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
    A layer whose width does not divide so stays as it is.

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
            four = _four_bits(torchao, next(part.parameters()))
            torchao.quantize_(part, four, filter_fn=lambda *layer: _suits(*layer) and _suits_four_bits(layer[0]))


def _suits(module: nn.Module, path: str) -> bool:
    # The vocabulary's matrix decides between yes and no by small differences, and is a small part of the work.
    return type(module) is nn.Linear and module.in_features % _GROUP == 0 and _name(path) != "lm_head"


def _suits_four_bits(layer: nn.Linear) -> bool:
    return layer.out_features % _FOUR_BIT_OUTPUTS == 0


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

"""LAVIS' own entry points: load models by name and type, with their processors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import lavis.models  # noqa: F401  # declares the models
from lavis.common import defaults
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.models.compiler import check_compiler
from lavis.models.quantize import check_quantization, quantize_parts
from lavis.models.sevila.config import size_names
from lavis.models.torchvision_misfit import explained_misfit
from lavis.processors.transforms import EvalTransform

_DEVICE_TYPES = ("cpu", "cuda", "mps")


class ModelZoo:
    """The models that can be loaded, as architecture and types; printing it gives a table."""

    def __init__(self) -> None:
        self.model_zoo = {"sevila": size_names()}

    def __iter__(self) -> Any:
        return iter(self.model_zoo.items())

    def __len__(self) -> int:
        return sum(len(types) for types in self.model_zoo.values())

    def __str__(self) -> str:
        header = f"{'Architectures':<20} Types"
        rows = [f"{name:<20} {', '.join(types)}" for name, types in self]
        return "\n".join([header, "-" * len(header), *rows])


model_zoo = ModelZoo()


def load_model(
    name: str = "sevila",
    model_type: str = defaults.MODEL,
    *,
    is_eval: bool = True,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    checkpoint: str | Path | None = None,
    quantize: str | None = None,
    compiled: bool = False,
) -> Any:
    """Load a model, frozen.

    Args:
        name: architecture.
        model_type: size, such as "tiny" or "flant5xl".
        is_eval: False puts it in training mode; only parts that `set_trainable` names feel it.
        device: None is CUDA where there is one, else the CPU.
        dtype: "fp32", "bf16" or "fp16"; None is bf16 on CUDA and fp32 on the CPU.
        checkpoint: folder of a saved model to load instead of the size's own weights.
        quantize: "int8" or "int4" weights of vision tower and language model; see `quantize_parts`.
        compiled: run through torch.compile; see `compile_model`.

    Raises:
        ConfigError: unknown name, device, dtype or quantization, or a device or compiler this machine does not have.
        MissingExtraError: weights are to be quantised, and torchao is not installed.
        CheckpointError: no weights, or weights that do not fit.

    Example:
        >>> model = lavis.load_model("sevila", "tiny")
        >>> answer = model.watch("clip.mp4").ask("What happens?", ["rain", "sun"])
    """
    place = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or ("bf16" if place.type == "cuda" else "fp32")
    if quantize is not None:
        check_quantization(quantize)
    if compiled:
        check_compiler(place)
    with explained_misfit():
        kind = registry.get_model_class(name)
    model = kind.from_pretrained(checkpoint or model_type, dtype=dtype, device=str(place)).train(not is_eval)
    speed_up(model, quantize=quantize, compiled=compiled)
    return model


def speed_up(model: Any, *, quantize: str | None = None, compiled: bool = False) -> None:
    """Quantise a loaded model, let it run compiled, or both; parameters and errors as for `load_model`."""
    if quantize is not None:
        quantize_parts([model.vision, model.language.model], quantize)
    if compiled:
        check_compiler(model.device)
        # Compiling needs parts of torch that take a while to import.
        from lavis.models.sevila.compiled import compile_model

        compile_model(model)


def usable_device(name: str | torch.device) -> torch.device:
    """Return a device by name ("cpu", "cuda:1").

    Raises:
        ConfigError: there is no such device, or it does not work on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in _DEVICE_TYPES:
        raise ConfigError(f"unknown device {str(name)!r}; give cpu, cuda, cuda:N or mps")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use the device {str(name)!r} on this machine ({reason})") from error
    return device


def load_model_and_preprocess(
    name: str = "sevila",
    model_type: str = defaults.MODEL,
    *,
    is_eval: bool = True,
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> tuple[Any, dict[str, EvalTransform], dict[str, Callable[[str], str]]]:
    """Load a model with its processors, as LAVIS does; arguments and errors as for `load_model`.

    Returns:
        The model, its visual processors {"eval": frames -> pixels}, and its text processors
        {"eval": text -> text}, which change nothing: prompts are worded by `registry.prompts`.
    """
    model = load_model(name, model_type, is_eval=is_eval, device=device, dtype=dtype)
    transform = EvalTransform(mean=model.config.image_mean, std=model.config.image_std)
    return model, {"eval": transform}, {"eval": str}

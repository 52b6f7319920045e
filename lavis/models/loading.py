"""LAVIS' own entry points: load models by name and type, with their processors."""

from collections.abc import Callable
from typing import Any

import torch

import lavis.models  # noqa: F401  # declares the models
from lavis.common.registry import registry
from lavis.models.sevila.config import size_names
from lavis.processors.transforms import EvalTransform


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
    model_type: str = "tiny",
    *,
    device: str | None = None,
    dtype: str | None = None,
    checkpoint: str | None = None,
) -> Any:
    """Load a model in eval mode.

    Args:
        name: architecture.
        model_type: size, such as "tiny" or "flant5xl".
        device: None is CUDA where there is one, else the CPU.
        dtype: "fp32", "bf16" or "fp16"; None is bf16 on CUDA and fp32 on the CPU.
        checkpoint: folder of a saved model to load instead of the size's own weights.

    Raises:
        ConfigError: unknown name or dtype.
        CheckpointError: no weights, or weights that do not fit.

    Example:
        >>> model = lavis.load_model("sevila", "tiny")
        >>> answer = model.watch("clip.mp4").ask("What happens?", ["rain", "sun"])
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("bf16" if torch.device(device).type == "cuda" else "fp32")
    return registry.get_model_class(name).from_pretrained(checkpoint or model_type, dtype=dtype, device=device)


def load_model_and_preprocess(
    name: str = "sevila", model_type: str = "tiny", *, device: str | None = None, dtype: str | None = None
) -> tuple[Any, dict[str, EvalTransform], dict[str, Callable[[str], str]]]:
    """Load a model with its processors, as LAVIS does.

    Returns:
        The model, its visual processors {"eval": frames -> pixels}, and its text processors
        {"eval": text -> text}, which change nothing: prompts are worded by `registry.prompts`.
    """
    model = load_model(name, model_type, device=device, dtype=dtype)
    transform = EvalTransform(mean=model.config.image_mean, std=model.config.image_std)
    return model, {"eval": transform}, {"eval": str}

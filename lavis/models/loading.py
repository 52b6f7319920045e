"""The door to all models: load them by name and type, and ask what there is, without knowing any of them.

`registry.models` holds model classes. Beside the `TrainableModel` that its objects are, a class tells of itself;
all but the first may be left out:

* `from_pretrained(source, dtype, device)`: a loaded model; `source` is a size, a folder or a configuration file.
* `sizes()`: names of the sizes that can be loaded.
* `describe(source)`: what a source holds, without loading it, as JSON values.
* `check_weights(source, partial)`: raises a `CheckpointError` where there is nothing to load.
* `weight_tools()`: what `sevila checkpoint` does with files of weights.

And of its objects, where they can be made faster: `quantize(name)`, `compile_parts()`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from lavis.common import defaults
from lavis.common.config import typed_spec
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.models.base import TrainableModel
from lavis.models.hf.known import is_model as is_hf_model
from lavis.models.machine import check_compiler, explained_misfit, usable_device
from lavis.models.precision import check_quantization, dtype_name
from lavis.models.watching import WatchesVideos
from lavis.processors.transforms import EvalTransform

ModelSource: TypeAlias = str | Path | Mapping[str, Any]


class LoadedModel(TrainableModel, WatchesVideos, Protocol):
    """What `load_model` returns: a model that watches videos, and trains."""


class ModelZoo:
    """The models that can be loaded, as architecture and types; printing it gives a table."""

    @property
    def model_zoo(self) -> dict[str, list[str]]:
        """Types by architecture."""
        return {name: model_sizes(name) for name in registry.models.names()}

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
    name: str = defaults.ARCH,
    model_type: ModelSource = defaults.MODEL,
    *,
    is_eval: bool = True,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    checkpoint: str | Path | None = None,
    quantize: str | None = None,
    compiled: bool = False,
    frame_tokens: int | None = None,
    trust_remote_code: bool = False,
    lora: Mapping[str, Any] | None = None,
    url: str | None = None,
    timeout_s: float | None = None,
    retries: int | None = None,
    concurrency: int | None = None,
    max_side: int | None = None,
    max_tokens: int | None = None,
    body: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a model, frozen.

    Args:
        name: architecture.
        model_type: size, such as "tiny" or "flant5xl", the folder of a saved model, or a configuration file (`.yaml`);
            the name of another architecture is that one. "NAME:..." is a model of the architecture NAME, such as
            "openai:http://127.0.0.1:8000/v1#qwen3-vl". A mapping {"name": NAME, "model": ..., ...} brings options with
            it, and may be typed as YAML.
        is_eval: False puts it in training mode; only parts that `set_trainable` names feel it.
        device: None is CUDA where there is one, else the CPU.
        dtype: "fp32", "bf16" or "fp16", or as torch has them (`torch.bfloat16`, "bfloat16"); None is bf16 on CUDA and
            fp32 on the CPU.
        checkpoint: folder of a saved model to load instead of the size's own weights.
        quantize: "int8" or "int4" weights of vision tower and language model; see `quantize_parts`.
        compiled: run through torch.compile; as `compile_parts` of a model does.
        frame_tokens: of an image-text model ("hf"): tokens of a frame, at most.
        trust_remote_code: of these too: run the code that the model's folder or repository brings.
        lora: and of these: settings of adapters to train; see `lavis.models.base.LoRA`.
        url: of a model on a server ("openai"): its address, where `model_type` is the name alone.
        timeout_s, retries, concurrency: of these too: seconds for a request, repeated requests, and requests at once.
        max_side, max_tokens: and of these: pixels of a picture's longer side, and tokens of an answer.
        body: and of these: what goes with each request.

    A plugin's architecture may take options of its own, in the mapping.

    Raises:
        ConfigError: unknown name, device, dtype or quantization, or a device or compiler this machine does not have.
        MissingExtraError: weights are to be quantised, and torchao is not installed.
        CheckpointError: no weights, or weights that do not fit.

    Example:
        >>> model = lavis.load_model("sevila", "tiny")
        >>> answer = model.watch("clip.mp4").ask("What happens?", ["rain", "sun"])
    """
    options = {
        **{"frame_tokens": frame_tokens, "trust_remote_code": trust_remote_code, "lora": lora, "url": url},
        **{"timeout_s": timeout_s, "retries": retries, "concurrency": concurrency, "max_side": max_side},
        **{"max_tokens": max_tokens, "body": body},
    }
    common: dict[str, Any] = {"is_eval": is_eval, "device": device, "dtype": dtype, "checkpoint": checkpoint}
    return load_with(options, name, model_type, quantize=quantize, compiled=compiled, **common)


def load_with(
    options: Mapping[str, Any],
    name: str,
    model_type: ModelSource,
    *,
    is_eval: bool = True,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    checkpoint: str | Path | None = None,
    quantize: str | None = None,
    compiled: bool = False,
) -> LoadedModel:
    """Load a model with options that only its architecture takes, of which None is left out; else as `load_model`."""
    place = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype_name(dtype) if dtype else ("bf16" if place.type == "cuda" else "fp32")
    if quantize is not None:
        check_quantization(quantize)
    if compiled:
        check_compiler(place)
    kind, source, settings = resolved(name, model_type)
    given = {**settings, **{key: value for key, value in options.items() if value is not None and value is not False}}
    _check_options(kind, source, given)
    model: LoadedModel = kind.from_pretrained(checkpoint or source, **{"dtype": dtype, "device": str(place), **given})
    model.train(not is_eval)
    speed_up(model, quantize=quantize, compiled=compiled)
    return model


def speed_up(model: Any, *, quantize: str | None = None, compiled: bool = False) -> None:
    """Quantise a loaded model, let it run compiled, or both; parameters and errors as for `load_model`."""
    if quantize is not None:
        model.quantize(quantize)
    if compiled:
        check_compiler(model.device)
        model.compile_parts()


def load_model_and_preprocess(
    name: str = defaults.ARCH,
    model_type: str = defaults.MODEL,
    *,
    is_eval: bool = True,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> tuple[LoadedModel, dict[str, EvalTransform], dict[str, Callable[[str], str]]]:
    """Load a model with its processors, as LAVIS does; arguments and errors as for `load_model`.

    Returns:
        The model, its visual processors {"eval": frames -> pixels}, and its text processors
        {"eval": text -> text}, which change nothing: prompts are worded by `registry.prompts`.
    """
    model = load_model(name, model_type, is_eval=is_eval, device=device, dtype=dtype)
    transform = EvalTransform(mean=model.config.image_mean, std=model.config.image_std)
    return model, {"eval": transform}, {"eval": str}


def model_sizes(name: str = defaults.ARCH) -> list[str]:
    """Return the sizes of an architecture, such as ["base", "flant5xl", ...]."""
    kind = _model_class(name)
    sizes: list[str] = kind.sizes() if hasattr(kind, "sizes") else []
    return sizes


def describe(source: str | Path, *, name: str = defaults.ARCH) -> dict[str, Any]:
    """Say what a size, folder or configuration file holds, without loading it.

    Returns:
        JSON values: name, number of parameters, folder of the weights (None: not here), and what is known of them.

    Raises:
        CheckpointError: there is no such source.
    """
    kind, place, _ = resolved(name, source)
    told: dict[str, Any] = kind.describe(place)
    return told


def check_weights(source: ModelSource, *, name: str = defaults.ARCH, partial: Sequence[Path] = ()) -> None:
    """Make sure that there are weights to load, and others to lay over them, before time is spent.

    Raises:
        CheckpointError: there are none; the message says how to get them.
    """
    kind, place, settings = resolved(name, source)
    if hasattr(kind, "check_weights"):
        kind.check_weights(place, partial=partial, **settings)


def weight_tools(name: str = defaults.ARCH) -> Any:
    """Return what `sevila checkpoint` does with an architecture's files of weights, as functions."""
    return _model_class(name).weight_tools()


def _model_class(name: str) -> Any:
    """Return an architecture's class."""
    with explained_misfit():
        return registry.get_model_class(name)


def resolved(name: str, source: ModelSource) -> tuple[Any, str | Path, dict[str, Any]]:
    """Return an architecture's class, what it loads, and the options that come with that.

    A source that is or names an architecture, or that only another architecture's files or names are, says which, so
    that `--model SOURCE` is enough.
    """
    spec = typed_spec(source, place="model") if isinstance(source, str) else source
    settings: dict[str, Any] = {}
    if isinstance(spec, Mapping):
        settings = {str(key): value for key, value in spec.items()}
        name, place = str(settings.pop("name", name)), settings.pop("model", None)
        if not isinstance(place, (str, Path)) or not str(place):
            raise ConfigError(f"the model {name} is {place!r}; give a mapping such as {{name: NAME, model: FOLDER}}")
        spec = place
    elif (prefix := str(spec).partition(":")[0]) in registry.models:
        name, spec = prefix, str(spec).removeprefix(f"{prefix}:")
    elif name == defaults.ARCH and is_hf_model(str(spec)):
        name = "hf"
    kind = _model_class(name)
    _check_options(kind, spec, settings)
    return kind, spec, settings


def _check_options(kind: Any, source: str | Path, options: Mapping[str, Any]) -> None:
    known = inspect.signature(kind.from_pretrained).parameters
    for key in options:
        if key not in known:
            raise ConfigError(f"{source} takes no {key}; leave it out, or use an image-text model of Hugging Face")

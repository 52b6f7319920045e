"""Saving SeViLA models to folders and loading them, strictly.

A saved model is a folder with `config.json`, `model.safetensors` (our names) and `tokenizer/`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lavis.common.errors import CheckpointError, ConfigError
from lavis.common.files import write_text
from lavis.common.naming import did_you_mean
from lavis.common.paths import checkpoints_dir
from lavis.models.checkpoints.safe import read_weights, write_weights
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.build import build_sevila, build_untrained
from lavis.models.sevila.config import SeViLAConfig, read_saved, read_size, size_names
from lavis.models.sevila.model import SeViLA

WEIGHTS_FILE = "model.safetensors"
PRECISIONS = ("fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_sevila(source: str | Path = "tiny", *, dtype: str = "fp32", device: str = "cpu") -> SeViLA:
    """Load a model in eval mode, from a saved folder or by size.

    Sizes are looked for among the embedded checkpoints, then in the folder `SEVILA_CHECKPOINTS`
    (default `~/.cache/sevila`), where `sevila checkpoint` puts them. A size that is configured as
    untrained is built with random weights, and says so with every answer.

    Args:
        source: a folder, or a size such as "tiny" or "flant5xl".
        dtype: see `set_precision`.

    Raises:
        CheckpointError: nothing there, damaged, or weights that do not fit.
    """
    folder = find_model(source)
    if folder is not None:
        model = _load_folder(folder)
    else:
        config = read_size(str(source))
        if config.weights.status != "untrained":
            raise CheckpointError(
                f"no weights for {source} in {checkpoint_store()}; get them with: sevila checkpoint fetch {source}"
            )
        model = build_untrained(config)
    set_precision(model, dtype)
    return model.to(device)


def save_sevila(model: SeViLA, folder: str | Path, *, parts: Sequence[str] | None = None) -> None:
    """Save weights, configuration and tokenizer.

    Args:
        parts: names of the parts to save, such as ["localizer"]; None saves everything. A folder with
            only some parts cannot be loaded alone; it is merged over a whole model.

    Raises:
        ConfigError: there is no such part.
    """
    known = [name for name, _ in model.named_children()]
    for part in parts or ():
        if part not in known:
            raise ConfigError(f"no part {part!r} to save; {did_you_mean(part, known)}")
    wanted = tuple(f"{part}." for part in (parts or known))
    weights = {name: value for name, value in model.named_parameters() if name.startswith(wanted)}
    target = Path(folder)
    write_weights(target / WEIGHTS_FILE, weights, metadata={"format": "pt", "model": model.config.name})
    model.language.tokenizer.save_pretrained(target / "tokenizer")
    # Last, so that a folder with a config.json is a complete one.
    write_text(target / "config.json", model.config.as_json())


def load_weights(model: SeViLA, weights: Mapping[str, torch.Tensor], *, place: str) -> None:
    """Put weights (our names) into a model, in place of its own tensors.

    Raises:
        CheckpointError: parameters are missing, unknown or of another shape; all are counted and the
            first of each kind is named.
    """
    parameters = dict(model.named_parameters())
    missing = [name for name in parameters if name not in weights]
    unexpected = [name for name in weights if name not in parameters]
    reshaped = [
        f"{name} {list(weights[name].shape)} instead of {list(parameters[name].shape)}"
        for name in parameters
        if name in weights and weights[name].shape != parameters[name].shape
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise CheckpointError(f"{place} does not fit the model {model.config.name}: {'; '.join(problems)}")
    # Assigning instead of copying lets a model that was built on the meta device take its weights.
    model.load_state_dict(weights, strict=False, assign=True)
    model.set_trainable(())


def set_precision(model: SeViLA, dtype: str) -> None:
    """Set the precision of each part.

    "fp32" and "bf16" set all parts. "fp16" sets the vision tower alone, as published; visual
    prompters then stay in fp32 and the language model, which overflows in fp16, is set to bf16.

    Raises:
        ConfigError: not one of these.
    """
    if dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; {did_you_mean(dtype, PRECISIONS)}")
    model.to(_DTYPES[dtype])
    if dtype == "fp16":
        model.localizer.float()
        model.answerer.float()
        model.language.to(torch.bfloat16)


def checkpoint_store() -> Path:
    """Return the folder where fetched and assembled models lie."""
    return Path(os.environ.get("SEVILA_CHECKPOINTS") or Path.home() / ".cache" / "sevila")


def find_model(source: str | Path) -> Path | None:
    """Return the folder of a saved model, or None where a known size has no weights yet.

    Raises:
        CheckpointError: neither a folder nor a known size.
    """
    if Path(source).is_dir():
        return Path(source)
    name = str(source)
    if name not in size_names():
        raise CheckpointError(f"no model folder or size {name!r}; {did_you_mean(name, size_names())}")
    for parent in (checkpoints_dir(), checkpoint_store()):
        folder = parent / f"sevila_{name}"
        if (folder / WEIGHTS_FILE).is_file():
            return folder
    return None


def _load_folder(folder: Path) -> SeViLA:
    config = read_saved(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    with torch.device("meta"):
        model = build_sevila(config, tokenizer=tokenizer)
    load_weights(model, read_weights(folder / WEIGHTS_FILE), place=str(folder / WEIGHTS_FILE))
    return model.eval()


def with_weights_note(config: SeViLAConfig, *, status: str, note: str) -> SeViLAConfig:
    """Return the configuration with another statement about its weights."""
    return dataclasses.replace(config, weights=dataclasses.replace(config.weights, status=status, note=note))

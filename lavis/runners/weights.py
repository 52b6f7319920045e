"""The weights of what trains: taken out of a model, and put back, also where it is split over processes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lavis.common.errors import CheckpointError, ConfigError
from lavis.models.checkpoints.names import to_ours
from lavis.models.checkpoints.published import FILES
from lavis.models.checkpoints.safe import read_weights
from lavis.models.sevila.model import SeViLA
from lavis.runners.parallel import like, whole

# Files that a folder of weights may hold, the first that exists counts.
_WEIGHT_FILES = ("model.safetensors", "weights.safetensors")


def trained_weights(model: SeViLA) -> dict[str, torch.Tensor]:
    """Return copies of what trains, whole and on the CPU; every process must call this."""
    return {name: whole(value.detach()).cpu().clone() for name, value in model.trainable_parameters()}


@torch.no_grad()
def load_trained(model: SeViLA, weights: Mapping[str, torch.Tensor]) -> None:
    """Put back what `trained_weights` returned."""
    for name, parameter in model.trainable_parameters():
        parameter.copy_(like(weights[name], parameter))


def weight_paths(finetuned: Any) -> list[Path]:
    """Read `model.finetuned`: nothing, one path, or several.

    Raises:
        ConfigError: it is something else.
    """
    if finetuned is None:
        return []
    paths = [finetuned] if isinstance(finetuned, str) else finetuned
    if not isinstance(paths, Sequence) or not all(isinstance(path, str) for path in paths):
        raise ConfigError(f"model.finetuned is {finetuned!r}; give a folder or file of weights, or a list of them")
    return [Path(path) for path in paths]


def check_there(path: Path) -> None:
    """Make sure that there is something at a path of `model.finetuned`.

    Raises:
        CheckpointError: there is nothing.
    """
    if path.exists():
        return
    way_out = "set model.finetuned to weights that are there, such as the folder `best` of an earlier run"
    if path.name in FILES:
        way_out = f"download them with: sevila checkpoint fetch {path.name}"
    raise CheckpointError(f"no weights at {path}; {way_out}")


@torch.no_grad()
def lay_over(model: SeViLA, path: Path) -> list[str]:
    """Put the weights of a file over those of a model, and return the names of the parts it had.

    Args:
        path: a folder or `.safetensors` file of ours, or a published `.pth` file.

    Raises:
        CheckpointError: nothing there, damaged, or weights that the model has no place for.
    """
    file = path
    check_there(path)
    if path.is_dir():
        found = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"{path} holds no weights; looked for {' and '.join(_WEIGHT_FILES)}")
        file = found[0]
    weights = read_weights(file)
    parameters = dict(model.named_parameters())
    if not any(name in parameters for name in weights):
        weights = to_ours(weights)
    for name, value in weights.items():
        if name not in parameters:
            raise CheckpointError(f"{file} does not fit the model {model.config.name}: it has no {name}")
        if parameters[name].shape != value.shape:
            expected = list(parameters[name].shape)
            raise CheckpointError(f"{file} does not fit the model: {name} is {list(value.shape)}, not {expected}")
        parameters[name].copy_(value)
    return sorted({name.partition(".")[0] for name in weights})

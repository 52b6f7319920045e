"""Reading and writing weight files without running anything they carry.

`.pth` files are unpickled with `weights_only`, which refuses code; safetensors cannot carry any.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lavis.common.errors import CheckpointError
from lavis.common.files import written_whole

StateDict = dict[str, torch.Tensor]


def read_weights(path: str | Path, *, device: str = "cpu") -> StateDict:
    """Read a `.safetensors` or `.pth` file to a flat state dict.

    Published `.pth` files wrap their state dict as `{"model": ...}` beside optimizer and epoch; only
    the weights are returned.

    Raises:
        CheckpointError: the file is missing, damaged, carries code, or holds no state dict.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"no weights at {file}")
    if file.suffix == ".safetensors":
        try:
            return load_file(file, device=device)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is damaged: {error}") from error
    try:
        content = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file} is refused: it holds more than weights, or is damaged") from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {str(error).splitlines()[0][:200]}") from error
    return _state_dict(content, file)


def write_weights(path: str | Path, weights: Mapping[str, torch.Tensor], *, metadata: dict[str, str]) -> None:
    """Write a safetensors file whole; views are copied, so nothing is shared between entries."""
    with written_whole(path) as temporary:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        save_file(contiguous, temporary, metadata=metadata)


def _state_dict(content: Any, file: Path) -> StateDict:
    inner = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(inner, dict) or not inner or not all(isinstance(value, torch.Tensor) for value in inner.values()):
        raise CheckpointError(f"{file} holds no state dict: a mapping of names to tensors is needed")
    return inner

"""What a run leaves on disk to go on from: numbered checkpoints, and the best weights.

A checkpoint is a folder with `weights.safetensors` (what trains, our names) and `state.pt` (everything
else, loadable without running code). It is made under another name and renamed, so it is whole or absent.
"""

import logging
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lavis.common.errors import CheckpointError
from lavis.models.checkpoints.safe import read_weights, write_weights

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
STATE_FILE = "state.pt"
_NUMBERED = re.compile(r"step_(\d+)")


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        keep_last: older ones are removed.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self._folder = folder
        self._keep_last = keep_last

    def save(self, weights: Mapping[str, torch.Tensor], state: Mapping[str, Any], *, step: int) -> Path:
        """Write a checkpoint and remove those that are too old."""
        target = self._folder / f"step_{step:08d}"
        made = self._folder / f".{target.name}.{os.getpid()}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        write_weights(made / WEIGHTS_FILE, weights, metadata={"format": "pt"})
        torch.save(dict(state), made / STATE_FILE)
        with (made / STATE_FILE).open("rb") as written:
            os.fsync(written.fileno())
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
        for old in self.steps()[: -self._keep_last]:
            shutil.rmtree(self._folder / f"step_{old:08d}")
        return target

    def steps(self) -> list[int]:
        """Return the steps there are checkpoints of, oldest first."""
        names = [path.name for path in self._folder.glob("step_*")]
        return sorted(int(match[1]) for match in map(_NUMBERED.fullmatch, names) if match)

    def load_newest(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return weights and state of the newest checkpoint that is not damaged, or None if there is none."""
        for step in reversed(self.steps()):
            folder = self._folder / f"step_{step:08d}"
            try:
                return read_weights(folder / WEIGHTS_FILE), _read_state(folder / STATE_FILE)
            except CheckpointError as error:
                logger.warning("a damaged checkpoint is passed over: %s", error)
        return None


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"{file} is damaged: {reason}") from error
    return state

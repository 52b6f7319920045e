"""The weights that validated best: a folder that is complete or absent, beside the figures they reached."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lavis.common.files import write_text
from lavis.models.checkpoints.safe import read_weights, write_weights
from lavis.runners.manifest import digest, flush, read_json

logger = logging.getLogger(__name__)

BEST_FOLDER = "best"
WEIGHTS_FILE = "model.safetensors"
_METRICS = "metrics.json"


@dataclass(frozen=True)
class Best:
    """When the best weights came about.

    Attributes:
        value: of the figure that decides; None without validation.
        epoch: -1 is before training.
    """

    value: float | None
    epoch: int
    iteration: int


class BestWeights:
    """The folder `best` of a run; for one process.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / BEST_FOLDER
        self._new, self._old = folder / f".{BEST_FOLDER}.new", folder / f".{BEST_FOLDER}.old"

    def write(
        self,
        weights: Mapping[str, torch.Tensor],
        *,
        model_name: str,
        config: str,
        best: Best,
        metrics: Mapping[str, Any],
    ) -> None:
        """Replace what is there.

        Args:
            config: of the model, as JSON.
            metrics: all figures, by split.
        """
        shutil.rmtree(self._new, ignore_errors=True)
        try:
            sha256 = write_weights(self._new / WEIGHTS_FILE, weights, metadata={"format": "pt", "model": model_name})
            write_text(self._new / "config.json", config)
            facts = {"epoch": best.epoch, "iteration": best.iteration, "value": best.value, "sha256": sha256}
            write_text(self._new / _METRICS, json.dumps({**facts, "metrics": metrics}, indent=2) + "\n")
        except OSError:
            shutil.rmtree(self._new, ignore_errors=True)
            raise
        shutil.rmtree(self._old, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(self._old)
        self._new.rename(self._folder)
        flush(self._folder.parent)
        shutil.rmtree(self._old, ignore_errors=True)

    def find(self) -> Best | None:
        """Return when the weights that are there came about; None if there are none, or they are damaged."""
        if not self._folder.exists() and self._old.exists():
            self._old.rename(self._folder)
        facts = read_json(self._folder / _METRICS)
        if facts is None or not {"epoch", "iteration", "value", "sha256"} <= facts.keys():
            return None
        file = self._folder / WEIGHTS_FILE
        if not file.is_file() or digest(file) != facts["sha256"]:
            logger.warning("%s is damaged: the best weights so far are lost", file)
            return None
        return Best(facts["value"], facts["epoch"], facts["iteration"])

    def read(self) -> dict[str, torch.Tensor]:
        """Return the weights.

        Raises:
            CheckpointError: there are none, or they are damaged.
        """
        return read_weights(self._folder / WEIGHTS_FILE)

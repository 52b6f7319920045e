"""Validates, keeps the best weights, and tests with them."""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.files import write_text
from lavis.common.naming import did_you_mean
from lavis.models.checkpoints.safe import read_weights, write_weights
from lavis.models.sevila.model import SeViLA
from lavis.runners.curves import draw_curves
from lavis.runners.ema import MovingAverage
from lavis.runners.parallel import Parallel
from lavis.runners.progress import Progress
from lavis.runners.validation import Validator
from lavis.runners.weights import load_trained, trained_weights

logger = logging.getLogger(__name__)

BEST_FOLDER = "best"
WEIGHTS_FILE = "model.safetensors"


class BestKeeper:
    """Keeps the weights that validate best in `folder/best`, beside their metrics.

    Args:
        valid_splits: measured at each validation; the first decides. Empty: the last weights are the best.
        best_metric: the figure that decides; higher is better.
        average: validated and kept in place of the weights themselves.
        set_training: puts the model into training mode.
    """

    def __init__(
        self,
        model: SeViLA,
        *,
        parallel: Parallel,
        validator: Validator,
        folder: Path,
        progress: Progress,
        world: World,
        best_metric: str,
        valid_splits: Sequence[str] = ("val",),
        test_splits: Sequence[str] = (),
        average: MovingAverage | None = None,
        set_training: Callable[[SeViLA], None],
    ) -> None:
        self._model, self._parallel, self._validator = model, parallel, validator
        self._folder, self._progress, self._world = folder, progress, world
        self._best_metric, self._valid_splits, self._test_splits = best_metric, valid_splits, test_splits
        self._average, self._set_training = average, set_training
        self._best_value: float | None = None
        self._best_epoch = -1

    def prepare_training(self) -> None:
        """Put the model into training mode."""
        self._set_training(self._model)

    def validate(self, *, epoch: int, iteration: int) -> None:
        """Measure the weights, and keep them if they are the best so far; epoch -1 is before training."""
        with self._average.in_place() if self._average else contextlib.nullcontext():
            metrics = {split: self._measure(split, f"epoch{epoch}", iteration, epoch) for split in self._valid_splits}
            value = self._deciding(metrics)
            if value is None or self._best_value is None or value > self._best_value:
                self._best_value, self._best_epoch = value, epoch
                self._keep(metrics, epoch)
        if value is not None and epoch > self._best_epoch and self._world.is_main:
            earlier = "before training" if self._best_epoch < 0 else f"of epoch {self._best_epoch}"
            logger.warning(
                "epoch %d: %s is %.2f, not above %.2f; the weights %s stay the best",
                *(epoch, self._best_metric, value, self._best_value, earlier),
            )

    def finish(self, *, iteration: int) -> dict[str, dict[str, float]]:
        """Load the best weights, test them, and draw the learning curves; return the metrics by split."""
        best = self._folder / BEST_FOLDER / WEIGHTS_FILE
        self._world.wait()
        if best.is_file():
            load_trained(self._model, read_weights(best))
        if self._best_epoch < 0 and self._best_value is not None and self._world.is_main:
            logger.warning("training did not raise %s above %.2f: what was there before is kept", *self._best)
        metrics = {split: self._measure(split, "best", iteration, self._best_epoch) for split in self._test_splits}
        if self._world.is_main:
            draw_curves(self._folder / "log.jsonl", self._folder / "curves.png")
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what is best so far."""
        return {"value": self._best_value, "epoch": self._best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._best_value, self._best_epoch = state["value"], state["epoch"]

    @property
    def _best(self) -> tuple[str, float | None]:
        return self._best_metric, self._best_value

    def _measure(self, split: str, name: str, iteration: int, epoch: int) -> dict[str, float]:
        self._model.eval()
        # Random numbers that validation draws must not change how training goes on.
        with torch.random.fork_rng(devices=[self._world.device] if self._world.device.type == "cuda" else []):
            metrics = self._parallel.evaluate(lambda model: self._validator(model, split))
        logger.info("%s %s: %s", split, name, "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        self._progress.event(split, metrics, iteration=iteration, epoch=epoch)
        if self._world.is_main:
            _write_json(self._folder / "metrics" / f"{split}_{name}.json", {"epoch": epoch, **metrics})
        return metrics

    def _deciding(self, metrics: Mapping[str, Mapping[str, float]]) -> float | None:
        if not self._valid_splits:
            return None
        figures = metrics[self._valid_splits[0]]
        if self._best_metric not in figures:
            raise ConfigError(
                f"run.best_metric {self._best_metric!r} is not measured; {did_you_mean(self._best_metric, figures)}"
            )
        return figures[self._best_metric]

    def _keep(self, metrics: Mapping[str, Mapping[str, float]], epoch: int) -> None:
        weights = trained_weights(self._model)
        if self._world.is_main:
            folder = self._folder / BEST_FOLDER
            write_weights(folder / WEIGHTS_FILE, weights, metadata={"format": "pt", "model": self._model.config.name})
            write_text(folder / "config.json", self._model.config.as_json())
            _write_json(folder / "metrics.json", {"epoch": epoch, "metrics": metrics})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

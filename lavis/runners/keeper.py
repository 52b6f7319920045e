"""Validates, keeps the best weights, and tests with them."""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.files import write_text
from lavis.common.naming import did_you_mean
from lavis.models.sevila.model import SeViLA
from lavis.runners.best import Best, BestWeights
from lavis.runners.curves import draw_curves
from lavis.runners.ema import MovingAverage
from lavis.runners.faults import shared_failure
from lavis.runners.manifest import read_json
from lavis.runners.parallel import Parallel
from lavis.runners.progress import Progress
from lavis.runners.validation import Validator
from lavis.runners.weights import load_trained, trained_weights

logger = logging.getLogger(__name__)


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
        self._weights = BestWeights(folder)
        self._best: Best | None = None
        self._resumed_at: int | None = None

    def prepare_training(self) -> None:
        """Put the model into training mode."""
        self._set_training(self._model)

    def validate(self, *, epoch: int, iteration: int) -> None:
        """Measure the weights, and keep them if they are the best so far; epoch -1 is before training."""
        with self._average.in_place() if self._average else contextlib.nullcontext():
            metrics = {split: self._measure(split, f"epoch{epoch}", iteration, epoch) for split in self._valid_splits}
            value = self._deciding(metrics)
            if value is None or self._best is None or self._best.value is None or value > self._best.value:
                self._best = Best(value, epoch, iteration)
                self._keep(metrics)
        if value is not None and epoch > self._best.epoch and self._world.is_main:
            earlier = "before training" if self._best.epoch < 0 else f"of epoch {self._best.epoch}"
            logger.warning(
                "epoch %d: %s is %.2f, not above %.2f; the weights %s stay the best",
                *(epoch, self._best_metric, value, self._best.value, earlier),
            )

    def finish(self, *, iteration: int) -> dict[str, dict[str, float]]:
        """Load the best weights, test them, and draw the learning curves; return the metrics by split."""
        epoch = -1
        best = self._find()
        if best is not None:
            load_trained(self._model, self._weights.read())
            epoch = best.epoch
            if epoch < 0 and best.value is not None and self._world.is_main:
                text = "training did not raise %s above %.2f: what was there before is kept"
                logger.warning(text, self._best_metric, best.value)
        elif self._world.is_main:
            logger.warning("there are no best weights to test: the last ones are tested")
        metrics = {split: self._measure(split, "best", iteration, epoch) for split in self._test_splits}
        if self._world.is_main:
            draw_curves(self._folder / "log.jsonl", self._folder / "curves.png")
        return metrics

    def go_on(self, iteration: int) -> None:
        """Take up what is on disk, at the iteration that a run goes on from."""
        if self._world.is_main:
            for file in (self._folder / "metrics").glob("*.json"):
                if (read_json(file) or {}).get("iteration", iteration + 1) > iteration:
                    file.unlink()
        self._best = self._find()
        self._resumed_at = iteration

    def _find(self) -> Best | None:
        found: Best | None = self._world.gather(self._weights.find() if self._world.is_main else None)[0]
        return found

    def _measure(self, split: str, name: str, iteration: int, epoch: int) -> dict[str, float]:
        file = self._folder / "metrics" / f"{split}_{name}.json"
        metrics = self._measured(file, iteration, epoch) or self._evaluate(split)
        logger.info("%s %s: %s", split, name, "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        self._progress.event(split, metrics, iteration=iteration, epoch=epoch)
        if self._world.is_main:
            content = {"epoch": epoch, "iteration": iteration, **metrics}
            write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return metrics

    def _measured(self, file: Path, iteration: int, epoch: int) -> dict[str, float] | None:
        """Return what an earlier start measured at the very place where this one went on."""
        if iteration != self._resumed_at:
            return None
        found: dict[str, float] | None = self._world.gather(read_json(file))[0]
        if found is None or (found.pop("iteration", None), found.pop("epoch", None)) != (iteration, epoch):
            return None
        return found

    def _evaluate(self, split: str) -> dict[str, float]:
        self._model.eval()
        # Random numbers that validation draws must not change how training goes on.
        with torch.random.fork_rng(devices=[self._world.device] if self._world.device.type == "cuda" else []):
            return self._parallel.evaluate(lambda model: self._validator(model, split))

    def _deciding(self, metrics: Mapping[str, Mapping[str, float]]) -> float | None:
        if not self._valid_splits:
            return None
        figures = metrics[self._valid_splits[0]]
        if self._best_metric not in figures:
            raise ConfigError(
                f"run.best_metric {self._best_metric!r} is not measured; {did_you_mean(self._best_metric, figures)}"
            )
        return figures[self._best_metric]

    def _keep(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        assert self._best is not None, "what is kept is the best"
        weights = trained_weights(self._model)
        with shared_failure(self._world):
            if self._world.is_main:
                model = self._model.config
                self._weights.write(
                    weights, model_name=model.name, config=model.as_json(), best=self._best, metrics=metrics
                )

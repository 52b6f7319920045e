"""What a training run reports while it runs: metrics, speed, waiting, memory and the time left."""

import importlib
import logging
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lavis.common.errors import ConfigError
from lavis.common.logging import JsonLines

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOGS = 10.0
_LOG = "log.jsonl"
_MIB = 2**20


class TrainingLog:
    """Collects metrics over the iterations between two log lines, and writes them.

    Args:
        folder: gets `log.jsonl`, and TensorBoard events where that package is installed; None writes nothing.
            Weights & Biases gets the metrics too where its variable WANDB_PROJECT is set.
        total: iterations of the whole run.
        log_freq: iterations between two lines.
    """

    def __init__(self, folder: Path | None, *, total: int, log_freq: int = 20) -> None:
        self._folder = folder
        self._json = JsonLines(folder / _LOG) if folder else None
        self._board = _tensorboard(folder) if folder else None
        self._wandb = _weights_and_biases(folder) if folder else None
        self._total, self._log_freq = total, log_freq
        self._first, self._logged, self._started = 0, 0, time.perf_counter()
        self._since = self._started
        self._samples, self._steps, self._waited_s = 0, 0, 0.0
        self._sums: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what is written, and what is collected for the next line."""
        return {
            "size": (self._folder / _LOG).stat().st_size if self._folder else 0,
            "logged": self._logged,
            "samples": self._samples,
            "steps": self._steps,
            "sums": dict(self._sums),
        }

    def resume(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Start at an iteration that an earlier run has reached; what was logged after that is removed."""
        self._first, self._logged = iteration, state["logged"]
        self._samples, self._steps, self._sums = state["samples"], state["steps"], dict(state["sums"])
        if self._folder:
            log = self._folder / _LOG
            if log.stat().st_size > state["size"]:
                os.truncate(log, state["size"])
            if self._board:
                self._board.close()
                self._board = _tensorboard(self._folder, first_step=iteration + 1)

    def start_over(self) -> None:
        """Remove what an earlier run logged that ended before its first checkpoint."""
        if self._folder and (self._folder / _LOG).exists():
            os.truncate(self._folder / _LOG, 0)

    def step(self, metrics: Mapping[str, float], *, iteration: int, epoch: int, samples: int, waited_s: float) -> None:
        """Count a finished optimizer step; `iteration` counts all of the run so far."""
        self._samples, self._waited_s = self._samples + samples, self._waited_s + waited_s
        if samples:
            self._steps += 1
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        if iteration - self._logged >= self._log_freq or iteration == self._total:
            self._write(iteration, epoch)

    def event(self, kind: str, values: Mapping[str, Any], *, iteration: int, epoch: int) -> None:
        """Write metrics that do not belong to a single step, such as those of a validation."""
        row = {"kind": kind, "iteration": iteration, "epoch": epoch, **values}
        if self._json:
            self._json.write(row)
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, (int, float))}
        if self._board:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, iteration)
        if self._wandb:
            self._wandb.log(numbers, step=iteration)

    def close(self) -> None:
        """Close the files."""
        if self._json:
            self._json.close()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()

    def _write(self, iteration: int, epoch: int) -> None:
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        left_s = (self._total - iteration) * (now - self._started) / max(1, iteration - self._first)
        speed = {
            "samples_per_s": self._samples / elapsed,
            "data_wait": self._waited_s / elapsed,
            "memory_mib": memory_mib(),
            "left_s": left_s,
        }
        metrics = {name: value / max(1, self._steps) for name, value in self._sums.items()}
        self.event("train", {**metrics, **speed}, iteration=iteration, epoch=epoch)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        logger.info(
            "epoch %d  %d/%d  %s  %.1f samples/s  data %.0f %%  %.0f MiB  %s left",
            *(epoch, iteration, self._total, shown, speed["samples_per_s"]),
            *(100 * speed["data_wait"], speed["memory_mib"], as_duration(left_s)),
        )
        self._logged, self._since = iteration, now
        self._samples, self._steps, self._waited_s, self._sums = 0, 0, 0.0, {}


class Pace:
    """Says now and then how far a process is with the questions it reads, how fast, and how much time is left."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._done, self._total = what, 0, total
        self._started = self._said = time.perf_counter()

    def step(self, count: int = 1) -> None:
        """Count questions that are done."""
        self._done += count
        now = time.perf_counter()
        if now - self._said >= SECONDS_BETWEEN_LOGS and self._done < self._total:
            self._said = now
            rate = self._done / max(now - self._started, 1e-9)
            left = as_duration((self._total - self._done) / rate)
            logger.info(
                "%s: %d of %d questions, %.1f a second, %s left", self._what, self._done, self._total, rate, left
            )


def memory_mib() -> float:
    """Return the largest memory used so far: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def as_duration(seconds: float) -> str:
    """Word a duration, such as "1:05:09"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _tensorboard(folder: Path, *, first_step: int | None = None) -> Any:
    try:
        board = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return board.SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)


def _weights_and_biases(folder: Path) -> Any:
    if not os.environ.get("WANDB_PROJECT"):
        return None
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise ConfigError("WANDB_PROJECT is set, but wandb is not installed; pip install wandb, or unset it") from None
    return wandb.init(dir=str(folder), name=folder.name)

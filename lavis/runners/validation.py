"""Validation between epochs: a small reading of a split that decides which weights are kept.

Every question is counted once, whatever the number of processes: each takes the questions of its own
rank, and the counts are added up. Where a model is split over the processes, all of them compute equally often.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from lavis.common.distributed import World
from lavis.common.errors import ConfigError, UserError
from lavis.common.files import write_text
from lavis.common.naming import did_you_mean
from lavis.common.types import Floats, Question
from lavis.datasets.dataset import ClipBatch, QuestionDataset, SampleKey
from lavis.datasets.loader import build_loader
from lavis.models.base import VideoModel
from lavis.models.chain import Selector, build_selector, select_and_answer
from lavis.models.frames import FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.runners.checkpoint import Best, BestWeights, load_trained, read_json, trained_weights
from lavis.runners.config import ACCURACY, FRAME_ACCURACY, FRAME_AP
from lavis.runners.faults import shared_failure
from lavis.runners.optim import MovingAverage
from lavis.runners.parallel import Parallel
from lavis.runners.progress import Pace, Progress
from lavis.tasks.build import count_keyframes
from lavis.tasks.published import PublishedTask


class Validator(Protocol):
    """Measures a model on a split; called by every process, returns the same to each."""

    def __call__(self, model: SeViLA, split: str) -> dict[str, float]:
        """Return named metrics, higher being better, each over all questions of the split."""
        ...


@dataclass(frozen=True)
class Reading:
    """One question of a split, as a process meets it.

    Attributes:
        pixels: [T, 3, H, W]; None where the video cannot be read and nothing has to be computed.
        times_s: [T].
        is_readable: False for a video that cannot be read, whatever `pixels` holds.
        is_counted: False for a question that is another process's too.
    """

    question: Question
    pixels: torch.Tensor | None
    times_s: Floats
    is_readable: bool = True
    is_counted: bool = True


class SplitReader:
    """Hands each process its own share of every split.

    Args:
        datasets: the evaluation datasets, by split.
        at_most: questions of each process; None is all.
        stand_in: [T, 3, H, W], where all processes must compute equally often: then each gets equally many
            questions, and this in place of what cannot be read.
    """

    def __init__(
        self,
        datasets: Mapping[str, QuestionDataset],
        *,
        world: World,
        batch_size: int = 8,
        num_workers: int = 0,
        timeout_s: float = 0,
        at_most: int | None = None,
        stand_in: torch.Tensor | None = None,
    ) -> None:
        self._datasets, self._at_most = datasets, at_most
        self.world = world
        self._batch_size, self._num_workers, self._timeout_s = batch_size, num_workers, timeout_s
        self._stand_in = stand_in

    @property
    def in_step(self) -> bool:
        """Whether every question must be computed, counted or not."""
        return self._stand_in is not None

    def count(self, split: str) -> int:
        """Return the number of questions of a split."""
        return len(self._datasets[split])

    def readings(self, split: str) -> Iterator[Reading]:
        """Yield the questions of this process."""
        dataset = self._datasets[split]
        keys = [SampleKey(0, index) for index in range(self.world.rank, len(dataset), self.world.size)]
        keys = keys[: self._at_most]
        batches = [keys[start : start + self._batch_size] for start in range(0, len(keys), self._batch_size)]
        own = len(keys)
        if self.in_step and own < len(range(0, len(dataset), self.world.size)[: self._at_most]):
            batches.append([SampleKey(0, 0)])
        loader = build_loader(dataset, batches, num_workers=self._num_workers, timeout_s=self._timeout_s)
        done, pace = 0, Pace(split, own)
        for batch in loader:
            for reading in self._readings(batch):
                yield replace(reading, is_counted=done < own)
                done += 1
                pace.step()

    def _readings(self, batch: ClipBatch) -> Iterator[Reading]:
        for pixels, times_s, question in zip(batch.pixels, batch.times_s, batch.questions, strict=True):
            yield Reading(question, pixels, times_s.numpy())
        for item in batch.unreadable:
            frames = 0 if self._stand_in is None else len(self._stand_in)
            yield Reading(item.question, self._stand_in, np.zeros(frames), is_readable=False)


class AccuracyValidator:
    """Accuracy of answers in percent; a question whose video cannot be read counts as wrong.

    Args:
        task: which frames are read, and how.
        frame_num: keyframes to read, where the task does not say otherwise.
    """

    def __init__(self, reader: SplitReader, *, task: PublishedTask, prompt: str, frame_num: int) -> None:
        self.reader = reader
        self._task, self._prompt, self._frame_num = task, prompt, frame_num

    @torch.inference_mode()
    def __call__(self, model: SeViLA, split: str) -> dict[str, float]:
        """Return "accuracy" and the numbers of questions and of unreadable ones.

        Raises:
            UserError: no question of the split has an answer.
        """
        selector = build_selector(self._task.selector, model, prompt=self._prompt)
        correct = asked = unreadable = 0
        for reading in self.reader.readings(split):
            question, choice = reading.question, None
            is_counted = reading.is_counted and question.answer is not None
            if reading.pixels is not None and (is_counted or self.reader.in_step):
                choice = self._choose(model, selector, reading.pixels, reading.times_s, question)
            if is_counted:
                asked += 1
                unreadable += not reading.is_readable
                correct += reading.is_readable and choice == question.answer
        correct, asked, unreadable = map(int, self.reader.world.sum([correct, asked, unreadable]))
        if not asked:
            raise UserError(f"split {split!r} has no question with an answer to validate on")
        return {ACCURACY: 100 * correct / asked, "questions": asked, "unreadable": unreadable}

    def _choose(
        self, model: VideoModel, selector: Selector, pixels: torch.Tensor, times_s: Floats, question: Question
    ) -> int | None:
        count = count_keyframes(self._task, frame_num=self._frame_num, num_frames=len(pixels))
        answerer = model.as_answerer(prompt=self._prompt, packing=self._task.reader)
        frames = frames_of(model, pixels, times_s)
        ((_, reading),) = select_and_answer(
            frames, [question], selector=selector, answerer=answerer, k=selector.k or count
        )
        return reading.index


def frames_of(model: VideoModel, pixels: torch.Tensor, times_s: Floats) -> FrameSource:
    """Return frames that are decoded and prepared, [T, 3, H, W], for a model to look at in one call."""
    return FrameSource(np.arange(len(pixels)), times_s, pixels=pixels, together=model.encoders, chunk=len(pixels))


class MomentValidator:
    """How well the Localizer tells frames inside annotated windows from those outside, in percent.

    "frame_ap" is the mean over queries of the average precision of the frame ranking; "frame_accuracy" the share of
    frames with the right yes or no (the published validation figure, which favours saying no).
    """

    def __init__(self, reader: SplitReader, *, prompt: str) -> None:
        self.reader, self._prompt = reader, prompt

    @torch.inference_mode()
    def __call__(self, model: SeViLA, split: str) -> dict[str, float]:
        """Return the figures, and the number of queries and unreadable ones.

        Raises:
            UserError: no query of the split has annotated windows.
        """
        scorer = model.as_scorer(prompt=self._prompt)
        precision = ranked = right = frames = queries = unreadable = 0.0
        for reading in self.reader.readings(split):
            scores, relevant = None, _inside(reading.times_s, reading.question)
            has_windows = reading.question.windows is not None
            if reading.pixels is not None and (has_windows or self.reader.in_step):
                clip = frames_of(model, reading.pixels, reading.times_s)
                scores = scorer.score(clip, [reading.question])
            if not reading.is_counted:
                continue
            if not reading.is_readable:
                unreadable, queries = unreadable + 1, queries + 1
            elif scores is not None and has_windows:
                right += int(((scores.margins[0] > 0) == relevant).sum())
                frames, queries = frames + len(relevant), queries + 1
                if relevant.any():
                    precision, ranked = precision + average_precision(scores.scores[0], relevant), ranked + 1
        added = self.reader.world.sum([precision, ranked, right, frames, queries, unreadable])
        precision, ranked, right, frames, queries, unreadable = added
        if not frames:
            raise UserError(f"split {split!r} has no query with annotated windows to validate on")
        return {
            FRAME_AP: 100 * precision / max(1.0, ranked + unreadable),
            FRAME_ACCURACY: 100 * right / frames,
            "questions": queries,
            "unreadable": unreadable,
        }


def average_precision(scores: Floats, relevant: Floats) -> float:
    """Return the average precision of ranking frames [T] by score; ties go to the earlier frame."""
    hits = np.asarray(relevant, dtype=float)[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def _inside(times_s: Floats, question: Question) -> Floats:
    inside = np.zeros(len(times_s), dtype=bool)
    for window in question.windows or ():
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    return inside


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
            from lavis.export.pictures import draw_learning_curves

            draw_learning_curves(self._folder / "log.jsonl", self._folder / "curves.png")
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

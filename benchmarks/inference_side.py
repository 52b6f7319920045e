"""What the inference benchmarks compare, published and ours; each runs in a process of its own."""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from benchmarks.film import film
from benchmarks.fixtures import as_published, model_of, questions
from benchmarks.measure import MatrixRate, Measured, PartTimings, by_turns, profiled, set_threads
from benchmarks.published import PublishedAnswer, PublishedProcedure
from benchmarks.variants import Variant
from lavis.common.types import Answer
from lavis.models.loading import speed_up
from lavis.models.pipeline import Timings

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both sides are asked about which film; plain data that another process can be started with."""

    size: str
    device: str
    threads: int | None
    video_seconds: int
    num_questions: int
    num_frames: int
    num_keyframes: int


def setting_of(args: argparse.Namespace) -> Setting:
    """Return the setting that options of the command line describe."""
    return Setting(
        size=args.size,
        device=args.device,
        threads=args.threads,
        video_seconds=args.video_seconds,
        num_questions=args.questions,
        num_frames=args.num_frames,
        num_keyframes=args.num_keyframes,
    )


@dataclass(frozen=True)
class Asked:
    """Answers of one run of our side, and the time spent in its parts."""

    answers: list[Answer]
    timings: Timings

    @property
    def scored(self) -> float:
        """The share of frames that were scored, over all questions."""
        return float(np.mean([~np.isnan(answer.keyframes.all_scores) for answer in self.answers]))


class PublishedSide:
    """Answers questions one by one as published, the film anew for each.

    Args:
        dtype: a name of `variants.DTYPES`.
        attention: "eager" (published) or "sdpa".
    """

    def __init__(self, setting: Setting, dtype: str, attention: str) -> None:
        set_threads(setting.threads)
        torch.manual_seed(_SEED)
        self._device = torch.device(setting.device)
        self._questions = questions(setting.num_questions, size=setting.size)
        self._procedure = PublishedProcedure(
            as_published(model_of(setting.size, dtype=dtype, device=self._device), attention=attention),
            video=film(setting.video_seconds),
            batch=self._questions,
            num_frames=setting.num_frames,
            num_keyframes=setting.num_keyframes,
        )
        self._turns = itertools.cycle(range(setting.num_questions))

    def ask_next(self) -> Measured:
        """Answer the next question, with its number; all cost the same."""
        number = next(self._turns)
        return _measured(lambda: self._answer(number), self._device)

    def _answer(self, number: int) -> tuple[int, PublishedAnswer]:
        return number, self._procedure(number, self._questions[number])


class OurSide:
    """Watches a film once and answers questions about it, with one variant of our code."""

    def __init__(self, setting: Setting, variant: Variant) -> None:
        set_threads(setting.threads)
        torch.manual_seed(_SEED)
        self._setting, self._variant = setting, variant
        self._device = torch.device(setting.device)
        self._film = film(setting.video_seconds)
        self._questions = questions(setting.num_questions, size=setting.size)
        self._model = model_of(setting.size, dtype=variant.dtype, device=self._device)
        self._rate = MatrixRate(device=self._device, dtype=next(self._model.vision.parameters()).dtype)
        speed_up(self._model, quantize=variant.quantize, compiled=variant.compiled)

    def warm_up(self) -> Measured:
        """Run every part once: on few frames, or where code is made for each shape, what will be measured."""
        return _measured(self._compile if self._variant.compiled else self._touch, self._device)

    def rate(self) -> Measured:
        """Multiply matrices in this variant's precision."""
        return _measured(self._rate, self._device)

    def rate_flops(self) -> int:
        """Return the operations that `rate` does."""
        return self._rate.flops

    def ask(self, count: int) -> Measured:
        """Watch the film and ask the first questions."""
        return _measured(lambda: self._ask(count), self._device)

    def weight_bytes(self) -> int:
        """Return what all weights take."""
        return sum(map(_bytes, self._model.parameters()))

    def compiled_graphs(self) -> int:
        """Return how many pieces of the model were compiled so far."""
        if not self._variant.compiled:
            return 0
        from torch._dynamo.utils import counters  # torch has no public count

        return int(counters["stats"]["unique_graphs"])

    def profile(self, path: Path) -> None:
        """Trace all questions to a file."""
        with profiled(path):
            self._ask(self._setting.num_questions)

    def _ask(self, count: int) -> Asked:
        timings = PartTimings(self._device)
        watched = self._model.watch(self._film, num_frames=self._setting.num_frames, timings=timings)
        answers = watched.ask_all(
            self._questions[:count], num_keyframes=self._setting.num_keyframes, selector=self._variant.selector
        )
        return Asked(answers, timings)

    def _touch(self) -> None:
        watched = self._model.watch(self._film, num_frames=4)
        watched.ask_all(self._questions[:1], num_keyframes=1, selector=self._variant.selector)

    def _compile(self) -> None:
        for count in {1, self._setting.num_questions}:
            self._ask(count)


def _measured(work: Callable[[], Any], device: torch.device) -> Measured:
    return by_turns({"work": work}, repeats=1, device=device, warmup={})["work"]


def _bytes(tensor: torch.Tensor) -> int:
    """Count the bytes of a tensor, or of those that a quantised one is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(_bytes(getattr(tensor, name)) for name in names)

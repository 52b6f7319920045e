"""The fewest floating-point operations that questions about a video can cost, by torch's own counter.

One frame, and one text of each length, are run and counted. The minimum is what the mathematics of the model asks for:
every frame through the vision tower and the Localizer's Q-Former once per video, the frames that any question chose
through the Answerer's Q-Former, and per question the language model on its own text without padding, with one decoder
step per frame for the Localizer and two for the Answerer.

T frames, K keyframes, L tokens of text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fixtures import model_of, questions
from benchmarks.inference_side import Asked, Setting
from lavis.common.types import Question
from lavis.models.language.t5 import LanguageInput
from lavis.models.sevila.model import SeViLA
from lavis.processors.prompts import MultipleChoicePrompt


@dataclass(frozen=True)
class Flops:
    """Floating-point operations by part of the work; an addition and a multiplication are two.

    Attributes:
        watch: vision tower and the Localizer's Q-Former.
        localize: the Localizer's language model.
        answer: the Answerer's Q-Former on the frames that are read, and its language model.
    """

    watch: float
    localize: float
    answer: float

    @property
    def total(self) -> float:
        """All parts together."""
        return self.watch + self.localize + self.answer


@torch.inference_mode()
def min_flops(
    model: SeViLA, questions: Sequence[Question], *, num_frames: int, num_keyframes: int, num_read: int
) -> Flops:
    """Count the fewest operations that questions about one video cost.

    Args:
        num_read: how many different frames the questions chose between them.
    """
    pixels = torch.zeros(1, 3, model.image_size, model.image_size)
    features = model.features(pixels)
    prompter = _count(lambda: model.localizer(features))
    watch = num_frames * (_count(lambda: model.features(pixels)) + prompter)
    prompt = MultipleChoicePrompt()
    num_queries = model.localizer.num_queries
    localize, answer = 0.0, num_read * prompter
    for question in questions:
        alone = num_queries + _length(model, "Frame: ", prompt.localizer(question))
        joint = num_keyframes * (num_queries + _prefix_length(model, num_keyframes))
        joint += _length(model, "", prompt.answerer(question))
        verdict, letter = _input(model, alone), _input(model, joint)
        localize += num_frames * _count(partial(model.language.first_step, verdict))
        answer += _count(partial(model.language.two_steps, letter))
    return Flops(watch, localize, answer)


def _count(work: Callable[[], Any]) -> float:
    # The counter knows matrix products, but not the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _input(model: SeViLA, length: int) -> LanguageInput:
    return LanguageInput(
        embeds=torch.zeros(1, length, model.language.width, device=model.device),
        mask=torch.ones(1, length, dtype=torch.long, device=model.device),
    )


def _length(model: SeViLA, prefix: str, prompt: str) -> int:
    text = model.language.tokenize([prompt], end_of_text=True).ids.shape[1]
    return text + (model.language.tokenize([prefix], end_of_text=False).ids.shape[1] if prefix else 0)


def _prefix_length(model: SeViLA, num_keyframes: int) -> int:
    prefixes = [f"Frame {number}: " for number in range(1, num_keyframes + 1)]
    return model.language.tokenize(prefixes, end_of_text=False).ids.shape[1]


@dataclass(frozen=True)
class MinFlops:
    """The fewest operations of questions about a film, whatever the precision.

    Attributes:
        asked: by number of questions, where no frame is read.
        watched: without any question.
        read: without any question, and one frame read.
    """

    asked: dict[int, Flops]
    watched: Flops
    read: Flops

    def of(self, asked: Asked) -> Flops:
        """Return the fewest operations of these answers, where only the frames that were scored had to be."""
        read = len({int(position) for answer in asked.answers for position in answer.keyframes.positions})
        unread = self.asked[len(asked.answers)]
        return Flops(
            watch=unread.watch + read * (self.read.watch - self.watched.watch),
            localize=unread.localize * asked.scored,
            answer=unread.answer + read * (self.read.answer - self.watched.answer),
        )


class FlopCounter:
    """Counts on a model as it was built: the counter does not see into compiled code or products of integers."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._model = model_of(setting.size, dtype="bf16", device=torch.device(setting.device))
        self._questions = questions(setting.num_questions, size=setting.size)

    def count(self) -> MinFlops:
        """Run a frame and a text of each length."""
        return MinFlops(
            asked={count: self._min_flops(count, num_read=0) for count in (1, len(self._questions))},
            watched=self._min_flops(0, num_read=0),
            read=self._min_flops(0, num_read=1),
        )

    def _min_flops(self, count: int, *, num_read: int) -> Flops:
        return min_flops(
            self._model,
            self._questions[:count],
            num_frames=self._setting.num_frames,
            num_keyframes=self._setting.num_keyframes,
            num_read=num_read,
        )

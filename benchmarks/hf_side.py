"""The plain way of asking an image-text model about frames, and ours, on the same random weights.

The plain way is what transformers' documentation shows, batched: one prompt for each frame and question, through the
processor's chat template, and the next token's logits at the last position alone; then one prompt with the chosen
frames. Its pictures are decoded beforehand; ours reads the film.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.film import film
from benchmarks.hf_fixtures import hf_model_of, hf_questions
from benchmarks.measure import MatrixRate, Measured, PartTimings, by_turns, set_threads
from lavis.common.types import Answer, Floats, Integers
from lavis.models.hf.backbone import IMAGE, log_sums
from lavis.models.hf.model import HFModel, labelled
from lavis.models.pipeline import WatchedVideo
from lavis.processors.chat_prompts import MultipleChoiceChat
from lavis.video import open_video
from lavis.video.base import uniform_indices


@dataclass(frozen=True, kw_only=True)
class HFSetting:
    """What both sides are asked; plain data that another process can be started with.

    Attributes:
        shape: one of `hf_fixtures.SHAPES`.
        batch: prompts that the plain way runs at once.
    """

    shape: str
    dtype: str
    device: str
    threads: int | None
    num_questions: int
    num_frames: int
    num_keyframes: int
    video_seconds: int
    batch: int


class _Side:
    """A model with its questions, and how work on it is measured."""

    def __init__(self, setting: HFSetting) -> None:
        set_threads(setting.threads)
        self.setting, self.device = setting, torch.device(setting.device)
        self.model = hf_model_of(setting.shape, dtype=setting.dtype, device=self.device)
        self.questions = hf_questions(setting.num_questions)

    def measured(self, work: Callable[[], Any]) -> Measured:
        """Run work once and return what it took."""
        return by_turns({"work": work}, repeats=1, device=self.device, warmup={})["work"]


class PlainSide(_Side):
    """Asks with whole prompts through the processor."""

    def __init__(self, setting: HFSetting) -> None:
        super().__init__(setting)
        with open_video(film(setting.video_seconds)) as video:
            frame_idx = uniform_indices(setting.num_frames, video_frames=video.info.num_frames, fps=video.info.fps)
            self._times_s = video.times_s(frame_idx)
            self._pictures = [Image.fromarray(one) for one in video.read(frame_idx).frames]
        self._prompt = MultipleChoiceChat()

    def warm_up(self) -> Measured:
        """Ask of one frame."""
        return self.score(0, np.zeros(1, np.int64))

    def score(self, number: int, positions: Integers) -> Measured:
        """Score some frames for a question: float64 [N, 2], the logits of "yes" and "no"."""
        return self.measured(lambda: self._score(number, positions))

    def answer(self, number: int, positions: Integers) -> Measured:
        """Answer a question from chosen frames: float64 [O], the logits of the letters."""
        return self.measured(lambda: self._answer(number, positions))

    def _score(self, number: int, positions: Integers) -> Floats:
        text = self._prompt.localizer(self.questions[number])
        rows = []
        for start in range(0, len(positions), self.setting.batch):
            chunk = positions[start : start + self.setting.batch]
            logits = self._logits([[self._pictures[position], text] for position in chunk])
            rows.append(log_sums(logits, self.model.yes_no).double().cpu().numpy())
        return np.concatenate(rows)

    def _answer(self, number: int, positions: Integers) -> Floats:
        question = self.questions[number]
        labels = [self._prompt.frame_label(float(self._times_s[position])) for position in positions]
        shown = [self._pictures[position] for position in positions]
        content = [part for pair in zip(labels, shown, strict=True) for part in pair]
        logits = self._logits([[*content, self._prompt.answerer(question)]])
        letters = [self.model.letter_ids(option) for option in range(len(question.options))]
        return log_sums(logits, letters)[0].double().cpu().numpy()

    @torch.inference_mode()
    def _logits(self, prompts: list[list[Any]]) -> torch.Tensor:
        """Return the next token's logits [R, V] after prompts of texts and pictures."""
        messages = [[{"role": "user", "content": [_part(part) for part in prompt]}] for prompt in prompts]
        batch = self.model.backbone.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        inputs = {
            name: value.to(self.device, self.model.backbone.dtype if value.is_floating_point() else None)
            for name, value in batch.items()
        }
        logits: torch.Tensor = self.model.network(**inputs, logits_to_keep=1).logits[:, -1]
        return logits


def _part(part: Any) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}


class OurHFSide(_Side):
    """Watches the film once and asks one question after another."""

    def __init__(self, setting: HFSetting) -> None:
        super().__init__(setting)
        self._rate = MatrixRate(device=self.device, dtype=self.model.backbone.dtype)
        self._watched: WatchedVideo | None = None
        self._timings = PartTimings(self.device)

    def warm_up(self) -> Measured:
        """Ask of one frame, which also checks once whether prefixes can be shared."""
        return self.measured(self._touch)

    def rate(self) -> Measured:
        """Multiply matrices."""
        return self.measured(self._rate)

    def rate_flops(self) -> int:
        """Return the operations that `rate` does."""
        return self._rate.flops

    def watch(self) -> Measured:
        """Forget the film and watch it anew."""
        self._watched, self._timings = None, PartTimings(self.device)
        return self.measured(self._watch)

    def ask(self, number: int) -> Measured:
        """Answer a question about the watched film."""
        return self.measured(lambda: self._ask(number))

    def parts_s(self) -> dict[str, float]:
        """Return the time spent in each part since the film was watched; prefixes count as watching."""
        return {part: getattr(self._timings, f"{part}_s") for part in ("decode", "watch", "localize", "answer")}

    def kept_bytes(self) -> dict[str, int]:
        """Return what is kept of one frame."""
        assert self._watched is not None
        encoders = (self.model.feature_encoder, self.model.prefix_encoder(""))
        names = ("features", "prefix")
        first = [self._watched.source.encoded(encoder, [0]) for encoder in encoders]
        return {name: tensor.nbytes for name, tensor in zip(names, first, strict=True)}

    def shares(self) -> bool:
        """Tell whether prefixes are shared between questions."""
        return all(self.model.backbone._shares.values())  # noqa: SLF001

    def count(self) -> dict[str, Any]:
        """Count the operations of vision and prefix of a frame, and of each question's texts; see `min_flops`."""
        return min_flops(self.model, self)

    def _touch(self) -> None:
        watched = self.model.watch(film(self.setting.video_seconds), num_frames=1)
        watched.ask_all(self.questions[:1], num_keyframes=1)

    def _watch(self) -> None:
        self._watched = self.model.watch(
            film(self.setting.video_seconds), num_frames=self.setting.num_frames, timings=self._timings
        )

    def _ask(self, number: int) -> Answer:
        assert self._watched is not None
        return self._watched.ask_all([self.questions[number]], num_keyframes=self.setting.num_keyframes)[0]


@torch.inference_mode()
def min_flops(model: HFModel, side: OurHFSide) -> dict[str, Any]:
    """Count by torch's own counter what one frame and each question cost at least.

    Returns:
        `vision` and `prefix` of one frame; for each question `suffix` on one frame, the `whole` prompt on it, `answer`
        with the features of the keyframes at hand, and how many tokens they are.
    """
    backbone, prompt = model.backbone, MultipleChoiceChat()
    with open_video(film(side.setting.video_seconds)) as video:
        picture = video.read(np.zeros(1, np.int64)).frames
    size = picture.shape[1:3]
    features = backbone.features(picture)
    rows: dict[str, list[Any]] = {"suffix": [], "whole": [], "answer": [], "suffix_tokens": []}
    for question in side.questions:
        ids = backbone.ids([IMAGE, prompt.localizer(question)], size)
        head, tail = backbone.split(ids)
        kept = backbone.prefix(features, head)
        times = [float(number) for number in range(side.setting.num_keyframes)]
        joint = backbone.ids(labelled(prompt.answerer(question), times, prompt), size)
        rows["suffix"].append(_count(partial(backbone.continued_logits, kept, tail, size=size)))
        rows["whole"].append(_count(partial(backbone.logits, [ids], features)))
        many = features.expand(len(times), *features.shape[1:])
        rows["answer"].append(_count(partial(backbone.logits, [joint], many)))
        rows["suffix_tokens"].append(len(tail))
    return {
        "vision": _count(lambda: backbone.features(picture)),
        "prefix": _count(lambda: backbone.prefix(features, head)),
        "prefix_tokens": len(head),
        "num_keyframes": side.setting.num_keyframes,
        **rows,
    }


def _count(work: Callable[[], Any]) -> float:
    # The counter knows matrix products, but not the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())

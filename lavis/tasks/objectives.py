"""What is trained, on what target: the contract with the training loop, the paper's objectives, and their teachers.

A teacher's prediction is one number for a question and a frame: the option that the Answerer chooses on the frame
alone, or the score that the Localizer gives it. A frozen role says the same in every epoch of a run: it is asked online
each time, or its predictions are cached from epoch to epoch.

B questions, T frames each, K keyframes, N = B * T frames; features and states [N, ...] are the model's own.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from lavis.common.distributed import World
from lavis.common.errors import ConfigError, QuestionError
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.datasets.dataset import ClipBatch
from lavis.models.base import AnswerLoss, FrameScorer, FrameScores, ImageTextModel, Mask
from lavis.models.chain import Selector, SelectorSpec, asks_localizer, build_selector, prepared_frames
from lavis.models.frame_cache import FrameCache, entry_key
from lavis.models.frames import FrameEncoder, FrameSource, joined
from lavis.processors.prompts import Prompt

logger = logging.getLogger(__name__)

# Gives the predictions [N] on the frames that a mask [B, T] marks, in its order.
Ask = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Predictions:
    """Predictions on all frames of a batch.

    Attributes:
        values: float64 [B, T], on the CPU.
        metrics: what there is to log about them.
    """

    values: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class OnlineTeacher:
    """Asks about every frame every time, and keeps nothing."""

    keeps = False

    def predict(
        self, questions: Sequence[Question], frame_idx: torch.Tensor, ask: Ask, *, where: Mask | None = None
    ) -> Predictions:
        """Return the predictions on frames [B, T] of each question's video, asking for those that are not known.

        Where predictions are kept, the metric "reused" is the share of frames whose prediction was known.

        Args:
            where: bool [B, T], the frames that matter; of the others, predictions may be NaN. None is all.
        """
        rows = list(zip(questions, frame_idx.numpy(), strict=True))
        values = np.stack([self.known(question, row) for question, row in rows])
        wanted = np.ones(values.shape, dtype=bool) if where is None else where
        unknown = wanted & np.isnan(values)
        if unknown.any():
            values[unknown] = ask(torch.from_numpy(unknown)).cpu().double().numpy()
            for (question, row), found, is_new in zip(rows, values, unknown, strict=True):
                self.add(question, row[is_new], found[is_new])
        reused = {"reused": torch.tensor(1 - unknown.sum() / wanted.sum())} if self.keeps else {}
        return Predictions(torch.from_numpy(values), reused)

    def known(self, question: Question, frame_idx: Integers) -> Floats:
        """Return the predictions on frames [T], NaN where there is none."""
        del question
        return np.full(len(frame_idx), np.nan)

    def add(self, question: Question, frame_idx: Integers, values: Floats) -> None:
        """Keep predictions on frames."""

    def share(self, world: World) -> None:
        """Let every process know what all found out; all call this at the same step of a run."""

    def state_dict(self, world: World) -> dict[str, Any]:
        """Return what a resumed run needs; every process must call this."""
        del world
        return {}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Load what `state_dict` returned."""


Teacher = OnlineTeacher
"""Where predictions come from; every teacher is asked as `OnlineTeacher` is."""


class CachedTeacher(OnlineTeacher):
    """Asks about a frame once; what one epoch finds out, the next ones use.

    Where frames are cropped at random, a frame keeps the prediction on the crop it was first seen in.

    A new prediction is not used before it is shared, at the end of an epoch. So a run that was stopped and resumed
    knows at each step what an undisturbed one knows: a prediction that is made in another batch could differ in the
    last bit of a logit, and with it, rarely, the choice.

    Args:
        origin: names everything that predictions depend on beside question and frame; a state of another origin is not
            loaded.
    """

    keeps = True

    def __init__(self, *, origin: str) -> None:
        self._origin = origin
        self._known: _Kept = {}
        self._new: _Kept = {}

    def known(self, question: Question, frame_idx: Integers) -> Floats:
        """Return the predictions on frames [T], NaN where there is none."""
        held = self._known.get(question_key(question), {})
        return np.array([held.get(index, np.nan) for index in frame_idx.tolist()])

    def add(self, question: Question, frame_idx: Integers, values: Floats) -> None:
        """Keep predictions on frames, to be used once they are shared."""
        _add(self._new, {question_key(question): dict(zip(frame_idx.tolist(), values.tolist(), strict=True))})

    def share(self, world: World) -> None:
        """Add what all processes found out, in the order of their ranks."""
        for found in world.gather(self._new):
            _add(self._known, found)
        self._new = {}

    def state_dict(self, world: World) -> dict[str, Any]:
        """Return what is known, and what each process has found out since it was shared."""
        new = world.gather(_packed(self._new))
        return {"origin": self._origin, "known": _packed(self._known), "new": new}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Load what `state_dict` returned; with another number of processes, everybody loads what is new."""
        if state.get("origin") != self._origin:
            if state:
                logger.warning(
                    "the checkpoint's verdicts are of other weights or settings: the frozen role is asked anew"
                )
            return
        self._known, self._new = _unpacked(state["known"]), {}
        news = state["new"]
        for new in [news[world.rank]] if len(news) == world.size else news:
            _add(self._new, _unpacked(new))


class ClipMemory:
    """Keeps on disk what a frozen Localizer reads of clips: questions about a clip, later epochs and runs find it.

    A clip is known by its very pixels, so it must be sampled without randomness to be found. It is watched in calls of
    its own: what it reads, and what is trained on that, do not depend on whether it was found.

    Args:
        origin: names everything that it depends on beside the pixels.
    """

    def __init__(self, cache: FrameCache, *, origin: str) -> None:
        self._cache, self._origin = cache, origin

    def of(self, pixels: torch.Tensor, *, device: torch.device | None = None) -> "_KeptClip":
        """Return the memory of one clip, [T, 3, H, W]; what is read goes to a device, or to where the pixels are."""
        digest = hashlib.sha256(pixels.cpu().contiguous().numpy().data).hexdigest()
        key = entry_key(origin=self._origin, pixels=digest, shape=list(pixels.shape))
        return _KeptClip(self._cache, key, device or pixels.device)


class _KeptClip:
    def __init__(self, cache: FrameCache, key: str, device: torch.device) -> None:
        self._cache, self._key, self._device = cache, key, device

    def read(self, encoder: FrameEncoder) -> torch.Tensor | None:
        """Return what an encoder made of all frames, or None."""
        kept = self._cache.read(self._key)
        return None if kept is None or kept.keys() != {encoder.name} else kept[encoder.name].to(self._device)

    def write(self, encoder: FrameEncoder, values: torch.Tensor) -> None:
        """Keep what an encoder made of all frames."""
        self._cache.write(self._key, {encoder.name: values})


# Predictions by question and frame index.
_Kept = dict[str, dict[int, float]]


def question_key(question: Question) -> str:
    """Return what tells a question from every other of a run, also where datasets that are mixed name them alike."""
    return hashlib.sha256(repr(question).encode(errors="surrogatepass")).hexdigest()


def _add(to: _Kept, found: _Kept) -> None:
    """Add predictions; of several on one frame the first counts."""
    for key, frames in found.items():
        to[key] = {**frames, **to.get(key, {})}


def _packed(kept: _Kept) -> dict[str, Any]:
    """Return predictions as few tensors, which checkpoints can hold."""
    pairs = [pair for frames in kept.values() for pair in sorted(frames.items())]
    return {
        "questions": list(kept),
        "counts": torch.tensor([len(frames) for frames in kept.values()], dtype=torch.int64),
        "frame_idx": torch.tensor([index for index, _ in pairs], dtype=torch.int64),
        "values": torch.tensor([value for _, value in pairs], dtype=torch.float64),
    }


def _unpacked(packed: Mapping[str, Any]) -> _Kept:
    parts = [packed[name].split(packed["counts"].tolist()) for name in ("frame_idx", "values")]
    rows = zip(packed["questions"], *parts, strict=True)
    return {key: dict(zip(frame_idx.tolist(), values.tolist(), strict=True)) for key, frame_idx, values in rows}


class Objective(Protocol):
    """Turns a batch into a loss.

    It is built with those of these keyword arguments that its constructor names: `prompt` (a name in
    `registry.prompts`, or a prompt), `k` (frames to choose), `selector` (which), `packing` (how frames are read),
    `teacher` (where the frozen role's predictions come from) and `memory` (what is kept of clips).

    One that trains what is not the model's own has a method `attach(model)`, which makes it a part of the model before
    anything trains (`lavis.tasks.selector_learning`).

    Attributes:
        trainable: roles that learn, "localizer" or "answerer"; everything else is frozen.
    """

    trainable: tuple[str, ...]

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Return "loss" (a scalar tensor with gradient) and metrics to log."""
        ...


def known_answer(question: Question) -> int:
    """Return the index of the right option.

    Raises:
        QuestionError: it is not known.
    """
    if question.answer is None:
        raise QuestionError(f"question {question.id!r} has no answer to learn from")
    return question.answer


class LocalizerPretraining:
    """Learn from annotated moments: "yes" inside a window, "no" outside (paper, section 3.3)."""

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, prompt: str | Prompt) -> None:
        self._prompt = prompt

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Return the loss over all frames.

        Raises:
            QuestionError: a query without annotated windows.
        """
        relevant = torch.stack(
            [_inside(times, question) for times, question in zip(batch.times_s, batch.questions, strict=True)]
        )
        return _relevance_loss(model, batch, _features(model, batch), relevant, self._prompt)


class SelfRefinement:
    """The reverse chain: "yes" where the frozen Answerer is right on this frame alone (paper, section 3.3)."""

    trainable: tuple[str, ...] = ("localizer",)

    def __init__(self, *, prompt: str | Prompt, teacher: Teacher | None = None) -> None:
        self._prompt = prompt
        self._teacher = teacher or OnlineTeacher()

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Make pseudo-labels, then return the Localizer's loss on them.

        Raises:
            QuestionError: a question whose answer is not known.
        """
        features = _features(model, batch)
        ask = partial(self._ask, model, batch, features)
        predicted = self._teacher.predict(batch.questions, batch.frame_idx, ask)
        relevant = _is_right(predicted.values, batch)
        return {**_relevance_loss(model, batch, features, relevant, self._prompt), **predicted.metrics}

    @torch.no_grad()
    def _ask(
        self, model: ImageTextModel, batch: ClipBatch, features: torch.Tensor, where: torch.Tensor
    ) -> torch.Tensor:
        """Return the option the Answerer chooses on each frame that a mask [B, T] marks."""
        questions, num_frames = list(batch.questions), where.shape[1]
        if not where.all():
            questions, num_frames = [batch.questions[row] for row in where.nonzero()[:, 0].tolist()], 1
            features = features[where.flatten().to(features.device)]
        states = model.states("answerer", features).unflatten(0, (len(questions), num_frames))
        words = model.words(self._prompt)
        prompts = [words.answerer(question) for question in questions]
        return model.frame_choices(states, prompts, [len(question.options) for question in questions]).flatten()


def _inside(times_s: torch.Tensor, question: Question) -> torch.Tensor:
    """Tell which times [T] lie in an annotated window: bool [T].

    Raises:
        QuestionError: the question has no annotated windows.
    """
    if question.windows is None:
        raise QuestionError(f"question {question.id!r} has no annotated windows to learn from")
    return torch.from_numpy(inside_windows(np.asarray(times_s.cpu()), question.windows)).to(times_s.device)


@torch.no_grad()
def _features(model: ImageTextModel, batch: ClipBatch) -> torch.Tensor:
    if batch.sizes:
        return model.feature_encoder.run([picture for row in range(len(batch)) for picture in batch.clip(row)])
    return model.features(batch.pixels.flatten(0, 1))


def _is_right(choices: torch.Tensor, batch: ClipBatch) -> torch.Tensor:
    answers = torch.tensor([known_answer(question) for question in batch.questions])
    return choices.cpu() == answers[:, None]


def _relevance_loss(
    model: ImageTextModel, batch: ClipBatch, features: torch.Tensor, relevant: torch.Tensor, prompt: str | Prompt
) -> dict[str, Any]:
    states = model.states("localizer", features).unflatten(0, batch.pixels.shape[:2])
    words = model.words(prompt)
    prompts = [words.localizer(question) for question in batch.questions]
    found = model.relevance_loss(states, prompts, relevant)
    agreement = (found.says_yes == relevant.to(found.says_yes.device)).float().mean()
    return {"loss": found.loss, "agreement": agreement, "share_yes": relevant.float().mean()}


class AnswererFinetuning:
    """Learn to write the right option from chosen frames (paper, section 3.3, forward chain)."""

    trainable: tuple[str, ...] = ("answerer",)

    def __init__(
        self,
        *,
        prompt: str | Prompt,
        k: int,
        selector: SelectorSpec = "all",
        packing: str = "joint",
        teacher: Teacher | None = None,
        memory: ClipMemory | None = None,
    ) -> None:
        self._prompt, self._k, self._selector, self._packing = prompt, k, selector, packing
        self._teacher, self._memory = teacher or OnlineTeacher(), memory
        self._built: tuple[ImageTextModel, Selector] | None = None

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Return the loss of the target text, the mean over questions, and "positions": B times the frames [K] read.

        Questions that as many frames were chosen for are learned in one call.

        Raises:
            QuestionError: a question whose answer is not known.
            ConfigError: the model is split over processes, and questions have different numbers of frames.
        """
        clips = [self._clip(model, batch, row) for row in range(len(batch))]
        selector = self._selector_of(model)
        scorer = self._taught(selector)
        chooser = replace(selector, scorer=scorer or selector.scorer)
        with torch.no_grad():
            chosen = [
                chooser.select(clip, [question], k=min(selector.k or self._k, len(clip)))[0].positions
                for clip, question in zip(clips, batch.questions, strict=True)
            ]
        groups: dict[int, list[int]] = {}
        for row, positions in enumerate(chosen):
            groups.setdefault(len(positions), []).append(row)
        if len(groups) > 1 and any(isinstance(value, DTensor) for _, value in model.trainable_parameters()):
            raise ConfigError(
                "model.training_selector chooses different numbers of frames for the questions of a batch, and with "
                "run.distributed=fsdp all processes must run the same; set run.distributed=ddp"
            )
        learned = [(self._learn(model, batch, clips, chosen, rows), len(rows) / len(batch)) for rows in groups.values()]
        return {
            "loss": torch.stack([found.loss * share for found, share in learned]).sum(),
            "accuracy": torch.stack([found.is_right.float().mean() * share for found, share in learned]).sum(),
            "positions": [torch.from_numpy(positions) for positions in chosen],
            **({} if scorer is None else scorer.metrics),
        }

    def _taught(self, selector: Selector) -> "TaughtScorer | None":
        """Return a scorer that remembers; None where nothing is, or may be, kept.

        What is kept is known by the model alone, so it is of the model's own Localizer, and scores are all there is.
        """
        is_kept = self._teacher.keeps and not getattr(selector.policy, "reads_margins", False)
        if selector.scorer is None or not is_kept or not asks_localizer(self._selector):
            return None
        return TaughtScorer(selector.scorer, self._teacher)

    def _selector_of(self, model: ImageTextModel) -> Selector:
        """Return the selector, built once: a scorer may have weights of its own to load."""
        if self._built is None or self._built[0] is not model:
            self._built = model, build_selector(self._selector, model, prompt=self._prompt)
        return self._built[1]

    def _learn(
        self,
        model: ImageTextModel,
        batch: ClipBatch,
        clips: Sequence[FrameSource],
        chosen: Sequence[Integers],
        rows: Sequence[int],
    ) -> AnswerLoss:
        """Return the loss of some questions of a batch, each of which has as many chosen frames."""
        positions, questions = np.stack([chosen[row] for row in rows]), [batch.questions[row] for row in rows]
        features = chosen_features(model, [clips[row] for row in rows], positions)
        states = model.states("answerer", features).unflatten(0, positions.shape)
        answers = [known_answer(question) for question in questions]
        words = model.words(self._prompt)
        prompts = [words.answerer(question) for question in questions]
        times_s = [clips[row].times_s[chosen[row]].tolist() for row in rows]
        return model.answer_loss(states, prompts, answers, packing=self._packing, times_s=times_s)

    def _clip(self, model: ImageTextModel, batch: ClipBatch, row: int) -> FrameSource:
        pixels = batch.clip(row)
        memory = None if self._memory is None else self._memory.of(pixels, device=model.device)
        return prepared_frames(model, pixels, batch.frame_idx[row], batch.times_s[row], memory=memory)


class TaughtScorer:
    """A scorer that takes what a teacher has kept of earlier epochs; `metrics` are about all that was asked."""

    def __init__(self, scorer: FrameScorer, teacher: Teacher) -> None:
        self._scorer, self._teacher = scorer, teacher
        self.metrics: dict[str, torch.Tensor] = {}
        self._reused: list[float] = []

    @torch.no_grad()
    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for one question."""

        def ask(unknown: torch.Tensor) -> torch.Tensor:
            found = self._scorer.score(frames, questions, where=unknown.numpy())
            return torch.from_numpy(found.scores)[unknown]

        said = self._teacher.predict(questions, torch.from_numpy(frames.frame_idx[None]), ask, where=where)
        for value in said.metrics.values():
            self._reused.append(float(value))
            self.metrics["reused"] = torch.tensor(np.mean(self._reused))
        scores = said.values.numpy() if where is None else np.where(where, said.values.numpy(), np.nan)
        return FrameScores(scores, scores, (Unread(),) * len(questions))


def chosen_features(model: ImageTextModel, clips: Sequence[FrameSource], positions: Integers) -> torch.Tensor:
    """Return the features [B * K, ...] of chosen frames; of prepared ones, all that no scorer needed in one call."""
    vision = model.feature_encoder
    if not vision.takes_prepared:
        return joined([clip.encoded(vision, chosen) for clip, chosen in zip(clips, positions, strict=True)])
    missing = [clip.missing(vision, chosen) for clip, chosen in zip(clips, positions, strict=True)]
    if any(map(len, missing)):
        pixels = torch.cat([clip.pixels_at(new) for clip, new in zip(clips, missing, strict=True)])
        with torch.no_grad():
            made = model.features(pixels).split(list(map(len, missing)))
        for clip, new, features in zip(clips, missing, made, strict=True):
            clip.add(vision, new, features)
    return torch.cat([clip.encoded(vision, chosen) for clip, chosen in zip(clips, positions, strict=True)])

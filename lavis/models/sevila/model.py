"""The SeViLA model: frames to tokens once, then any question on them (paper, section 3), and its two roles.

Shapes: N frames, B questions, T frames per question, K keyframes, Q query tokens, E language
width, O options, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lavis.common.errors import BrokenModelError, ConfigError, NotFiniteError, QuestionError, did_you_mean
from lavis.common.registry import registry
from lavis.common.types import Floats, FrameBatch, Integers, Question, Unread
from lavis.models.base import Answerer, AnswerLoss, FrameScorer, FrameScores, Mask, Reading, RelevanceLoss
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.models.language.checkpointing import checkpoint_activations
from lavis.models.language.t5 import IGNORED, LanguageInput, T5LanguageModel, Tokens
from lavis.models.precision import at_least_fp32
from lavis.models.sevila.config import SeViLAConfig
from lavis.models.sevila.loading import PretrainedSeViLA
from lavis.models.vision.blip2 import VisualPrompter
from lavis.models.watching import WatchesVideos
from lavis.processors.prompts import Prompt, as_prompt, option_target
from lavis.processors.transforms import EvalTransform

ROLES = ("localizer", "answerer")
# Larger calls gain nothing on a CPU: they leave its caches, and pad questions of different length.
_CPU_BATCH, _BATCH = 16, 64


@dataclass(frozen=True)
class FrameLogits:
    """The Localizer's logits of "yes" and "no" for each frame, [B, T] each."""

    yes: torch.Tensor
    no: torch.Tensor
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class OptionLogits:
    """The Answerer's logits of the option letters, [rows, O].

    Attributes:
        first_token: [rows], the token before the letter; `option_id` with trained weights.
        unread: for each question, what of its prompt the model did not read.
    """

    logits: torch.Tensor
    first_token: torch.Tensor
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class TextLoss:
    """How well target texts are predicted.

    Attributes:
        loss: scalar, the mean cross-entropy over all target tokens of all rows.
        logits: [rows, L_target, V].
        labels: [rows, L_target], -100 where no loss is taken.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor


class SeViLA(PretrainedSeViLA, WatchesVideos):
    """One frozen vision tower and language model with two visual prompters between them."""

    def __init__(
        self,
        *,
        vision: nn.Module,
        localizer: VisualPrompter,
        answerer: VisualPrompter,
        language: T5LanguageModel,
        config: SeViLAConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self._transform = EvalTransform(mean=config.image_mean, std=config.image_std)
        self.vision = vision
        self.localizer = localizer
        self.answerer = answerer
        self.language = language
        self._runs: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        self._trainable: frozenset[str] = frozenset()
        self.set_trainable(())

    def set_trainable(self, roles: Sequence[str]) -> None:
        """Let the visual prompters of these roles train, and freeze all else; a ConfigError refuses what is no role."""
        for role in roles:
            if role not in ROLES:
                raise ConfigError(f"cannot train {role!r}; {did_you_mean(role, ROLES)}")
        self._trainable = frozenset(roles)
        for name, part in self.named_children():
            part.requires_grad_(name in self._trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> SeViLA:  # noqa: FBT001, FBT002  # torch's signature
        """Set training mode for the trainable parts; frozen parts stay in eval whatever `mode` is.

        Dropout in a frozen part would make keyframes and pseudo-labels change from run to run.
        """
        super().train(mode)
        for name, part in self.named_children():
            if name not in self._trainable:
                part.eval()
        return self

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name."""
        return dict(self.named_children())

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.localizer.queries.device

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the frozen vision tower alone: pixels [N, 3, H, W] to features [N, P, D]."""
        dtype = next(self.vision.parameters()).dtype
        return self._run("vision")(pixels.to(device=self.device, dtype=dtype))

    def states(self, role: str, features: torch.Tensor) -> torch.Tensor:
        """Run the visual prompter of a role: features [N, P, D] to query tokens [N, Q, E]."""
        return self._run(role)(features)

    def compile_parts(self, *, backend: str = "inductor") -> None:
        """Let vision tower, visual prompters and the language model's encoder run compiled: all that runs many rows.

        The decoder's one or two steps stay as they are, and so does the encoder where text is written freely.

        Args:
            backend: a name in `torch.compiler.list_backends()`; "inductor" needs a C++ compiler on a CPU.
        """
        # Compiling needs parts of torch that take a while to import.
        from lavis.models.sevila.compiled import compiled_encoder, compiled_rows

        for name in ("vision", *ROLES):
            self._runs[name] = compiled_rows(self.get_submodule(name).forward, backend=backend)
        self.language.run_encoder = compiled_encoder(self.language.model.encoder.forward, backend=backend)

    def _run(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return self._runs.get(name) or self.get_submodule(name)

    def score_frames(
        self,
        tokens: torch.Tensor,
        prompts: Sequence[str],
        *,
        batch_size: int = 64,
        where: torch.Tensor | None = None,
    ) -> FrameLogits:
        """Ask the Localizer about each frame: tokens [B, T, Q, E], B prompts.

        One decoder step per frame is run: the first token is the verdict.

        Args:
            batch_size: frames per language-model call; bounds the memory.
            where: bool [B, T], the frames to ask about, at least one; the others' logits are NaN. None is all.
        """
        text = self.language.tokenize(prompts, end_of_text=True)
        verdict_ids = [self.language.yes_id, self.language.no_id]
        num_questions, num_frames = tokens.shape[:2]
        # Questions of like length share a call, so that little of it is padding.
        by_length = text.mask.sum(1).argsort(stable=True)
        wanted = tokens.new_ones(num_questions, num_frames, dtype=torch.bool) if where is None else where[by_length]
        every, verdicts = wanted.flatten().nonzero()[:, 0], []
        for rows in every.split(batch_size):
            question, frame = by_length[rows // num_frames], rows % num_frames
            # Indexing gathers only this chunk, so tokens may be one video expanded over its questions.
            inputs = PerFramePacking().inputs(self.language, tokens[question, frame][:, None], text.rows(question))
            verdicts.append(self.language.first_step(inputs)[:, verdict_ids])
        found = torch.cat(verdicts)
        scores = found.new_full((num_questions * num_frames, 2), torch.nan).index_copy(0, every, found)
        scores = scores.view(num_questions, num_frames, 2)[by_length.argsort()]
        return FrameLogits(yes=scores[..., 0], no=scores[..., 1], unread=text.unread)

    def answer(
        self, tokens: torch.Tensor, prompts: Sequence[str], *, num_options: int, packing: FramePacking
    ) -> OptionLogits:
        """Ask the Answerer to choose: tokens [B, K, Q, E], B prompts of `num_options` options each.

        Two decoder steps are run: the greedy first ("Option"), then the letter.
        """
        option_ids = self.language.option_ids(num_options)
        text = self.language.tokenize(prompts, end_of_text=True)
        steps = self.language.two_steps(packing.inputs(self.language, tokens, text))
        return OptionLogits(steps.second_logits[:, option_ids], steps.first_token, text.unread)

    def text_loss(
        self, tokens: torch.Tensor, prompts: Sequence[str], targets: Sequence[str], *, packing: FramePacking
    ) -> TextLoss:
        """Predict one target text for each row that frames [B, K, Q, E] and B prompts are packed to, teacher-forced."""
        text = self.language.tokenize(prompts, end_of_text=True)
        inputs = packing.inputs(self.language, tokens, text)
        labels = self.language.labels(targets)
        logits = self.language.teacher_forced(inputs, labels)
        loss = cross_entropy(
            logits.to(at_least_fp32(logits.dtype)).flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )
        return TextLoss(loss, logits, labels)

    @torch.no_grad()
    def choose_after_option(
        self, tokens: torch.Tensor, prompts: Sequence[str], *, num_options: int, packing: FramePacking
    ) -> torch.Tensor:
        """Return the letters' logits [rows, O] right after the word "Option", whatever the model would say first.

        Pseudo-labels are made so in the published code, where answering runs freely (`answer`).
        """
        text = self.language.tokenize(prompts, end_of_text=True)
        inputs = packing.inputs(self.language, tokens, text)
        labels = self.language.labels([option_target(0)]).expand(len(inputs.mask), -1)
        return self.language.teacher_forced(inputs, labels)[:, 1, self.language.option_ids(num_options)]

    def relevance_loss(self, states: torch.Tensor, prompts: Sequence[str], relevant: torch.Tensor) -> RelevanceLoss:
        """Teach the Localizer "yes" or "no" of frames (section 3.3): tokens [B, T, Q, E], relevant bool [B, T]."""
        targets = ["yes" if yes else "no" for yes in relevant.flatten().tolist()]
        found = self.text_loss(states, prompts, targets, packing=PerFramePacking())
        first = found.logits[:, 0].detach()
        says_yes = first[:, self.language.yes_id] > first[:, self.language.no_id]
        return RelevanceLoss(found.loss, says_yes.view(relevant.shape))

    def answer_loss(
        self,
        states: torch.Tensor,
        prompts: Sequence[str],
        answers: Sequence[int],
        *,
        packing: str,
        times_s: Sequence[Sequence[float]] | None = None,
    ) -> AnswerLoss:
        """Teach the Answerer to write "Option X" for the right option, from query tokens [B, K, Q, E].

        Its prompt numbers frames, and names no times.
        """
        del times_s
        packed: FramePacking = registry.frame_packings.get(packing)()
        rows = states.shape[1] if packed.reads_alone else 1
        targets = [option_target(answer) for answer in answers for _ in range(rows)]
        found = self.text_loss(states, prompts, targets, packing=packed)
        return AnswerLoss(found.loss, found.logits[:, 1].detach().argmax(-1) == found.labels[:, 1])

    @torch.no_grad()
    def frame_choices(self, states: torch.Tensor, prompts: Sequence[str], num_options: Sequence[int]) -> torch.Tensor:
        """Return the option that the Answerer chooses on each frame alone: query tokens [B, T, Q, E] to int64 [B, T].

        See `choose_after_option`.
        """
        counts = torch.tensor(num_options, device=states.device).repeat_interleave(states.shape[1])
        most = int(counts.max())
        logits = self.choose_after_option(states, prompts, num_options=most, packing=PerFramePacking())
        beyond = torch.arange(most, device=logits.device) >= counts[:, None]
        return logits.masked_fill(beyond, -torch.inf).argmax(-1).view(states.shape[:2])

    @property
    def caveats(self) -> tuple[str, ...]:
        """What goes with every answer."""
        return (self.config.weights.note,) if self.config.weights.note else ()

    @property
    def feature_encoder(self) -> FrameEncoder:
        """The vision tower: frames to patch features [P, D]."""
        return FrameEncoder("vision", self._watch, size=self.config.vision.image_size)

    @property
    def encoders(self) -> tuple[FrameEncoder, ...]:
        """What each role reads of frames: its query tokens [Q, E], made of the features that both share."""
        runs = {"localizer": self._localizer_tokens, "answerer": self._answerer_tokens}
        shape = (self.answerer.num_queries, self.language.width)
        return tuple(FrameEncoder(role, run, before=self.feature_encoder, shape=shape) for role, run in runs.items())

    @property
    def image_size(self) -> int:
        """Side in pixels of the square frames the model watches."""
        return self.config.vision.image_size

    def encoder(self, role: str) -> FrameEncoder:
        """Return what a role reads of frames."""
        return next(encoder for encoder in self.encoders if encoder.name == role)

    def _watch(self, frames: FrameBatch | torch.Tensor) -> torch.Tensor:
        return self.features(frames if isinstance(frames, torch.Tensor) else self._transform(frames))

    # Encoders compare by what they run; bound methods of one model are equal, other closures are not.
    def _localizer_tokens(self, features: torch.Tensor) -> torch.Tensor:
        return self.states("localizer", features)

    def _answerer_tokens(self, features: torch.Tensor) -> torch.Tensor:
        return self.states("answerer", features)

    def watching_key(self) -> str:
        """Return a digest of everything that tokens depend on beside the frames.

        That is preprocessing, vision tower, visual prompters, their precision, and the kind of device. The language
        model reads tokens and makes none.
        """
        facts = {"vision": self.config.watching, "device": self.device.type, "replaced_runs": sorted(self._runs)}
        return digest(facts, {name: self.get_submodule(name) for name in ("vision", *ROLES)})

    def words(self, prompt: str | Prompt) -> Prompt:
        """Return a prompt in the published words."""
        return as_prompt(prompt)

    def as_scorer(self, *, prompt: str | Prompt) -> FrameScorer:
        """Return the role that scores frames."""
        return SeViLALocalizer(model=self, prompt=as_prompt(prompt))

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> Answerer:
        """Return the role that answers."""
        return SeViLAAnswerer(model=self, prompt=as_prompt(prompt), packing=registry.frame_packings.get(packing)())

    def checkpoint_activations(self, *, method: str) -> None:
        """Recompute activations in the backward pass; see `lavis.models.language.checkpointing`."""
        for part in (self.language, self.localizer, self.answerer):
            checkpoint_activations(part, method=method)

    def prompt_warnings(self) -> list[str]:
        """Say how many prompts were not read as they were given."""
        said, language = [], self.language
        if language.num_cut_prompts:
            limit = language.max_text_length
            said.append(f"{language.num_cut_prompts} prompts were longer than {limit} tokens and lost their end")
        if language.num_unspelt_prompts:
            said.append(f"{language.num_unspelt_prompts} prompts hold text that the tokenizer cannot spell")
        return said

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named parameters that train."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)


class SeViLALocalizer:
    """Scores frames by the logit of "yes", `batch_size` in a call of the language model (None: by device)."""

    def __init__(self, *, model: SeViLA, prompt: Prompt, batch_size: int | None = None) -> None:
        self._model = model
        self._prompt = prompt
        self._batch_size = batch_size

    @torch.inference_mode()
    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score all frames for each question, or only those where `where` [B, T] is true; the rest are NaN."""
        prompts = [self._prompt.localizer(question) for question in questions]
        asked = np.ones((len(questions), len(frames)), dtype=bool) if where is None else where
        positions = np.flatnonzero(asked.any(0))
        tokens = frames.encoded(self._model.encoder("localizer"), positions)
        batch_size = self._batch_size or (_CPU_BATCH if tokens.device.type == "cpu" else _BATCH)
        chosen = None if where is None else torch.from_numpy(where[:, positions]).to(tokens.device)
        logits = self._model.score_frames(
            tokens.expand(len(questions), -1, -1, -1), prompts, batch_size=batch_size, where=chosen
        )
        yes, no = np.full((2, *asked.shape), np.nan)
        yes[:, positions] = logits.yes.double().cpu().numpy()
        no[:, positions] = logits.no.double().cpu().numpy()
        for row, question in enumerate(questions):
            _check_finite(np.isfinite(yes[row] - no[row])[asked[row]], question, model=self._model, frames=frames)
        return FrameScores(scores=yes, margins=yes - no, unread=logits.unread)

    def frame_states(self, frames: FrameSource, positions: npt.ArrayLike | None = None) -> torch.Tensor:
        """Return the mean query token of frames, [N, E]: the Answerer's, which it reads of the chosen ones anyway."""
        return frames.encoded(self._model.encoder("answerer"), positions).mean(dim=1)

    @torch.no_grad()
    def text_states(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the mean word embedding of texts, [B, E]; see `ShowsStates`."""
        language = self._model.language
        tokens = language.tokenize(texts, end_of_text=True)
        mask = tokens.mask[..., None]
        return (language.embed(tokens) * mask).sum(dim=1) / mask.sum(dim=1)


class SeViLAAnswerer:
    """Reads chosen frames, `batch_size` at once, and picks an option, or writes an open answer."""

    def __init__(self, *, model: SeViLA, prompt: Prompt, packing: FramePacking, batch_size: int = 64) -> None:
        self._model = model
        self._prompt = prompt
        self._packing = packing
        self._batch_size = batch_size

    def frame_tokens(self, frames: FrameSource, sizes: Floats) -> Integers:
        """Return the query tokens of frames [K], as many of each, whatever its size."""
        del frames
        return np.full(len(sizes), self._model.answerer.num_queries)

    @torch.inference_mode()
    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        """Answer each question from its own frames, `positions` [B, K]."""
        at_once = max(1, self._batch_size // positions.shape[1])
        tokens = frames.encoded(self._model.encoder("answerer"), positions).unflatten(0, positions.shape)
        readings = []
        for start in range(0, len(questions), at_once):
            some = questions[start : start + at_once]
            read = self._choose if some[0].options else self._write
            for question, (reading, finite) in zip(some, read(tokens[start : start + at_once], some), strict=True):
                _check_finite(finite, question, model=self._model, frames=frames)
                readings.append(reading)
        return readings

    def _choose(self, tokens: torch.Tensor, questions: Sequence[Question]) -> list[tuple[Reading, npt.ArrayLike]]:
        """Return what was read for each question, and whether the scores are finite."""
        prompts = [self._prompt.answerer(question) for question in questions]
        most = max(len(question.options) for question in questions)
        chosen = self._model.answer(tokens, prompts, num_options=most, packing=self._packing)
        rows = chosen.logits.double().cpu().numpy().reshape(len(questions), -1, most)
        readings = []
        for question, row, unread in zip(questions, rows, chosen.unread, strict=True):
            logits = row[:, : len(question.options)]
            index = majority_vote(logits.tolist())
            choices = logits.argmax(1) if self._packing.reads_alone else np.empty(0, np.int64)
            reading = Reading(index, question.options[index], logits.mean(0), choices, unread)
            readings.append((reading, np.isfinite(logits)))
        return readings

    def _write(self, tokens: torch.Tensor, questions: Sequence[Question]) -> list[tuple[Reading, npt.ArrayLike]]:
        """Return as `_choose` does."""
        if self._packing.reads_alone and tokens.shape[1] > 1:
            raise QuestionError("an open answer needs frames read together; use the reader 'joint' or give options")
        prompts = [self._prompt.answerer(question) for question in questions]
        text = self._model.language.tokenize(prompts, end_of_text=True)
        answers = self._model.language.generate(self._packing.inputs(self._model.language, tokens, text))
        nothing = np.empty(0), np.empty(0, np.int64)
        return [
            (Reading(None, answer, *nothing, unread), finite)
            for answer, finite, unread in zip(*answers, text.unread, strict=True)
        ]


def _check_finite(finite: npt.ArrayLike, question: Question, *, model: SeViLA, frames: FrameSource) -> None:
    """Refuse what was said about a question unless all numbers that it was computed from are finite.

    Raises:
        BrokenModelError: one is not, for the model itself holds no numbers; the message names where.
        NotFiniteError: one is not; the message names where that began.
    """
    if torch.as_tensor(finite).all():
        return
    said = f"question {question.id or question.text!r:.80} has scores that are not finite; they began in"
    if broken := _broken_part(model):
        raise BrokenModelError(f"{said} {broken}")
    raise NotFiniteError(f"{said} {_outgrown_step(model, frames)}; try another dtype")


def _broken_part(model: SeViLA) -> str | None:
    config = model.config
    for name, value in (("image_mean", config.image_mean), ("image_std", config.image_std)):
        if not all(map(math.isfinite, value)) or (name == "image_std" and 0 in value):
            return f"the model's {name}, {tuple(value)}; mend its config.json"
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        if type(weight.detach()) is torch.Tensor and not weight.isfinite().all():  # quantised ones are of other types
            return f"the weights of {name}; fetch or save them again"
    return None


def _outgrown_step(model: SeViLA, frames: FrameSource) -> str:
    for encoder in model.encoders:
        made = frames.encoded(encoder)
        if not made.isfinite().all():
            return f"the {encoder.name.title()}'s tokens of the frames, computed in {made.dtype}"
    return f"the language model, computed in {model.language.dtype}"


# How frames and text become one language-model input: for each frame its prefix ("Frame 2: ") and its query tokens,
# then the prompt, in the published order. Training and inference build their inputs here and nowhere else.


class FramePacking(Protocol):
    """Lays out frames and text for the language model, each frame as an input of its own where it `reads_alone`."""

    reads_alone: bool

    def inputs(self, language: T5LanguageModel, frames: torch.Tensor, text: Tokens) -> LanguageInput:
        """Build the inputs from frame tokens [B, K, Q, E] and prompts of B rows."""


class JointPacking:
    """All frames of a question in one input, numbered from 1, in the order given."""

    reads_alone = False

    def inputs(self, language: T5LanguageModel, frames: torch.Tensor, text: Tokens) -> LanguageInput:
        """Return inputs of B rows, [B, K * (P + Q) + L] long.

        The K prefixes are padded to the longest of them, in mid-sequence: relative positions, and so
        the published numbers, depend on it.
        """
        prefixes = language.tokenize([f"Frame {i}: " for i in range(1, frames.shape[1] + 1)], end_of_text=False)
        return _lay_out(language, prefixes, frames, text)


class PerFramePacking:
    """Every frame alone in an input of its own, with the same text."""

    reads_alone = True

    def inputs(self, language: T5LanguageModel, frames: torch.Tensor, text: Tokens) -> LanguageInput:
        """Return inputs of B * K rows (all frames of the first question first), [P + Q + L] long."""
        num_frames = frames.shape[1]
        repeated = Tokens(
            ids=text.ids.repeat_interleave(num_frames, 0),
            mask=text.mask.repeat_interleave(num_frames, 0),
            unread=text.unread,
        )
        prefix = language.tokenize(["Frame: "], end_of_text=False)
        return _lay_out(language, prefix, frames.flatten(0, 1)[:, None], repeated)


def _lay_out(language: T5LanguageModel, prefixes: Tokens, frames: torch.Tensor, text: Tokens) -> LanguageInput:
    """Interleave K prefixes with frame tokens [B, K, Q, E] and append the text of B rows."""
    rows, num_frames, num_queries, _ = frames.shape
    prefix_embeds = language.embed(prefixes).expand(rows, -1, -1, -1)
    visual = torch.cat([prefix_embeds, frames.to(prefix_embeds.dtype)], dim=2).flatten(1, 2)
    seen = prefixes.mask.new_ones(num_frames, num_queries)
    visual_mask = torch.cat([prefixes.mask, seen], dim=1).flatten().expand(rows, -1)
    return LanguageInput(
        embeds=torch.cat([visual, language.embed(text)], dim=1), mask=torch.cat([visual_mask, text.mask], dim=1)
    )


def majority_vote(option_logits: Sequence[Sequence[float]]) -> int:
    """Return the option most frames chose; ties go to the higher summed logit (voting baseline)."""
    choices = [max(range(len(row)), key=row.__getitem__) for row in option_logits]
    totals = [sum(column) for column in zip(*option_logits, strict=True)]
    return max(range(len(totals)), key=lambda option: (choices.count(option), totals[option]))

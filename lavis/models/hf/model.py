"""Any image-text model of transformers in both roles, and as a model that the three stages train.

The Localizer reads a frame and its question, and the score is the logit of "yes"; the Answerer reads K frames, each
after its time, and chooses a letter. A word's logit is that of all its spellings that are one token, with their
probabilities summed ("yes", " Yes", ...).

Shapes: N frames, B questions, T frames per question, K keyframes; features [N, parts, 1 + P, E] as of `Backbone`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from lavis.common.errors import ConfigError, NotFiniteError, QuestionError, did_you_mean
from lavis.common.types import Floats, FrameBatch, Integers, Question, Unread
from lavis.models.base import Answerer, AnswerLoss, FrameScorer, FrameScores, Mask, Reading, RelevanceLoss
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameEncoder, FrameSource, joined
from lavis.models.hf.adapters import Adapters, check_role
from lavis.models.hf.backbone import IMAGE, Backbone, Picture, log_sums
from lavis.models.hf.loading import HFConfig, PretrainedHF
from lavis.models.language.checkpointing import checkpoint_activations
from lavis.models.precision import at_least_fp32, quantize_parts
from lavis.models.watching import WatchesVideos
from lavis.processors.chat_prompts import ChatPrompt, MultipleChoiceChat, as_chat_prompt
from lavis.processors.prompts import OPTION_LETTERS, Prompt

PACKINGS = ("joint", "per_frame")
# Prompts that are run at once. Larger calls gain nothing on a CPU.
_CPU_BATCH, _BATCH = 16, 64
# Prefixes of a video that are kept for its next question; those of a video that would take more are made again.
MAX_PREFIX_BYTES = 2**30


class HFModel(PretrainedHF, WatchesVideos):
    """A model of transformers that is asked about frames.

    Args:
        network: the model itself.
        processor: its processor.
    """

    def __init__(self, *, network: Any, processor: Any, config: HFConfig) -> None:
        super().__init__()
        self.network = network
        self.backbone = Backbone(network, processor, config.name, config.frame_tokens)
        self.config = config
        self.adapters: Adapters | None = None
        self.yes_no = [self.backbone.word_ids(word) for word in ("yes", "no")]
        self._num_control = 0
        self.set_trainable(())

    # -- what others ask of any model ---------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.backbone.device

    @property
    def caveats(self) -> tuple[str, ...]:
        """What goes with every answer: whether a stage has taught the model to choose frames."""
        if self.config.weights.note:
            return (self.config.weights.note,)
        if self.state_of("localizer"):
            return ()
        return (f"{self.config.name} chooses frames by being asked in words: no stage has trained it for that",)

    @property
    def feature_encoder(self) -> FrameEncoder:
        """The vision tower: pictures of the video's own size to features [parts, 1 + P, E]."""
        return FrameEncoder(f"vision of {self.config.name}", self._watch, takes_prepared=False)

    @property
    def encoders(self) -> tuple[FrameEncoder, ...]:
        """Features alone: both roles read them."""
        return (self.feature_encoder,)

    def encoder_at(self, scale: float) -> FrameEncoder:
        """Return the vision tower for pictures whose sides are this part of the video's."""
        if scale == 1:
            return self.feature_encoder
        return FrameEncoder(f"vision at {scale:g}", _Smaller(self, scale), takes_prepared=False)

    def watching_key(self) -> str:
        """Return a digest of what features depend on beside frames."""
        vision = {name: part for name, part in self.backbone.parts().items() if name != "language"}
        made = {"vision": self._made_of(), "device": self.device.type, "features": "after their size"}
        return digest(made, vision)

    def words(self, prompt: str | Prompt) -> ChatPrompt:
        """Return a prompt as a chat model is asked it."""
        return as_chat_prompt(prompt)

    def as_scorer(self, *, prompt: str | Prompt) -> FrameScorer:
        """Return the role that scores frames."""
        return HFLocalizer(model=self, prompt=self.words(prompt))

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> Answerer:
        """Return the role that answers."""
        return HFAnswerer(model=self, prompt=self.words(prompt), packing=packing)

    def _watch(self, frames: FrameBatch | torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Make features of frames of one video, or of pictures [3, H, W] of several."""
        if isinstance(frames, FrameBatch):
            return self.backbone.features(frames.frames)
        return self.backbone.features([_as_picture(pixels) for pixels in frames])

    @property
    def image_size(self) -> int:
        """Side in pixels of square pictures that the model sees without loss."""
        return self.backbone.picture_side()

    def make_digest(self) -> str:
        """Return a digest of all that answers depend on beside weights, precision and device."""
        tokenizer = self.backbone.tokenizer
        words = [tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())]
        template = self.backbone.processor.chat_template or tokenizer.chat_template
        return digest({"made_of": self._made_of(), "words": words, "template": template, "lora": self.config.lora})

    def _made_of(self) -> dict[str, Any]:
        pictures = self.backbone.processor.image_processor.to_dict()
        return {"model": self.network.config.to_dict(), "pictures": pictures, "tokens": self.config.frame_tokens}

    def quantize(self, name: str) -> None:
        """Replace the weights of linear layers by whole numbers; see `quantize_parts`."""
        if self.adapters is not None:
            raise ConfigError("adapters are not trained over quantised weights; leave quantize out")
        # Whether prefixes can be shared is told by small differences, which whole numbers would round away or blow up.
        side = self.image_size
        self.backbone.shares_prefixes(self.backbone.features(np.zeros((1, side, side, 3), np.uint8)))
        quantize_parts(self.backbone.parts().values(), name)

    def compile_parts(self) -> None:
        """Let the layers of vision tower and language model run compiled."""
        for part in self.backbone.parts().values():
            for block in repeated_blocks(part):
                block.compile(dynamic=True)

    def prompt_warnings(self) -> list[str]:
        """Say how many prompts were not read as they were given."""
        count = self._num_control
        return [f"{count} prompts hold control tokens of the model, which were read as plain text"] if count else []

    def published_names(self) -> dict[str, str]:
        """Return nothing: no published code trains this model so."""
        return {}

    # -- training -----------------------------------------------------------------------------------------------------

    def set_trainable(self, roles: Sequence[str]) -> None:
        """Let the adapters of these roles train, and freeze everything else.

        Raises:
            ConfigError: not a role, or the model was loaded without adapters.
        """
        for role in roles:
            check_role(role)
        if roles and self.adapters is None:
            raise ConfigError(f"{self.config.name} has no adapters to train; set model.lora, such as {{rank: 16}}")
        self.network.requires_grad_(requires_grad=False)
        if self.adapters is not None:
            self.adapters.set_trainable(roles)
        self.train(self.training)

    def train(self, mode: bool = True) -> "HFModel":  # noqa: FBT001, FBT002  # torch's signature
        """Set training mode for what trains, which is dropout of adapters; everything else stays in eval."""
        super().train(mode)
        self.network.eval()
        for dropout in self.adapters.dropouts() if mode and self.adapters is not None else ():
            dropout.train()
        return self

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named parameters that train."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name, with the layer from states to words where it has weights of its own."""
        head, words = self.network.get_output_embeddings(), self.network.get_input_embeddings()
        alone = {} if head is None or head.weight is words.weight else {"head": head}
        return {**self.backbone.parts(), **alone}

    def checkpoint_activations(self, *, method: str) -> None:
        """Recompute activations of the language model in the backward pass, with the adapter of the forward pass.

        Raises:
            ConfigError: by a method other than torch's own.
        """
        if method == "fairscale":
            raise ConfigError("model.checkpointing=fairscale is for SeViLA; image-text models take torch")
        checkpoint_activations(self.backbone.parts()["language"], method=method, again=self._as_now)

    def _as_now(self) -> AbstractContextManager[None]:
        return nullcontext() if self.adapters is None else self.adapters.as_now()

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the frozen vision tower on pixels [N, 3, H, W]: colours from 0 to 1, or to 255 in uint8."""
        return self._watch(pixels)

    def states(self, role: str, features: torch.Tensor) -> torch.Tensor:
        """Return features as they are: adapters work in the language model."""
        check_role(role)
        return features

    def used(self, role: str) -> AbstractContextManager[None]:
        """Compute with a role's adapter within the block."""
        return nullcontext() if self.adapters is None else self.adapters.used(role)

    def state_of(self, role: str) -> str:
        """Return which weights a role computes with: its own name where its adapter changes anything."""
        return role if self.adapters is not None and self.adapters.changes(role) else ""

    def relevance_loss(self, states: torch.Tensor, prompts: Sequence[str], relevant: torch.Tensor) -> RelevanceLoss:
        """Teach the Localizer to say "yes" or "no" of each frame: the cross-entropy of the next token.

        Args:
            states: features [B, T, parts, 1 + P, E].
            relevant: bool [B, T].
        """
        with self.used("localizer"):
            found = self._next(states, prompts)
        yes, no = log_sums(found, self.yes_no).unbind(-1)
        wanted = relevant.flatten().to(yes.device)
        loss = (_total(found) - torch.where(wanted, yes, no)).mean()
        return RelevanceLoss(loss, (yes > no).detach().view(relevant.shape))

    def answer_loss(
        self,
        states: torch.Tensor,
        prompts: Sequence[str],
        answers: Sequence[int],
        *,
        packing: str,
        times_s: Sequence[Sequence[float]] | None = None,
    ) -> AnswerLoss:
        """Teach the Answerer to say the right letter: the cross-entropy of the next token.

        Args:
            states: features [B, K, parts, 1 + P, E].
            times_s: [B, K], for the text before each frame where frames are read together.
        """
        _check_packing(packing)
        with self.used("answerer"):
            if packing == "joint":
                sizes = self.backbone.sizes_of(states[:, 0])
                times = times_s or [[0.0] * states.shape[1]] * len(prompts)
                rows = [
                    self.backbone.ids(labelled(prompt, row, MultipleChoiceChat()), size)
                    for prompt, row, size in zip(prompts, times, sizes, strict=True)
                ]
                found, right = self.backbone.logits(rows, states.flatten(0, 1)), list(answers)
            else:
                found = self._next(states, prompts)
                right = [answer for answer in answers for _ in range(states.shape[1])]
        letters = [self.letter_ids(answer) for answer in right]
        chosen = torch.stack([log_sums(row[None], [ids])[0, 0] for row, ids in zip(found, letters, strict=True)])
        best = found.detach().argmax(-1)
        is_right = torch.stack([(token == ids).any() for token, ids in zip(best, letters, strict=True)])
        return AnswerLoss((_total(found) - chosen).mean(), is_right)

    @torch.no_grad()
    def frame_choices(self, states: torch.Tensor, prompts: Sequence[str], num_options: Sequence[int]) -> torch.Tensor:
        """Return the option that the Answerer chooses on each frame alone: features [B, T, ...] to int64 [B, T]."""
        with self.used("answerer"):
            found = self._next(states, prompts)
        counts = torch.tensor(num_options, device=found.device).repeat_interleave(states.shape[1])
        logits = log_sums(found, [self.letter_ids(option) for option in range(int(counts.max()))])
        beyond = torch.arange(logits.shape[1], device=logits.device) >= counts[:, None]
        return logits.masked_fill(beyond, -torch.inf).argmax(-1).view(states.shape[:2])

    def letter_ids(self, option: int) -> torch.Tensor:
        """Return the tokens that choose an option."""
        return self.backbone.word_ids(OPTION_LETTERS[option])

    def _next(self, states: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Return the logits [B * T, V] of the next token after each frame of [B, T, ...] with its prompt."""
        asked = zip(prompts, self.backbone.sizes_of(states[:, 0]), strict=True)
        rows = [ids for prompt, size in asked for ids in [self.backbone.ids([IMAGE, prompt], size)] * states.shape[1]]
        return self.backbone.logits(rows, states.flatten(0, 1))

    # -- what both roles need -----------------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Prompts that are run at once."""
        return _CPU_BATCH if self.device.type == "cpu" else _BATCH

    def unread(self, question: Question) -> Unread:
        """Return what of a question is not read as it was given."""
        held = self.backbone.control_tokens(" ".join((question.text, *question.options)))
        self._num_control += bool(held)
        return Unread(unspelt=tuple(held))

    def prefix_encoder(self, role: str) -> FrameEncoder:
        """Return the step from features to keys and values of a frame's prefix, with the role's weights as they are."""
        runs = {"localizer": self._localizer_prefix, "answerer": self._answerer_prefix, "": self._plain_prefix}
        changes = self.adapters.num_changes(role) if self.adapters is not None and role else 0
        return FrameEncoder(f"prefix {role} {changes}", runs[role], before=self.feature_encoder)

    # Encoders compare by what they run; bound methods of one model are equal, other closures are not.
    def _localizer_prefix(self, features: torch.Tensor) -> torch.Tensor:
        return self._prefix(features, "localizer")

    def _answerer_prefix(self, features: torch.Tensor) -> torch.Tensor:
        return self._prefix(features, "answerer")

    def _plain_prefix(self, features: torch.Tensor) -> torch.Tensor:
        return self._prefix(features, "")

    def _prefix(self, features: torch.Tensor, state: str) -> torch.Tensor:
        ids, _ = self.backbone.split(self.backbone.ids([IMAGE, "?"], self.backbone.size_of(features)))
        return self.backbone.prefix(features, ids, state=state)

    def check_finite(self, numbers: Any, question: Question) -> None:
        """Refuse numbers that are none.

        Raises:
            NotFiniteError: one is not finite.
        """
        if not np.isfinite(numbers).all():
            raise NotFiniteError(
                f"question {question.id or question.text!r:.80} has scores that are not finite; they began in "
                f"{self.config.name}, computed in {str(self.backbone.dtype).removeprefix('torch.')}; try another dtype"
            )


class HFLocalizer:
    """Scores frames by the logit of "yes", each with a prefix that serves all questions where the model allows it."""

    def __init__(self, *, model: HFModel, prompt: ChatPrompt) -> None:
        self._model, self._prompt = model, prompt

    @torch.inference_mode()
    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score all frames for each question, or only those where `where` [B, T] is true; the rest are NaN."""
        model, backbone = self._model, self._model.backbone
        asked = np.ones((len(questions), len(frames)), dtype=bool) if where is None else where
        positions = np.flatnonzero(asked.any(0))
        scores = np.full((2, *asked.shape), np.nan)
        if len(positions):
            first = frames.encoded(model.feature_encoder, positions)[:1]
            size = backbone.size_of(first)
            prompts = [backbone.ids([IMAGE, self._prompt.localizer(question)], size) for question in questions]
            state = model.state_of("localizer")
            with model.used("localizer"):
                prefixes = _Prefixes(model, frames, first, state=state)
                for chunk in _chunks(positions, model.batch_size):
                    for row, ids in enumerate(prompts):
                        some = chunk[asked[row, chunk]]
                        if len(some):
                            logits = log_sums(prefixes.next_logits(ids, some), model.yes_no)
                            scores[:, row, some] = logits.T.double().cpu().numpy()
        yes, no = scores
        for row, question in enumerate(questions):
            model.check_finite((yes - no)[row, asked[row]], question)
        return FrameScores(scores=yes, margins=yes - no, unread=tuple(map(model.unread, questions)))

    def frame_states(self, frames: FrameSource, positions: npt.ArrayLike | None = None) -> torch.Tensor:
        """Return the mean of what stands in place of image tokens, [N, E]; see `ShowsStates`."""
        features = frames.encoded(self._model.feature_encoder, positions)
        return features[:, 0, :-1].mean(dim=1)  # the first part; the last row is the picture's size

    @torch.no_grad()
    def text_states(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the mean word embedding of texts, [B, E]; see `ShowsStates`."""
        return torch.stack([self._model.backbone.word_states(text).mean(dim=0) for text in texts])


class _Prefixes:
    """Asks about single frames, over prefixes that are kept, made again for each chunk, or not shared at all."""

    def __init__(self, model: HFModel, frames: FrameSource, first: torch.Tensor, *, state: str) -> None:
        self._model, self._frames, self._state = model, frames, state
        backbone = model.backbone
        self._size = backbone.size_of(first)
        self._encoder = model.prefix_encoder(state)
        self._shares = backbone.shares_prefixes(first, state=state)
        self._head = backbone.split(backbone.ids([IMAGE, "?"], self._size))[0]
        self._keeps = len(frames) * backbone.prefix_bytes(len(self._head)) <= MAX_PREFIX_BYTES
        self._made: tuple[bytes, torch.Tensor] | None = None

    def next_logits(self, ids: list[int], positions: Integers) -> torch.Tensor:
        """Return the logits [N, V] after a prompt about each of these frames."""
        backbone = self._model.backbone
        head, tail = backbone.split(ids)
        if not self._shares or head != self._head:
            features = self._frames.encoded(self._model.feature_encoder, positions)
            return backbone.logits([ids] * len(positions), features)
        return backbone.continued_logits(self._of(positions), tail, size=self._size, state=self._state)

    def _of(self, positions: Integers) -> torch.Tensor:
        if self._keeps:
            return self._frames.encoded(self._encoder, positions)
        if self._made is None or self._made[0] != positions.tobytes():
            features = self._frames.encoded(self._model.feature_encoder, positions)
            self._made = positions.tobytes(), self._encoder.run(features)
        return self._made[1]


class HFAnswerer:
    """Reads chosen frames and picks an option, or writes an open answer.

    Args:
        packing: "joint" for all frames in one prompt, each after its time; "per_frame" for a vote.

    Raises:
        ConfigError: another packing.
    """

    def __init__(self, *, model: HFModel, prompt: ChatPrompt, packing: str) -> None:
        _check_packing(packing)
        self._model, self._prompt, self._joint = model, prompt, packing == "joint"

    @property
    def reads_sizes(self) -> bool:
        """Whether the size of a picture makes a difference."""
        return self._model.backbone.reads_sizes

    def frame_tokens(self, frames: FrameSource, sizes: Floats) -> Integers:
        """Return the image tokens of frames read at these sizes [K], parts of their own."""
        model = self._model
        seen = np.setdiff1d(np.arange(len(frames)), frames.missing(model.feature_encoder, np.arange(len(frames))))
        if len(seen):
            own = model.backbone.size_of(frames.encoded(model.feature_encoder, seen[:1]))
        else:
            own = frames.picture_size()
        tokens = {scale: model.backbone.layout(_scaled(own, scale)).tokens for scale in set(sizes.tolist())}
        return np.array([tokens[scale] for scale in sizes.tolist()], dtype=np.int64)

    @torch.inference_mode()
    def answer(
        self, frames: FrameSource, positions: Integers, questions: Sequence[Question], *, sizes: Floats | None = None
    ) -> list[Reading]:
        """Answer each question from its own frames, `positions` [B, K], at `sizes` [B, K] where they are given."""
        at_once = max(1, self._model.batch_size // positions.shape[1])
        readings: list[Reading] = []
        with self._model.used("answerer"):
            for start in range(0, len(questions), at_once):
                rows = slice(start, start + at_once)
                some, chosen = questions[rows], positions[rows]
                features = self._seen(frames, chosen, None if sizes is None else sizes[rows])
                prompts = self._prompts(some, frames.times_s[chosen], features)
                read = self._choose if some[0].options else self._write
                readings += read(prompts, features, some)
        return readings

    def _seen(self, frames: FrameSource, positions: Integers, sizes: Floats | None) -> torch.Tensor:
        """Return the features of frames [B, K], in their order."""
        if sizes is None:
            return frames.encoded(self._model.feature_encoder, positions)
        places, scales = positions.ravel(), sizes.ravel()
        seen: dict[tuple[int, float], torch.Tensor] = {}
        for scale in np.unique(scales).tolist():
            some = np.unique(places[scales == scale])
            found = frames.encoded(self._model.encoder_at(scale), some)
            seen.update(((place, scale), features) for place, features in zip(some.tolist(), found, strict=True))
        return joined([seen[key][None] for key in zip(places.tolist(), scales.tolist(), strict=True)])

    def _prompts(self, questions: Sequence[Question], times_s: Floats, features: torch.Tensor) -> list[list[int]]:
        """Return a prompt for each question, or for each of its frames; `times_s` [B, K]."""
        backbone, prompts = self._model.backbone, []
        sizes = backbone.sizes_of(features)
        for row, (question, times) in enumerate(zip(questions, times_s, strict=True)):
            text, own = self._prompt.answerer(question), sizes[row * len(times) : (row + 1) * len(times)]
            if self._joint:
                prompts.append(backbone.ids(labelled(text, times, self._prompt), *own))
            else:
                of_size = {size: backbone.ids([IMAGE, text], size) for size in set(own)}
                prompts += [of_size[size] for size in own]
        return prompts

    def _choose(self, prompts: list[list[int]], features: torch.Tensor, questions: Sequence[Question]) -> list[Reading]:
        most = max(len(question.options) for question in questions)
        letters = [self._model.letter_ids(option) for option in range(most)]
        rows = log_sums(self._model.backbone.logits(prompts, features), letters).double().cpu().numpy()
        readings = []
        for question, logits in zip(questions, rows.reshape(len(questions), -1, most), strict=True):
            logits = logits[:, : len(question.options)]
            self._model.check_finite(logits, question)
            choices = logits.argmax(1)
            votes = np.bincount(choices, minlength=len(question.options))
            index = int(np.lexsort((logits.sum(0), votes))[-1])
            alone = np.empty(0, np.int64) if self._joint else choices
            unread = self._model.unread(question)
            readings.append(Reading(index, question.options[index], logits.mean(0), alone, unread))
        return readings

    def _write(self, prompts: list[list[int]], features: torch.Tensor, questions: Sequence[Question]) -> list[Reading]:
        if len(prompts) != len(questions):
            raise QuestionError("an open answer needs frames read together; use the reader 'joint' or give options")
        texts = self._model.backbone.write(prompts, features)
        nothing = np.empty(0), np.empty(0, np.int64)
        return [
            Reading(None, text, *nothing, self._model.unread(question))
            for text, question in zip(texts, questions, strict=True)
        ]


def _as_picture(pixels: torch.Tensor) -> Picture:
    """Return a picture uint8 [H, W, 3] of pixels [3, H, W]."""
    colours = pixels if pixels.dtype == torch.uint8 else (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    picture: Picture = colours.permute(1, 2, 0).cpu().numpy()
    return picture


def labelled(text: str, times_s: Sequence[float], prompt: ChatPrompt) -> list[str | dict[str, str]]:
    """Return a message of frames, each after its time, and then the text."""
    return [part for time_s in times_s for part in (prompt.frame_label(float(time_s)), IMAGE)] + [text]


@dataclass(frozen=True)
class _Smaller:
    """The vision tower of a model, for pictures that are made smaller first; equal to another that does the same."""

    model: HFModel
    scale: float

    def __call__(self, frames: FrameBatch | torch.Tensor) -> torch.Tensor:
        """Return the features [N, parts, 1 + P, E] of frames."""
        pictures = frames.frames if isinstance(frames, FrameBatch) else [_as_picture(pixels) for pixels in frames]
        sizes = [_scaled(picture.shape[:2], self.scale) for picture in pictures]
        return self.model.backbone.features(
            [
                np.asarray(Image.fromarray(picture).resize((width, height)))
                for picture, (height, width) in zip(pictures, sizes, strict=True)
            ]
        )


def _scaled(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Return a height and width made smaller, of at least one pixel."""
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def repeated_blocks(part: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a network."""
    for module in part.modules():
        if isinstance(module, nn.ModuleList):
            yield from module


def _check_packing(packing: str) -> None:
    if packing not in PACKINGS:
        raise ConfigError(f"image-text models do not read frames by {packing!r}; {did_you_mean(packing, PACKINGS)}")


def _total(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(at_least_fp32(logits.dtype)).logsumexp(-1)


def _chunks(positions: Integers, size: int) -> Iterator[Integers]:
    return (positions[start : start + size] for start in range(0, len(positions), size))

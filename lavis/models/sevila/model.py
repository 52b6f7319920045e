"""The SeViLA model: frames to tokens once, then any question on them (paper, section 3).

Shapes: N frames, B questions, T frames per question, K keyframes, Q query tokens, E language
width, O options, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.registry import registry
from lavis.common.types import FrameBatch
from lavis.models.base import Answerer, AnswerLoss, FrameScorer, RelevanceLoss
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameEncoder
from lavis.models.language.checkpointing import checkpoint_activations
from lavis.models.language.t5 import IGNORED, T5LanguageModel
from lavis.models.pipeline import WatchedVideo, watch
from lavis.models.precision import at_least_fp32
from lavis.models.prompter import VisualPrompter
from lavis.models.sevila.config import SeViLAConfig
from lavis.models.sevila.loading import PretrainedSeViLA
from lavis.models.sevila.outputs import FrameLogits, OpenAnswers, OptionLogits, TextLoss
from lavis.models.sevila.packing import FramePacking, PerFramePacking
from lavis.models.sevila.roles import SeViLAAnswerer, SeViLALocalizer
from lavis.processors.prompts import Prompt, as_prompt, option_target
from lavis.processors.transforms import EvalTransform

ROLES = ("localizer", "answerer")


class SeViLA(PretrainedSeViLA):
    """One frozen vision tower and language model with two visual prompters between them.

    Args:
        vision: pixels [N, 3, H, W] to patch features [N, P, D].
        localizer: the Localizer's visual prompter.
        answerer: the Answerer's visual prompter.
        language: the frozen language model both roles speak through.
        config: what the model was built from: preprocessing, and what is known of its weights.
    """

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
        """Let the visual prompters of these roles train, and freeze everything else.

        Raises:
            ConfigError: not a role.
        """
        for role in roles:
            if role not in ROLES:
                raise ConfigError(f"cannot train {role!r}; {did_you_mean(role, ROLES)}")
        self._trainable = frozenset(roles)
        for name, part in self.named_children():
            part.requires_grad_(name in self._trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> "SeViLA":  # noqa: FBT001, FBT002  # torch's signature
        """Set training mode for the trainable parts; frozen parts stay in eval whatever `mode` is.

        Dropout in a frozen part would make keyframes and pseudo-labels change from run to run.
        """
        super().train(mode)
        for name, part in self.named_children():
            if name not in self._trainable:
                part.eval()
        return self

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

    def run_part_with(self, name: str, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Let a function, such as a compiled one, do what the forward pass of a part does when frames are watched."""
        self._runs[name] = run

    @property
    def replaced_runs(self) -> tuple[str, ...]:
        """Names of the parts that another function runs."""
        return tuple(sorted(self._runs))

    def compile_parts(self) -> None:
        """Let all that runs many rows run compiled; see `compile_model`."""
        # Compiling needs parts of torch that take a while to import.
        from lavis.models.sevila.compiled import compile_model

        compile_model(self)

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

    def answer_openly(
        self, tokens: torch.Tensor, prompts: Sequence[str], *, packing: FramePacking, max_new_tokens: int = 30
    ) -> OpenAnswers:
        """Let the Answerer write a free answer to each of B prompts on tokens [B, K, Q, E]."""
        text = self.language.tokenize(prompts, end_of_text=True)
        inputs = packing.inputs(self.language, tokens, text)
        texts, finite = self.language.generate(inputs, max_new_tokens=max_new_tokens)
        return OpenAnswers(texts, finite, text.unread)

    def text_loss(
        self, tokens: torch.Tensor, prompts: Sequence[str], targets: Sequence[str], *, packing: FramePacking
    ) -> TextLoss:
        """Predict target texts from tokens [B, K, Q, E] and B prompts, teacher-forced.

        Args:
            targets: one text per row the reader makes: B of them, or B * K where frames are read alone.
        """
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
        """Teach the Localizer to write "yes" or "no" for each frame (paper, section 3.3).

        Args:
            states: its query tokens [B, T, Q, E].
            relevant: bool [B, T].
        """
        targets = ["yes" if yes else "no" for yes in relevant.flatten().tolist()]
        found = self.text_loss(states, prompts, targets, packing=PerFramePacking())
        first = found.logits[:, 0].detach()
        says_yes = first[:, self.language.yes_id] > first[:, self.language.no_id]
        return RelevanceLoss(found.loss, says_yes.view(relevant.shape))

    def answer_loss(
        self, states: torch.Tensor, prompts: Sequence[str], answers: Sequence[int], *, packing: str
    ) -> AnswerLoss:
        """Teach the Answerer to write "Option X" for the right option, from query tokens [B, K, Q, E]."""
        packed: FramePacking = registry.frame_packings.get(packing)()
        rows = packed.rows_per_question(states.shape[1])
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
        facts = {"vision": self.config.watching, "device": self.device.type, "replaced_runs": self.replaced_runs}
        return digest(facts, {name: self.get_submodule(name) for name in ("vision", *ROLES)})

    def as_scorer(self, *, prompt: str | Prompt) -> FrameScorer:
        """Return the role that scores frames."""
        return SeViLALocalizer(model=self, prompt=as_prompt(prompt))

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> Answerer:
        """Return the role that answers."""
        return SeViLAAnswerer(model=self, prompt=as_prompt(prompt), packing=registry.frame_packings.get(packing)())

    def watch(self, path: str | Path, **options: Any) -> WatchedVideo:
        """Watch a video file once; options as in `lavis.models.pipeline.watch`."""
        return watch(self, path, **options)

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

"""One training step as the published code writes it, as the baseline of training's speed and memory.

It is built from our own modules, so that both sides have the same weights and compute the same loss. What it does
that our step does not, and how that is known:

- Everything is in training mode, frozen parts too, so that dropout is drawn and kept in the language model and in
  the role that makes labels or chooses frames (`run.published_quirks` does the same). Vision has no dropout.
- The vision tower runs in the same pass, without `no_grad`; as neither it nor the pixels have gradients, nothing is
  kept of it. LayerNorms and projections of both roles stay trainable (`lavis.tasks.build`), so the LayerNorm of
  the role that learns is kept for all frames, chosen or not (`train_qa_with_loc` among the figures of
  `tests/parity/golden`: 12 frames through `ln_vision`, 4 through `qformer`).
- Self-refinement makes pseudo-labels with a teacher-forced pass on each frame with the right answer as the target,
  which also computes a loss that nothing uses (`qa_loss_unused` in the same figures).
- Answerer fine-tuning chooses frames with `generate` on every frame, all in one call, with scores and hidden states
  of all steps. As in `benchmarks.published` it is held to the 3 new tokens that trained weights write, and has the
  decoder cache that the published modules lost.
- The language model is called with labels and keeps everything for the backward pass; attention is eager in all
  parts (`as_published`). The published step is undivided: backward, AdamW, gradients set to none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

from benchmarks.published import generate_as_published
from lavis.datasets.dataset import ClipBatch
from lavis.models.language.t5 import IGNORED, LanguageInput, T5LanguageModel
from lavis.models.precision import at_least_fp32
from lavis.models.sevila.model import JointPacking, PerFramePacking, SeViLA
from lavis.models.vision.blip2 import VisualPrompter
from lavis.processors.prompts import MultipleChoicePrompt, option_target
from lavis.runners.build import set_training_as_published, unfreeze_as_published
from lavis.runners.optim import build_adamw
from lavis.selection.policies.plain import top_positions
from lavis.tasks.build import resolve_task

Loss = Callable[[SeViLA, ClipBatch], torch.Tensor]


class PublishedStep:
    """Runs optimizer steps on a model that `as_published` has made.

    Args:
        task: "self_refinement" or "answerer_finetuning".
        num_keyframes: frames that the Answerer learns from.
        autocast: precision of what is safe to compute in it; None computes as the weights are.
    """

    def __init__(
        self, model: SeViLA, *, task: str, num_keyframes: int, lr: float, autocast: torch.dtype | None = None
    ) -> None:
        unfreeze_as_published(model, resolve_task(task))
        for _, parameter in model.trainable_parameters():
            parameter.data = parameter.data.to(at_least_fp32(parameter.dtype))
        self._model = model
        self._loss: Loss = PublishedRefinement() if task == "self_refinement" else PublishedFinetuning(num_keyframes)
        self._optimizer = build_adamw(model.trainable_parameters(), lr=lr)
        self._autocast = autocast
        set_training_as_published(model)

    def backward(self, batch: ClipBatch) -> float:
        """Compute gradients; return the loss."""
        enabled = self._autocast is not None
        with torch.autocast(self._model.device.type, dtype=self._autocast, enabled=enabled):
            loss = self._loss(self._model, batch)
        loss.backward()
        return float(loss.detach())

    def apply(self) -> None:
        """Change the weights."""
        self._optimizer.step()
        self._optimizer.zero_grad()


class PublishedRefinement:
    """Labels by the frozen Answerer, then the Localizer's loss on them."""

    def __call__(self, model: SeViLA, batch: ClipBatch) -> torch.Tensor:
        """Return the loss of the Localizer's verdicts."""
        prompt, shape = MultipleChoicePrompt(), batch.pixels.shape[:2]
        features = model.features(batch.pixels.flatten(0, 1))
        relevant = self._pseudo_labels(model, batch, features)
        tokens = model.localizer(features).unflatten(0, shape)
        text = model.language.tokenize([prompt.localizer(asked) for asked in batch.questions], end_of_text=True)
        inputs = PerFramePacking().inputs(model.language, tokens, text)
        loss: torch.Tensor = _with_labels(model.language, inputs, ["yes" if yes else "no" for yes in relevant]).loss
        return loss

    @torch.no_grad()
    def _pseudo_labels(self, model: SeViLA, batch: ClipBatch, features: torch.Tensor) -> list[bool]:
        """Tell for each frame, all of the first question first, whether the Answerer is right on it alone."""
        prompt, (_, num_frames) = MultipleChoicePrompt(), batch.pixels.shape[:2]
        tokens = model.answerer(features).unflatten(0, (-1, num_frames))
        text = model.language.tokenize([prompt.answerer(asked) for asked in batch.questions], end_of_text=True)
        inputs = PerFramePacking().inputs(model.language, tokens, text)
        answers = [_answer(asked.answer) for asked in batch.questions for _ in range(num_frames)]
        most = max(len(asked.options) for asked in batch.questions)
        made = _with_labels(model.language, inputs, [option_target(answer) for answer in answers])
        chosen = made.logits[:, 1, model.language.option_ids(most)].argmax(-1)
        return [choice == answer for choice, answer in zip(chosen.tolist(), answers, strict=True)]


@dataclass(frozen=True)
class PublishedFinetuning:
    """Frames chosen by the frozen Localizer, then the Answerer's loss on them."""

    num_keyframes: int

    def __call__(self, model: SeViLA, batch: ClipBatch) -> torch.Tensor:
        """Return the loss of the right options."""
        prompt, shape = MultipleChoicePrompt(), batch.pixels.shape[:2]
        features = model.features(batch.pixels.flatten(0, 1))
        positions = self._positions(model, batch, features)
        normed = _normed(model.answerer, features).unflatten(0, shape)
        row = torch.arange(shape[0], device=normed.device)[:, None]
        tokens = _tokens(model.answerer, normed[row, positions].flatten(0, 1)).unflatten(0, positions.shape)
        text = model.language.tokenize([prompt.answerer(asked) for asked in batch.questions], end_of_text=True)
        inputs = JointPacking().inputs(model.language, tokens, text)
        targets = [option_target(_answer(asked.answer)) for asked in batch.questions]
        loss: torch.Tensor = _with_labels(model.language, inputs, targets).loss
        return loss

    @torch.no_grad()
    def _positions(self, model: SeViLA, batch: ClipBatch, features: torch.Tensor) -> torch.Tensor:
        """Return the frames with the highest logits of "yes", [B, K] in time order."""
        prompt, shape = MultipleChoicePrompt(), batch.pixels.shape[:2]
        tokens = _tokens(model.localizer, _normed(model.localizer, features)).unflatten(0, shape)
        text = model.language.tokenize([prompt.localizer(asked) for asked in batch.questions], end_of_text=True)
        inputs = PerFramePacking().inputs(model.language, tokens, text)
        says_yes = generate_as_published(model.language, inputs)[0][:, model.language.yes_id]
        scores = says_yes.double().unflatten(0, shape).cpu().numpy()
        return torch.from_numpy(top_positions(scores, self.num_keyframes)).to(features.device)


def _normed(prompter: VisualPrompter, features: torch.Tensor) -> torch.Tensor:
    return prompter.norm(features.to(prompter.norm.weight.dtype))


def _tokens(prompter: VisualPrompter, normed: torch.Tensor) -> torch.Tensor:
    queries = prompter.queries.expand(len(normed), -1, -1)
    hidden = prompter.qformer(query_embeds=queries, encoder_hidden_states=normed).last_hidden_state
    tokens: torch.Tensor = prompter.proj(hidden)
    return tokens


def _with_labels(language: T5LanguageModel, inputs: LanguageInput, targets: list[str]) -> Any:
    """Call the language model with labels, as its own training mode has it."""
    written = language.tokenize(targets, end_of_text=True)
    start = language.model.config.pad_token_id
    return language.model(
        inputs_embeds=inputs.embeds.to(language.dtype),
        attention_mask=inputs.mask,
        decoder_input_ids=pad(written.ids[:, :-1], (1, 0), value=start),
        decoder_attention_mask=written.mask,
        labels=written.ids.masked_fill(written.mask == 0, IGNORED),
    )


def _answer(index: int | None) -> int:
    assert index is not None, "every question of the benchmark has an answer"
    return index

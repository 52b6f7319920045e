"""Training a selector by what its frames are worth to the Answerer: `learn_selector`.

B questions, T frames each, K of them chosen.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from lavis.common.errors import ConfigError
from lavis.datasets.dataset import ClipBatch
from lavis.models.base import ImageTextModel
from lavis.models.chain import Selector, SelectorSpec, build_selector, prepared_frames, selector_name
from lavis.models.precision import at_least_fp32
from lavis.processors.prompts import Prompt
from lavis.selection.policies.trained import PART, Learning, Trained
from lavis.tasks.objectives import chosen_features, known_answer


class SelectorLearning:
    """Teach a trained selector by the loss of the frozen Answerer on the K frames that it mixes.

    In training each chosen frame is a weighted sum of all T, as the policy's relaxation says; so the loss reaches the
    scores of frames. The selector becomes a part of the model while it trains, so that it is exchanged between
    processes, averaged, saved and gone on with as every other part.
    """

    trainable: tuple[str, ...] = ()

    def __init__(self, *, prompt: str | Prompt, k: int, selector: SelectorSpec, packing: str = "joint") -> None:
        self._prompt, self._k, self._spec, self._packing = prompt, k, selector, packing
        self._selector: Selector | None = None

    def attach(self, model: ImageTextModel) -> None:
        """Make the selector a part of the model; validation finds it there.

        Raises:
            ConfigError: it is not one that trains.
        """
        assert isinstance(model, nn.Module), "what trains is one"
        model.add_module(PART, Learning())
        self._selector = build_selector(self._spec, model, prompt=self._prompt)
        if not isinstance(self._selector.policy, Trained):
            raise ConfigError(
                f"model.task=learn_selector trains the policies atp and differentiable_top_k, not "
                f"{selector_name(self._spec)}; set model.selector to one of them"
            )

    def __call__(self, model: ImageTextModel, batch: ClipBatch) -> dict[str, Any]:
        """Return the loss of the target text, the mean over questions.

        Raises:
            QuestionError: a question whose answer is not known.
        """
        selector = self._selector
        assert selector is not None, "the builder attaches it"
        assert isinstance(selector.policy, Trained)
        assert selector.scorer is not None
        selector.policy.network.train()
        rows = zip(map(batch.clip, range(len(batch))), batch.frame_idx, batch.times_s, strict=True)
        clips = [prepared_frames(model, *row) for row in rows]
        every = np.tile(np.arange(len(clips[0])), (len(clips), 1))
        states = model.states("answerer", chosen_features(model, clips, every)).unflatten(0, every.shape)
        k = selector.k or min(self._k, every.shape[1])
        weights = torch.stack(
            [
                selector.policy.soft_choice(clip, question, k=k, scorer=selector.scorer)
                for clip, question in zip(clips, batch.questions, strict=True)
            ]
        ).to(states.device)
        words = model.words(self._prompt)
        found = model.answer_loss(
            mixed(states, weights),
            [words.answerer(question) for question in batch.questions],
            [known_answer(question) for question in batch.questions],
            packing=self._packing,
            times_s=mixed(batch.times_s.to(weights.device), weights.detach()).tolist(),
        )
        return {"loss": found.loss, "accuracy": found.is_right.float().mean()}


class SelectorAndAnswererLearning(SelectorLearning):
    """Teach a selector and the Answerer that reads its frames together."""

    trainable: tuple[str, ...] = ("answerer",)


def mixed(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return K weighted sums [B, K, ...] of what T frames hold [B, T, ...], by weights [B, K, T].

    Computed in float32 at least, whatever autocast says: a weight of 1 gives the very frame.
    """
    exact = at_least_fp32(values.dtype)
    with torch.autocast(weights.device.type, enabled=False):
        sums = torch.bmm(weights.to(exact), values.reshape(*values.shape[:2], -1).to(exact))
    return sums.view(*weights.shape[:2], *values.shape[2:]).to(values.dtype)

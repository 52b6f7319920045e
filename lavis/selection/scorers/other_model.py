"""The Localizer of another model than the one that answers, or of the same with other weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lavis.common import defaults
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.models.base import FrameScorer, FrameScores, Mask
from lavis.models.fingerprint import digest, weights_digest
from lavis.models.frames import FrameSource
from lavis.models.loading import load_model
from lavis.models.precision import dtype_named


class OtherModel:
    """What another model's Localizer says of frames, such as a refined one beside the pre-trained one.

    Args:
        model: as of every command: a size, a folder, a name on the hub, a server's model.
        finetuned: weights laid over it: a folder or file, or several in order.
        prompt: how it is asked, a name in `registry.prompts`.
        device: where it computes; None is where the model that answers does.
        dtype: "fp32", "bf16" or "fp16"; None is the default of that device.

    Raises:
        ConfigError: no name of a model, an unknown prompt, or an unknown dtype.
    """

    def __init__(
        self,
        *,
        model: str = defaults.MODEL,
        finetuned: str | Sequence[str] = (),
        prompt: str = "multiple_choice",
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise ConfigError(f"the scorer model has the model {model!r}; give a name or a folder")
        registry.prompts.get(prompt)
        if dtype is not None:
            dtype_named(dtype)
        self._source, self._prompt, self._device, self._dtype = model, prompt, device, dtype
        self._finetuned = [Path(finetuned)] if isinstance(finetuned, str) else [Path(one) for one in finetuned]
        self._model: Any = None
        self._scorer: FrameScorer | None = None

    def load(self, device: str | torch.device) -> None:
        """Load the model; see `LoadsWeights`."""
        if self._model is None:
            self._model = load_model(model_type=self._source, device=self._device or device, dtype=self._dtype)
            for path in self._finetuned:
                self._model.load_partial(path)
            self._scorer = self._model.as_scorer(prompt=self._prompt)

    def fingerprint(self) -> list[str]:
        """Return what scores depend on."""
        if self._model is None:
            return [self._source, *map(str, self._finetuned)]
        return [weights_digest(self._model), self._model.make_digest(), digest({"prompt": self._prompt})]

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`."""
        assert self._scorer is not None, "it was loaded"
        return self._scorer.score(frames, questions, where=where)

"""One model chooses frames, another one answers."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lavis.common import defaults
from lavis.common.errors import ConfigError
from lavis.models.base import Answerer, FrameScorer, KnownWeights, VideoModel
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameEncoder
from lavis.models.loading import ModelSource, load_with, resolved
from lavis.models.watching import WatchesVideos
from lavis.processors.prompts import Prompt


@dataclass(frozen=True)
class MixedConfig:
    """What a mixed chain is made of; frames are prepared for the model that scores them."""

    name: str
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    weights: KnownWeights


class MixedModel(nn.Module, WatchesVideos):
    """A chain of two models: the Localizer of one, the Answerer of the other.

    What the Answerer reads is made of keyframes alone, when it reads them.
    """

    def __init__(self, localizer: Any, answerer: Any) -> None:
        super().__init__()
        # Modules among them are found by torch, with their weights.
        self.localizer, self.answerer = localizer, answerer
        watching = localizer if localizer.encoders else answerer
        known = [model.config.weights for model in (localizer, answerer)]
        self.config = MixedConfig(
            name=f"{localizer.config.name} + {answerer.config.name}",
            image_mean=watching.config.image_mean,
            image_std=watching.config.image_std,
            weights=KnownWeights(
                # The one that is known the least about decides.
                status=next((one.status for one in known if one.status != "trained"), "trained"),
                note="; ".join(dict.fromkeys(one.note for one in known if one.note)),
            ),
        )
        self._watching: VideoModel = watching

    @property
    def device(self) -> torch.device:
        """Where the Localizer computes, or the Answerer where that needs nothing here."""
        return self._watching.device

    @property
    def caveats(self) -> tuple[str, ...]:
        """What goes with every answer, of both."""
        return tuple(dict.fromkeys((*self.localizer.caveats, *self.answerer.caveats)))

    @property
    def encoders(self) -> tuple[FrameEncoder, ...]:
        """What the Localizer reads of frames."""
        return tuple(self.localizer.encoders[:1])

    @property
    def image_size(self) -> int:
        """Side in pixels of the square frames that data loaders prepare."""
        size: int = getattr(self._watching, "image_size")  # noqa: B009  # protocols of both kinds
        return size

    def watching_key(self) -> str:
        """Return the Localizer's key."""
        key: str = self.localizer.watching_key()
        return key

    def as_scorer(self, *, prompt: str | Prompt) -> FrameScorer:
        """Return the Localizer."""
        scorer: FrameScorer = self.localizer.as_scorer(prompt=prompt)
        return scorer

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> Answerer:
        """Return the Answerer."""
        answerer: Answerer = self.answerer.as_answerer(prompt=prompt, packing=packing)
        return answerer

    def make_digest(self) -> str:
        """Return a digest of all that answers depend on beside weights, precision and device."""
        return digest({role: getattr(self, role).make_digest() for role in ("localizer", "answerer")})

    def parts(self) -> dict[str, nn.Module]:
        """Return both models by their roles."""
        return {"localizer": self.localizer, "answerer": self.answerer}

    def quantize(self, name: str) -> None:
        """Quantise both."""
        for model in (self.localizer, self.answerer):
            model.quantize(name)

    def compile_parts(self) -> None:
        """Let both run compiled."""
        for model in (self.localizer, self.answerer):
            model.compile_parts()

    def load_partial(self, path: str | Path) -> list[str]:
        """Refuse weights whose model is not told.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"cannot tell which model of {self.config.name} the weights at {path} are for; name the folder of each "
            "model in place of model.finetuned"
        )

    def set_trainable(self, roles: Any) -> None:
        """Refuse to train.

        Raises:
            ConfigError: always, but for no role.
        """
        if roles:
            raise ConfigError(f"{self.config.name} is not trained as a chain; train each model, then chain them")


def load_chain(
    model: ModelSource = defaults.MODEL,
    *,
    localizer: ModelSource | None = None,
    answerer: ModelSource | None = None,
    name: str = defaults.ARCH,
    **options: Any,
) -> Any:
    """Load a model, or two that make a chain: one that chooses frames and one that answers.

    Args:
        model: fills the role that nothing else is named for; see `load_model`.
        localizer, answerer: models for one role alone.
        options: as for `load_model`; those that only some architectures take go to these.

    Raises:
        ConfigError: as for `load_model`, or an option that neither takes.

    Example:
        >>> chain = load_chain(localizer="smolvlm2-256m", answerer="qwen3-vl-4b")
    """
    common = inspect.signature(load_with).parameters
    shared = {key: value for key, value in options.items() if key in common}
    own = {key: value for key, value in options.items() if key not in common}
    sources = [model if source is None else source for source in (localizer, answerer)]
    if sources[0] == sources[1]:
        return load_with(own, name, sources[0], **shared)
    special: set[Any] = {key for key, value in own.items() if value is not None and value is not False}
    taken = [special & inspect.signature(resolved(name, one)[0].from_pretrained).parameters.keys() for one in sources]
    if unknown := special - set.union(*taken):
        raise ConfigError(f"neither {sources[0]} nor {sources[1]} takes {min(unknown)}; leave it out")
    models = [
        load_with({key: own[key] for key in keys}, name, source, **shared)
        for source, keys in zip(sources, taken, strict=True)
    ]
    return MixedModel(*models)

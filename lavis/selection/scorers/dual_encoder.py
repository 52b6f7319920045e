"""Dual encoders: one network for pictures, one for text, and how alike what they make is (CLIP, SigLIP, SigLIP 2)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from lavis.common.errors import CheckpointError
from lavis.common.types import Floats, FrameBatch, Question
from lavis.models.base import FrameScores, Mask
from lavis.models.frames import FrameSource
from lavis.selection.scorers.common import asked_positions, frame_scores, query_text
from lavis.selection.scorers.pretrained import Pretrained, PretrainedScorer, config_of, load_network

MODELS = {
    "clip": "openai/clip-vit-large-patch14",
    "clip-base": "openai/clip-vit-base-patch16",
    "siglip": "google/siglip-so400m-patch14-384",
    "siglip2": "google/siglip2-so400m-patch14-384",
    "siglip2-base": "google/siglip2-base-patch16-224",
}
"""Short names of models on the hub; any other of these families works by its own name, or from a folder."""


class TwoTowers(Pretrained):
    """A dual encoder of transformers."""

    @classmethod
    def load(cls, place: str, **options: Any) -> tuple[Any, Mapping[str, Any]]:
        """Load the network.

        Raises:
            CheckpointError: it has not both a tower for pictures and one for text.
        """
        from transformers import AutoModel

        config = config_of(place)
        if not hasattr(config, "text_config") or not hasattr(config, "vision_config"):
            raise _no_dual_encoder(place, config.model_type)
        network, info = load_network(AutoModel, place, config=config, **options)
        if not all(hasattr(network, name) for name in ("get_image_features", "get_text_features", "logit_scale")):
            raise _no_dual_encoder(place, config.model_type)
        return network, info

    @property
    def scale_and_bias(self) -> tuple[float, float | None]:
        """What turns how alike two features are into a logit; CLIP has no bias, so that 0 means nothing there."""
        bias = getattr(self.network, "logit_bias", None)
        return float(self.network.logit_scale.exp()), None if bias is None else float(bias)

    def encode(self, batch: FrameBatch) -> torch.Tensor:
        """Return the features of pictures [N, D]."""
        features: torch.Tensor = self.network.get_image_features(**self.pixels(batch.frames)).pooler_output
        return features

    @torch.no_grad()
    def text_features(self, text: str) -> torch.Tensor:
        """Return the features [D] of a text; of a long one, the mean over its pieces."""
        # SigLIP reads a text off its last token, wherever that is, and was trained with texts of one length.
        tokens = self.pieces(text, padded=self.scale_and_bias[1] is not None)
        features: torch.Tensor = self.network.get_text_features(**tokens).pooler_output
        return features.double().mean(dim=0)


class DualEncoder(PretrainedScorer):
    """Scores a frame by how alike it and the question are to a dual encoder.

    Pictures are encoded once per video, whatever is asked. A score is the model's own logit: the cosine, times its
    scale. For SigLIP a margin is the logit too, above 0 where the model finds that picture and text belong together;
    CLIP knows only which frame suits better, and a margin is how far a frame lies above the mean. A question that is
    longer than the model reads is cut into pieces, whose features are averaged.

    Args:
        model: a short name of `MODELS`, "clip" if left out, or as for `PretrainedScorer`, with the other arguments.
    """

    default: ClassVar[str] = "clip"
    short_names: ClassVar[Mapping[str, str]] = MODELS
    kind: ClassVar[type[Pretrained]] = TwoTowers

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`."""
        logits = np.full((len(questions), len(frames)), np.nan)
        scale, bias = self._network.scale_and_bias
        if len(positions := asked_positions(len(frames), where)):
            pictures, texts = (
                features / np.linalg.norm(features, axis=1, keepdims=True)
                for features in (self.frame_features(frames, positions), self.query_features(questions))
            )
            logits[:, positions] = scale * (texts @ pictures.T) + (bias or 0.0)
        return frame_scores(logits, where, margins=None if bias is None else logits, by=self._network.name)

    def frame_features(self, frames: FrameSource, positions: npt.ArrayLike | None = None) -> Floats:
        """Return the features of frames: [N, D], or [T, D] of all; see `EmbeddingScorer`."""
        found: Floats = frames.encoded(self._network.encoder, positions).double().cpu().numpy()
        return found

    def query_features(self, questions: Sequence[Question]) -> Floats:
        """Return the features of questions: [B, D]; see `EmbeddingScorer`."""
        texts = [query_text(question, self._query) for question in questions]
        # One by one, so that what a question gets does not depend on what else is asked.
        found: Floats = torch.stack([self._network.text_features(text) for text in texts]).cpu().numpy()
        return found


def _no_dual_encoder(place: str, kind: str) -> CheckpointError:
    return CheckpointError(
        f"{place} is no dual encoder: its model_type is {kind!r}; name a CLIP or SigLIP model, such as clip"
    )

"""Frame tokens of the frozen Localizer: watched anew each time, or kept on disk.

Shapes: B questions, T frames each, N frames that are asked for, Q query tokens, E language width.
"""

import hashlib
from typing import Protocol

import torch

from lavis.models.frame_cache import FrameCache, entry_key
from lavis.models.sevila.model import SeViLA
from lavis.tasks.objectives.base import FrameFeatures, TrainingBatch

_TOKENS = "localizer"


class LocalizerTokens(Protocol):
    """Where the frozen Localizer's tokens come from."""

    def at(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures, frames: torch.Tensor) -> torch.Tensor:
        """Return the tokens [N, Q, E] of frames [N], counted as in `FrameFeatures`."""
        ...


class WatchedTokens:
    """Watches the frames that are asked for."""

    @torch.no_grad()
    def at(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures, frames: torch.Tensor) -> torch.Tensor:
        """Run the Localizer's prompter."""
        del batch
        return model.localizer(features.at(frames))


class CachedTokens:
    """Watches a clip once: questions about the same clip, later epochs and later runs find its tokens on disk.

    A clip is known by its very pixels, so it must be sampled without randomness to be found. It is watched in calls of
    its own: its tokens, and what is trained on them, do not depend on whether they were found.

    Args:
        origin: names everything that tokens depend on beside the pixels.
    """

    def __init__(self, cache: FrameCache, *, origin: str) -> None:
        self._cache, self._origin = cache, origin

    @torch.no_grad()
    def at(self, model: SeViLA, batch: TrainingBatch, features: FrameFeatures, frames: torch.Tensor) -> torch.Tensor:
        """Read or make the tokens of all clips that have one of the frames."""
        del features
        num_frames = batch.pixels.shape[1]
        rows, place = (frames // num_frames).unique(return_inverse=True)
        clips = torch.stack([self._clip(model, batch.pixels[row]) for row in rows.tolist()])
        return clips[place.to(clips.device), (frames % num_frames).to(clips.device)]

    def _clip(self, model: SeViLA, pixels: torch.Tensor) -> torch.Tensor:
        digest = hashlib.sha256(pixels.cpu().contiguous().numpy().data).hexdigest()
        key = entry_key(origin=self._origin, pixels=digest, shape=list(pixels.shape))
        kept = self._cache.read(key)
        if kept is not None and kept.keys() == {_TOKENS}:
            return kept[_TOKENS].to(model.device)
        tokens = model.localizer(model.features(pixels))
        self._cache.write(key, {_TOKENS: tokens})
        return tokens

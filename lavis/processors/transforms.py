"""Pixels as the vision tower wants them."""

import torch

from lavis.common.types import FrameBatch

# CLIP's training statistics, which BLIP-2's vision tower was trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class EvalTransform:
    """Scale to [0, 1] and normalise, without any randomness.

    Frames are already square when they come from a reader: resizing happens while decoding.
    """

    def __init__(
        self, *, mean: tuple[float, float, float] = CLIP_MEAN, std: tuple[float, float, float] = CLIP_STD
    ) -> None:
        # Plain numbers: a tensor made here would follow the device a model is being built on.
        self._mean, self._std = mean, std

    def __call__(self, clip: FrameBatch) -> torch.Tensor:
        """Return float32 pixels [T, 3, H, W]."""
        pixels = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(torch.float32)
        mean, std = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (self._mean, self._std))
        return pixels.div_(255).sub_(mean).div_(std)

"""BLIP-2's vision tower (EVA ViT-g without its last block) on transformers' module.

Shapes: N frames, P patches + 1 class token, D width.
"""

from typing import Any

import torch
from torch import nn
from transformers import Blip2VisionConfig, Blip2VisionModel

from lavis.common.errors import ConfigError
from lavis.models.precision import at_least_fp32


class Blip2VisionTower(nn.Module):
    """Patch features before any final LayerNorm: each visual prompter brings its own.

    Args:
        image_size: side of the square input in pixels; must be a multiple of `patch_size`.
        width: D.
        intermediate_size: hidden width of the feed-forward blocks (published: int(width * 4.3637)).
        attn_implementation: transformers' name of the attention kernel.

    Raises:
        ConfigError: `image_size` is not a multiple of `patch_size`.
    """

    # transformers' annotations promise less than its modules do.
    model: Any

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 14,
        width: int = 1408,
        depth: int = 39,
        num_heads: int = 16,
        intermediate_size: int = 6144,
        attn_implementation: str = "sdpa",
    ) -> None:
        super().__init__()
        if image_size < patch_size or image_size % patch_size:
            raise ConfigError(f"image_size {image_size} is not a multiple of patch_size {patch_size}")
        config = Blip2VisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            layer_norm_eps=1e-6,
            qkv_bias=True,
            initializer_range=0.02,
        )
        config._attn_implementation = attn_implementation  # noqa: SLF001  # transformers' documented way round the hub
        self.model = Blip2VisionModel(config)
        self.model.post_layernorm = nn.Identity()
        self.width = width
        self.image_size = image_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels [N, 3, H, W] into features [N, P + 1, D]."""
        return self.model(pixels).last_hidden_state


def interpolate_position_embedding(table: torch.Tensor, grid: int) -> torch.Tensor:
    """Resize a position table [1, 1 + n * n, D] to [1, 1 + grid * grid, D], as published (bicubic).

    The first entry belongs to the class token and stays as it is.
    """
    old = int((table.shape[1] - 1) ** 0.5)
    if old == grid:
        return table
    patches = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).to(at_least_fp32(table.dtype))
    resized = nn.functional.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)], dim=1)

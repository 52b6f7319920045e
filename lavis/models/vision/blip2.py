"""BLIP-2's parts on transformers' modules: the vision tower (EVA ViT-g without its last block) and the visual prompter.

The prompter makes of patch features what one role (Localizer or Answerer) sees of a frame.

Shapes: N frames, P patch features (with the class token's) of width D, Q query tokens, E language width.
"""

from typing import Any

import torch
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from lavis.common.errors import ConfigError
from lavis.models.precision import at_least_fp32


class Blip2VisionTower(nn.Module):
    """Patch features before any final LayerNorm: each visual prompter brings its own.

    Args:
        image_size: side of the square input in pixels; must be a multiple of `patch_size`.
        width: D.
        intermediate_size: hidden width of the feed-forward blocks (published: int(width * 4.3637)).

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
        config._attn_implementation = "sdpa"  # noqa: SLF001  # transformers' documented way round the hub
        self.model = Blip2VisionModel(config)
        self.model.post_layernorm = nn.Identity()
        self.width = width
        self.image_size = image_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels [N, 3, H, W] into features [N, P, D]."""
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


class VisualPrompter(nn.Module):
    """LayerNorm, Q-Former with its own queries, and projection to the language model.

    The Q-Former is query-only: it never sees text, so its output depends on the frame alone and
    can be kept for every further question about the video.
    """

    def __init__(
        self,
        *,
        vision_width: int,
        language_width: int,
        num_queries: int = 32,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        cross_attention_frequency: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        config = Blip2QFormerConfig(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            encoder_hidden_size=vision_width,
            cross_attention_frequency=cross_attention_frequency,
            layer_norm_eps=1e-12,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            use_qformer_text_input=False,
            initializer_range=0.02,
        )
        config._attn_implementation = "sdpa"  # noqa: SLF001  # transformers' documented way round the hub
        self.norm = nn.LayerNorm(vision_width)
        self.queries = nn.Parameter(torch.zeros(1, num_queries, width))
        nn.init.normal_(self.queries, std=0.02)
        self.qformer = Blip2QFormerModel(config)
        self.proj = nn.Linear(width, language_width)

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.queries.shape[1]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn patch features [N, P, D] into language-model tokens [N, Q, E]."""
        normed = self.norm(features.to(self.norm.weight.dtype))
        queries = self.queries.expand(len(features), -1, -1)
        return self.proj(self.qformer(query_embeds=queries, encoder_hidden_states=normed).last_hidden_state)

"""The visual prompter: what one role (Localizer or Answerer) sees of a frame.

Shapes: N frames, P patch features of vision width D, Q query tokens, E language width.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel


@dataclass(frozen=True)
class PrompterStages:
    """What a prompter makes of patch features, step by step.

    Attributes:
        normed: [N, P, D] after LayerNorm.
        hidden: [N, Q, width of the Q-Former] after the Q-Former.
        tokens: [N, Q, E] after projection.
    """

    normed: torch.Tensor
    hidden: torch.Tensor
    tokens: torch.Tensor


class VisualPrompter(nn.Module):
    """LayerNorm, Q-Former with its own queries, and projection to the language model.

    The Q-Former is query-only: it never sees text, so its output depends on the frame alone and
    can be kept for every further question about the video.

    Args:
        vision_width: D.
        language_width: E.
        cross_attention_frequency: every how many layers the queries look at the patch features.
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
        attn_implementation: str = "sdpa",
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
        config._attn_implementation = attn_implementation  # noqa: SLF001  # transformers' documented way round the hub
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
        return self.stages(features).tokens

    def stages(self, features: torch.Tensor) -> PrompterStages:
        """Do what `forward` does and return what is made on the way."""
        normed = self.norm(features.to(self.norm.weight.dtype))
        queries = self.queries.expand(len(features), -1, -1)
        hidden = self.qformer(query_embeds=queries, encoder_hidden_states=normed).last_hidden_state
        return PrompterStages(normed, hidden, self.proj(hidden))

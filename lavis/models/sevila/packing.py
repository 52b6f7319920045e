"""How frames and text become one language-model input.

The published order is: for each frame its prefix ("Frame 2: ") and its query tokens, then the
prompt. Training and inference build their inputs here and nowhere else.

Shapes: B questions, K frames each, Q query tokens per frame, E language width, L tokens.
"""

from collections.abc import Sequence
from typing import Protocol

import torch

from lavis.models.language.t5 import LanguageInput, T5LanguageModel, Tokens


class FramePacking(Protocol):
    """Lays out frames and text for the language model, each frame as an input of its own where it `reads_alone`."""

    reads_alone: bool

    def inputs(self, language: T5LanguageModel, frames: torch.Tensor, text: Tokens) -> LanguageInput:
        """Build the inputs from frame tokens [B, K, Q, E] and prompts of B rows."""


class JointPacking:
    """All frames of a question in one input, numbered from 1, in the order given."""

    reads_alone = False

    def inputs(self, language: T5LanguageModel, frames: torch.Tensor, text: Tokens) -> LanguageInput:
        """Return inputs of B rows, [B, K * (P + Q) + L] long.

        The K prefixes are padded to the longest of them, in mid-sequence: relative positions, and so
        the published numbers, depend on it.
        """
        prefixes = language.tokenize([f"Frame {i}: " for i in range(1, frames.shape[1] + 1)], end_of_text=False)
        return _lay_out(language, prefixes, frames, text)


class PerFramePacking:
    """Every frame alone in an input of its own, with the same text."""

    reads_alone = True

    def inputs(self, language: T5LanguageModel, frames: torch.Tensor, text: Tokens) -> LanguageInput:
        """Return inputs of B * K rows (all frames of the first question first), [P + Q + L] long."""
        num_frames = frames.shape[1]
        repeated = Tokens(
            ids=text.ids.repeat_interleave(num_frames, 0),
            mask=text.mask.repeat_interleave(num_frames, 0),
            unread=text.unread,
        )
        prefix = language.tokenize(["Frame: "], end_of_text=False)
        return _lay_out(language, prefix, frames.flatten(0, 1)[:, None], repeated)


def _lay_out(language: T5LanguageModel, prefixes: Tokens, frames: torch.Tensor, text: Tokens) -> LanguageInput:
    """Interleave K prefixes with frame tokens [B, K, Q, E] and append the text of B rows."""
    rows, num_frames, num_queries, _ = frames.shape
    prefix_embeds = language.embed(prefixes).expand(rows, -1, -1, -1)
    visual = torch.cat([prefix_embeds, frames.to(prefix_embeds.dtype)], dim=2).flatten(1, 2)
    seen = prefixes.mask.new_ones(num_frames, num_queries)
    visual_mask = torch.cat([prefixes.mask, seen], dim=1).flatten().expand(rows, -1)
    return LanguageInput(
        embeds=torch.cat([visual, language.embed(text)], dim=1), mask=torch.cat([visual_mask, text.mask], dim=1)
    )


def majority_vote(option_logits: Sequence[Sequence[float]]) -> int:
    """Return the option most frames chose; ties go to the higher summed logit (voting baseline)."""
    choices = [max(range(len(row)), key=row.__getitem__) for row in option_logits]
    totals = [sum(column) for column in zip(*option_logits, strict=True)]
    return max(range(len(totals)), key=lambda option: (choices.count(option), totals[option]))

"""What the SeViLA model returns.

Shapes: N frames, P patch features of vision width D, B questions, T frames per question, K keyframes, Q query tokens,
E language width, O options.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from lavis.common.types import Unread

# Frames whose features may wait to be read: 48 MiB at base size in fp32, 44 at Flan-T5-XL size in bf16. Tokens are
# smaller, so a longer video, whose memory must stay flat, has them made at once, at the price of a pass for each frame.
MAX_DEFERRED_FRAMES = 64
_FRAMES_PER_CALL = 16


class DeferredTokens:
    """Tokens of N frames, each made when it is first asked for, with the weights of that moment, and then kept.

    Args:
        features: what the vision tower made of each frame, [P, D] each.
        make: features [n, P, D] to tokens [n, Q, E].
    """

    def __init__(self, features: Iterable[torch.Tensor], make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.features, self.make = tuple(features), make
        self._made: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the tokens [B, K, Q, E] of the frames at `positions` [B, K]."""
        frames = positions.flatten().tolist()
        self._make_missing(frames)
        return torch.stack([self._made[frame] for frame in frames]).unflatten(0, positions.shape)

    def whole(self) -> torch.Tensor:
        """Return the tokens [N, Q, E] of all frames."""
        return self[torch.arange(len(self))]

    # Kept tokens may be trained on later, which tensors made in inference mode do not allow.
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _make_missing(self, frames: Sequence[int]) -> None:
        missing = sorted(set(frames) - self._made.keys())
        for start in range(0, len(missing), _FRAMES_PER_CALL):
            some = missing[start : start + _FRAMES_PER_CALL]
            tokens = self.make(torch.stack([self.features[frame] for frame in some]))
            self._made.update(zip(some, tokens.unbind(), strict=True))


@dataclass(frozen=True)
class FrameTokens:
    """What each role sees of N frames, [N, Q, E] each; independent of any question.

    Attributes:
        answerer: those of a short video are made for the frames that are read; see `DeferredTokens`.
    """

    localizer: torch.Tensor
    answerer: torch.Tensor | DeferredTokens

    def __len__(self) -> int:
        return len(self.localizer)

    @classmethod
    def joined(cls, chunks: "Sequence[FrameTokens]") -> "FrameTokens":
        """Join consecutive chunks of one video, watched by one model."""
        localizer = torch.cat([chunk.localizer for chunk in chunks])
        parts = [chunk.answerer for chunk in chunks]
        deferred = [part for part in parts if isinstance(part, DeferredTokens)]
        if len(deferred) < len(parts) or len(localizer) > MAX_DEFERRED_FRAMES:
            return cls(localizer, torch.cat([whole(part) for part in parts]))
        return cls(localizer, DeferredTokens(chain.from_iterable(part.features for part in deferred), deferred[0].make))


def whole(tokens: torch.Tensor | DeferredTokens) -> torch.Tensor:
    """Return the tokens [N, Q, E] of all frames, and make those that are not made yet."""
    return tokens if isinstance(tokens, torch.Tensor) else tokens.whole()


@dataclass(frozen=True)
class FrameLogits:
    """The Localizer's logits of "yes" and "no" for each frame, [B, T] each."""

    yes: torch.Tensor
    no: torch.Tensor
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class OptionLogits:
    """The Answerer's logits of the option letters, [rows, O].

    Attributes:
        first_token: [rows], the token before the letter; `option_id` with trained weights.
        unread: for each question, what of its prompt the model did not read.
    """

    logits: torch.Tensor
    first_token: torch.Tensor
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class OpenAnswers:
    """Generated texts, one per prompt, whether all its logits were finite, and what of it the model did not read."""

    texts: list[str]
    finite: list[bool]
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class TextLoss:
    """How well target texts are predicted.

    Attributes:
        loss: scalar, the mean cross-entropy over all target tokens of all rows.
        logits: [rows, L_target, V].
        labels: [rows, L_target], -100 where no loss is taken.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor

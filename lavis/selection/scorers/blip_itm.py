"""BLIP's image-text matching (Li et al., 2022, section 3.2), by which AKS scores frames."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from lavis.common.errors import CheckpointError
from lavis.common.types import FrameBatch, Integers, Question
from lavis.models.base import FrameScores, Mask
from lavis.models.frames import FrameSource
from lavis.selection.scorers.common import asked_positions, frame_scores, query_text
from lavis.selection.scorers.pretrained import Pretrained, PretrainedScorer, config_of, load_network, parts_of

MODELS = {"base": "Salesforce/blip-itm-base-coco", "large": "Salesforce/blip-itm-large-coco"}
"""Short names of models on the hub."""

_AT_ONCE = 32  # frames that are compared with a question in one call
# Of the states of a video that are kept: 577 patches of 768 numbers take 1.7 MiB a frame.
MAX_STATE_BYTES = 2**30


class Matcher(Pretrained):
    """BLIP with its matching head."""

    @classmethod
    def load(cls, place: str, **options: Any) -> tuple[Any, Mapping[str, Any]]:
        """Load the network.

        Raises:
            CheckpointError: it is no BLIP.
        """
        from transformers import BlipForImageTextRetrieval

        config = config_of(place)
        if config.model_type != "blip":
            raise CheckpointError(
                f"{place} is no BLIP: its model_type is {config.model_type!r}; name one for image-text retrieval, such "
                "as base"
            )
        return load_network(BlipForImageTextRetrieval, place, config=config, **options)

    @property
    def bytes_of_picture(self) -> int:
        """Bytes of the states of one picture."""
        vision = self.network.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2 + 1
        return int(patches * vision.hidden_size * self.network.dtype.itemsize)

    def encode(self, batch: FrameBatch) -> torch.Tensor:
        """Return the states of pictures [N, patches, width]."""
        states: torch.Tensor = self.network.vision_model(**self.pixels(batch.frames)).last_hidden_state
        return states

    @torch.no_grad()
    def logits(self, states: torch.Tensor, text: str) -> torch.Tensor:
        """Return whether pictures and a text match: [N, 2], no and yes; of a long text, the mean over its pieces."""
        found = []
        tokens = self.pieces(text, padded=False)
        for piece in range(len(tokens["input_ids"])):
            made = self.network.text_encoder(
                **{name: rows[piece].expand(len(states), -1) for name, rows in tokens.items()},
                encoder_hidden_states=states,
                encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long, device=states.device),
            )
            found.append(self.network.itm_head(made.last_hidden_state[:, 0]))
        return torch.stack(found).double().mean(dim=0)


class BlipITM(PretrainedScorer):
    """Scores a frame by the probability that it matches the question, which BLIP reads beside the frame.

    What BLIP makes of pictures is kept, so a further question takes the text encoder alone; of a video of which that
    would be more than 1 GiB nothing is kept, and each call decodes and encodes its frames again. A margin is the logit
    of that probability. A question that is longer than the model reads is cut into pieces, whose logits are averaged.

    Args:
        model: "base", also if left out, or "large", or as for `PretrainedScorer`, with the other arguments.
    """

    default: ClassVar[str] = "base"
    short_names: ClassVar[Mapping[str, str]] = MODELS
    kind: ClassVar[type[Pretrained]] = Matcher

    @torch.no_grad()
    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames for questions; see `FrameScorer`."""
        network = self._network
        scores, margins = np.full((2, len(questions), len(frames)), np.nan)
        for part, states in self._states(frames, asked_positions(len(frames), where)):
            for row, question in enumerate(questions):
                asked = np.ones(len(part), bool) if where is None else where[row, part]
                if not asked.any():
                    continue
                own = states[torch.from_numpy(asked).to(states.device)]
                logits = network.logits(own, query_text(question, self._query))
                scores[row, part[asked]] = logits.softmax(dim=1)[:, 1].cpu().numpy()
                margins[row, part[asked]] = (logits[:, 1] - logits[:, 0]).cpu().numpy()
        return frame_scores(scores, where, margins=margins, by=network.name)

    def _states(self, frames: FrameSource, positions: Integers) -> Iterator[tuple[Integers, torch.Tensor]]:
        """Yield positions, some at a time, and what BLIP makes of the frames there."""
        if len(frames) * self._network.bytes_of_picture <= MAX_STATE_BYTES:
            for part in parts_of(positions, _AT_ONCE):
                yield part, frames.encoded(self._network.encoder, part)
        else:
            for part, batch in frames.decoded(positions):
                yield part, self._network.encode(batch)

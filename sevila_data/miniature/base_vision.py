"""Stage 0, vision: the tower and the Answerer's Q-Former learn to see the world, from nothing.

Dense labels do it: every patch says which thing it belongs to, where that thing's middle is, and which of its
pixels are the thing's. The heads that ask for this are thrown away.
"""

import logging
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lavis.models.vision.blip2 import Blip2VisionTower, VisualPrompter
from sevila_data.miniature.base_frames import ATTRIBUTES, Pictures
from sevila_data.miniature.base_language import initialise, learn_from, warm_cosine
from sevila_data.miniature.render import SIDE
from sevila_data.miniature.world import VALUES

logger = logging.getLogger(__name__)

_SIZES = [len(VALUES[name]) for name in ATTRIBUTES]
_ELSEWHERE_WEIGHT = 0.1  # most patches show no thing
_NEAR = 20.0  # pixels from a thing's middle within which a patch must know where it is
_MEAN_RADIUS = 12.0
_MASK_SIDE = SIDE // 2


@torch.no_grad()
def initialise_vision(tower: Blip2VisionTower, *, patch_size: int) -> None:
    """Initialise the tower with positions as waves, and attention that starts with what looks alike."""
    initialise(tower)
    embeddings = tower.model.embeddings
    grid = SIDE // patch_size
    embeddings.position_embedding[0, 0].zero_()
    embeddings.position_embedding[0, 1:].copy_(0.15 * waves(grid, tower.width))
    for layer in tower.model.encoder.layers:
        weight = layer.self_attn.qkv.weight
        weight.mul_(2)
        weight[tower.width : 2 * tower.width].copy_(weight[: tower.width])


def waves(grid: int, width: int) -> torch.Tensor:
    """Return positions of the patches of a square grid as waves: [grid * grid, width]."""
    frequencies = 1.2 / 20 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid).float()[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    return torch.cat([line[rows.flatten()], line[columns.flatten()]], dim=1)


class DenseHeads(nn.Module):
    """What patches and frame tokens are asked for.

    Shapes: N frames, P patches, D vision width, Q frame tokens, E language width.
    """

    def __init__(self, *, vision_width: int, language_width: int, patch_size: int) -> None:
        super().__init__()
        self._grid = SIDE // patch_size
        self._patch_size = patch_size
        self._mask_side = _MASK_SIDE // self._grid
        self.patch = nn.ModuleList(nn.Linear(vision_width, size + 1) for size in _SIZES)
        self.frame = nn.ModuleList(nn.Linear(language_width, size) for size in _SIZES)
        self.middle = nn.Linear(vision_width, 3)
        self.mask = nn.Linear(vision_width, self._mask_side**2)

    def forward(
        self, features: torch.Tensor, tokens: torch.Tensor, pictures: Pictures
    ) -> tuple[torch.Tensor, list[float]]:
        """Return the loss of patches [N, 1 + P, D] and frame tokens [N, Q, E], and each attribute's accuracy."""
        patches, frame = features[:, 1:].float(), tokens.float().mean(1)
        loss = self._place_loss(patches, pictures) + 4 * self._mask_loss(patches, pictures)
        to_middle = self._to_middle(pictures)
        inside = to_middle.norm(dim=2) * self._patch_size < pictures.places[:, None, 2]
        accuracies = []
        for column, (name, size) in enumerate(zip(ATTRIBUTES, _SIZES, strict=True)):
            value = pictures.values[:, column]
            shown = value[:, None].expand(inside.shape)
            expected = shown if name == "place" else torch.where(inside, shown, torch.full_like(shown, size))
            weight = torch.ones(size + 1)
            weight[size] = _ELSEWHERE_WEIGHT
            said = self.patch[column](patches)
            loss = loss + functional.cross_entropy(said.flatten(0, 1), expected.flatten(), weight=weight)
            whole = self.frame[column](frame)
            loss = loss + functional.cross_entropy(whole, value)
            accuracies.append(float((whole.argmax(1) == value).float().mean()))
        return loss, accuracies

    def _to_middle(self, pictures: Pictures) -> torch.Tensor:
        """Return the way from each patch to the thing's middle in patches, [N, P, 2]."""
        line = (torch.arange(self._grid) + 0.5) * self._patch_size
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        centres = torch.stack([columns.flatten(), rows.flatten()], dim=1)
        return (pictures.places[:, None, :2].float() - centres) / self._patch_size

    def _place_loss(self, patches: torch.Tensor, pictures: Pictures) -> torch.Tensor:
        way = self._to_middle(pictures)
        near = way.abs().amax(2) * self._patch_size < _NEAR
        radius = (pictures.places[:, None, 2:].float() - _MEAN_RADIUS).expand(*way.shape[:2], 1)
        expected = torch.cat([way, radius], dim=2)
        return 2 * functional.smooth_l1_loss(self.middle(patches)[near], expected[near])

    def _mask_loss(self, patches: torch.Tensor, pictures: Pictures) -> torch.Tensor:
        cells = pictures.masks.float().unflatten(2, (self._grid, -1)).unflatten(1, (self._grid, -1))
        expected = cells.permute(0, 1, 3, 2, 4).reshape(len(patches), self._grid**2, -1)
        return functional.binary_cross_entropy_with_logits(self.mask(patches), expected)


def train_vision(
    tower: Blip2VisionTower,
    prompter: VisualPrompter,
    pictures: Pictures,
    *,
    heads: DenseHeads,
    seed: int,
    num_steps: int = 3600,
    batch_size: int = 56,
    lr: float = 1.2e-3,
) -> None:
    """Teach the tower, and the prompter with it, what frames show.

    Args:
        pictures: the base videos' frames.
        heads: what is asked for; thrown away afterwards.
    """
    rng = np.random.default_rng([seed, 2])
    parameters = [*tower.parameters(), *prompter.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps, floor=0.03))
    started = time.monotonic()
    for step in range(num_steps):
        batch = pictures.rows(torch.from_numpy(rng.choice(len(pictures), batch_size)))
        if step % 2:
            batch = batch.mirrored()
        with torch.autocast("cpu", torch.bfloat16):
            features = tower(batch.normalised())
            loss, accuracies = heads(features, prompter(features), batch)
        learn_from(loss, parameters, optimizer, schedule)
        if step % 50 == 0:
            named = " ".join(f"{name} {value:.2f}" for name, value in zip(ATTRIBUTES, accuracies, strict=True))
            logger.info(
                "vision %d: loss %.3f, %s (%.0f s)", step, float(loss.detach()), named, time.monotonic() - started
            )

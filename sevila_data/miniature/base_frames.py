"""Stage 0's pictures: decoded frames of the base videos, with everything the world knows about them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lavis.common.types import FrameBatch
from lavis.processors.transforms import EvalTransform
from lavis.video import open_video
from sevila_data.miniature.dataset import videos_of
from sevila_data.miniature.render import FPS, SIDE, draw_mask, thing_at
from sevila_data.miniature.world import MOTIONS, VALUES, WorldVideo

ATTRIBUTES = tuple(VALUES)
_MIRRORED = [MOTIONS.index({"left": "right", "right": "left"}.get(motion, motion)) for motion in MOTIONS]


@dataclass(frozen=True)
class Pictures:
    """Frames with their truth.

    Shapes: N frames, G = patches per side.

    Attributes:
        pixels: uint8 [N, 64, 64, 3].
        values: [N, 4], index of each attribute's value.
        places: [N, 3], the thing's x, y and radius in pixels.
        masks: [N, 32, 32], where the thing is, at half size.
        scenes: [N, 2], video and scene that each frame belongs to.
    """

    pixels: torch.Tensor
    values: torch.Tensor
    places: torch.Tensor
    masks: torch.Tensor
    scenes: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, index: torch.Tensor) -> "Pictures":
        """Select frames."""
        return Pictures(
            self.pixels[index], self.values[index], self.places[index], self.masks[index], self.scenes[index]
        )

    def mirrored(self) -> "Pictures":
        """Swap left and right, in the motions too."""
        values, places = self.values.clone(), self.places.clone()
        motion = ATTRIBUTES.index("motion")
        values[:, motion] = torch.tensor(_MIRRORED)[values[:, motion]]
        places[:, 0] = SIDE - places[:, 0]
        return Pictures(self.pixels.flip(2), values, places, self.masks.flip(2), self.scenes)

    def normalised(self) -> torch.Tensor:
        """Return pixels as the vision tower takes them, [N, 3, 64, 64]."""
        nothing = np.empty(0)
        return EvalTransform()(FrameBatch(self.pixels.numpy(), nothing.astype(np.int64), nothing))


def read_pictures(folder: Path, *, count: int, seed: int, every: int) -> tuple[Pictures, list[WorldVideo]]:
    """Decode every so many frames of the base videos.

    Args:
        folder: the data set.
        count: base videos to read.
    """
    videos = list(videos_of("base", count, seed=seed))
    pixels, values, places, masks, scenes = [], [], [], [], []
    for number, video in enumerate(videos):
        with open_video(folder / "videos" / f"{video.name}.mp4") as reader:
            wanted = np.arange(0, reader.info.num_frames, every)
            pixels.append(torch.from_numpy(reader.read(wanted, size=SIDE).frames))
        ends = [scene.end_s for scene in video.scenes]
        for index in wanted:
            place = int(np.searchsorted(ends, index / FPS, side="right"))
            scene = video.scenes[place]
            values.append([VALUES[name].index(scene.value(name)) for name in ATTRIBUTES])
            places.append(thing_at(scene, index / FPS))
            masks.append(_half_size_mask(scene.shape, *places[-1]))
            scenes.append((number, place))
    stacked = (torch.cat(pixels), torch.tensor(values), torch.tensor(places), torch.from_numpy(np.stack(masks)))
    return Pictures(*stacked, torch.tensor(scenes)), videos


@cache
def _half_size_mask(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    mask = draw_mask(shape, (x, y), radius).resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
    return np.asarray(mask, np.float16) / 255

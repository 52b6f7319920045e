"""What exists in the synthetic world: videos of several scenes, each showing one thing somewhere.

Within a video every shape, colour and place occurs once, so that any of the three names exactly one
scene; motions repeat. Most questions can therefore be answered in one scene only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavis.common.types import Span

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
PLACES = ("beach", "forest", "city", "desert", "snow", "sea", "field", "sky")
MOTIONS = ("left", "right", "up", "down", "still")
VALUES = {"shape": SHAPES, "colour": COLOURS, "place": PLACES, "motion": MOTIONS}
NAMING = ("shape", "colour", "place")
"""The attributes that name a scene, because no two scenes of a video share one."""

MIN_SCENES, MAX_SCENES = 6, 8
MIN_SCENE_S, MAX_SCENE_S = 3.0, 6.0
_BEFORE_NEXT_S = 0.05


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing in one place.

    Attributes:
        start_s: when it appears, in seconds from the video's start.
        end_s: when the next scene begins.
        look: seed of what carries no meaning: size, path, and the background's shift and light.
    """

    shape: str
    colour: str
    place: str
    motion: str
    start_s: float = 0.0
    end_s: float = 4.0
    look: int = 0

    def value(self, attribute: str) -> str:
        """Return the value of an attribute by name, such as "red" for "colour"."""
        return str(getattr(self, attribute))

    @property
    def window(self) -> Span:
        """When the scene is seen; closed, so it ends just before the next scene's first frame."""
        return Span(self.start_s, self.end_s - _BEFORE_NEXT_S)


@dataclass(frozen=True, slots=True)
class WorldVideo:
    """A video of several scenes, one after another without gaps."""

    name: str
    scenes: tuple[Scene, ...]

    @property
    def duration_s(self) -> float:
        """The end of the last scene."""
        return self.scenes[-1].end_s


def make_video(name: str, *, seed: Sequence[int], fps: int) -> WorldVideo:
    """Draw a video; scenes change exactly between two frames.

    Args:
        seed: numbers that this video depends on, and nothing else.
        fps: frames per second it will be rendered with.
    """
    rng = np.random.default_rng(seed)
    count = int(rng.integers(MIN_SCENES, MAX_SCENES + 1))
    frames = rng.integers(round(MIN_SCENE_S * fps), round(MAX_SCENE_S * fps) + 1, size=count)
    ends = np.cumsum(frames) / fps
    return WorldVideo(name, draw_scenes(rng, ends.tolist()))


def draw_scenes(rng: np.random.Generator, ends_s: Sequence[float]) -> tuple[Scene, ...]:
    """Draw scenes that end at the given times and share no shape, colour or place."""
    named = [rng.permutation(VALUES[attribute])[: len(ends_s)].tolist() for attribute in NAMING]
    motions = rng.choice(MOTIONS, size=len(ends_s)).tolist()
    looks = rng.integers(2**31, size=len(ends_s)).tolist()
    starts = [0.0, *ends_s[:-1]]
    return tuple(Scene(*values) for values in zip(*named, motions, starts, ends_s, looks, strict=True))

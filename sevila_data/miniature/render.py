"""Drawing the synthetic world: pictures of scenes, and H.264 files of videos.

A thing that moves crosses the picture again and again, with paler copies behind it, so that its
direction can be told from a single frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from lavis.common.files import written_whole
from lavis.common.types import Floats
from sevila_data.miniature.world import PLACES, Scene, WorldVideo

SIDE = 64
FPS = 4
Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Drawn at twice the size and halved, for smooth edges.
_SCALE = 2
_CANVAS = SIDE * _SCALE
_RGB: dict[str, Colour] = {
    "red": (220, 30, 30),
    "green": (20, 160, 50),
    "blue": (30, 60, 230),
    "yellow": (245, 225, 30),
    "purple": (140, 40, 170),
    "orange": (250, 130, 10),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
_SPEED = 22.0  # pixels per second
_RADII = (11.0, 13.0)  # pixels
# Things stand on a grid: a vision tower of so few weights then learns shapes in minutes.
_GRID = 4
_TRAIL_GAP = 8.0  # pixels between a thing and its paler copies
_TRAIL = 3
_LOOKS: dict[str, tuple[tuple[Colour, Colour], Callable[[Floats, Floats], npt.NDArray[np.bool_]]]] = {
    "beach": (((150, 205, 240), (228, 205, 150)), lambda row, _column: row < 0.45),
    "forest": (((25, 75, 35), (75, 60, 35)), lambda _row, column: _wave(6 * column) > 0),
    "city": (((95, 95, 105), (175, 175, 180)), lambda row, column: (6 * row % 1 < 0.6) & (6 * column % 1 < 0.6)),
    "desert": (((200, 140, 80), (165, 105, 60)), lambda row, column: _wave(3 * row + 0.15 * _wave(column)) > 0),
    "snow": (((205, 215, 225), (235, 240, 245)), lambda row, column: _wave(5 * row) * _wave(5 * column) > 0.5),
    "sea": (((20, 70, 120), (45, 115, 165)), lambda row, column: _wave(6 * row + 0.2 * _wave(3 * column)) > 0),
    "field": (((130, 190, 90), (165, 205, 105)), lambda row, column: _wave(5 * row + 5 * column) > 0),
    "sky": (((225, 235, 250), (110, 170, 235)), lambda row, column: _wave(2 * row) * _wave(2 * column) > 0.4),
}
"""Two colours of each place, and where in the picture the first of them is."""

_UNIT_POLYGONS = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (0.95, 0.8), (-0.95, 0.8)],
    "diamond": [(0, -1.1), (0.7, 0), (0, 1.1), (-0.7, 0)],
    "cross": [
        (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3),
        (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3),
    ],
    "star": [
        ((1.1 if corner % 2 == 0 else 0.42) * np.sin(corner * np.pi / 5),
         -(1.1 if corner % 2 == 0 else 0.42) * np.cos(corner * np.pi / 5))
        for corner in range(10)
    ],
    "heart": [
        (np.sin(turn) ** 3,
         -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 16)
        for turn in np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ],
}  # fmt: skip


def _wave(turns: Floats) -> Floats:
    return np.sin(2 * np.pi * turns)


def thing_at(scene: Scene, time_s: float) -> tuple[float, float, float]:
    """Return where a scene's thing is at a time of the video, and how big: x, y and radius in pixels."""
    rng = np.random.default_rng(scene.look)
    radius = float(rng.choice(_RADII))
    x, y = rng.uniform(radius, SIDE - radius, size=2)
    along = np.array(_DIRECTION[scene.motion]) * _SPEED * (time_s - scene.start_s)
    room = SIDE - 2 * radius
    x, y = ((value - radius + step) % room + radius for value, step in zip((x, y), along, strict=True))
    return float(_GRID * round(x / _GRID)), float(_GRID * round(y / _GRID)), radius


@dataclass(frozen=True)
class Light:
    """What all colours of a video go through, as another camera or another time of the day would have it.

    Attributes:
        hue_degrees: how far hues are turned around the axis of greys (in YIQ).
        contrast: what differences from middle grey are multiplied by.
    """

    hue_degrees: float = 0.0
    contrast: float = 1.0

    def fall_on(self, picture: Picture) -> Picture:
        """Return an RGB picture [height, width, 3] in this light."""
        if self == DAY:
            return picture
        angle = np.radians(self.hue_degrees)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        turned = (picture - _GREY) @ (np.linalg.inv(_YIQ) @ turn @ _YIQ).T
        return (_GREY + self.contrast * turned).round().clip(0, 255).astype(np.uint8)


_GREY = 127.5
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
DAY = Light()


def draw_frame(scene: Scene, time_s: float) -> Picture:
    """Draw what is seen at a time of the video: RGB [64, 64, 3]."""
    rng = np.random.default_rng([scene.look, 1])
    shift, light = int(rng.integers(_CANVAS)), float(rng.uniform(0.85, 1.1))
    ground = np.roll(_background(scene.place), shift, axis=1)
    canvas = Image.fromarray((ground * light).clip(0, 255).astype(np.uint8))
    x, y, radius = thing_at(scene, time_s)
    step = _DIRECTION[scene.motion]
    for behind in range(_TRAIL, -1, -1) if any(step) else (0,):
        at = (x - step[0] * behind * _TRAIL_GAP, y - step[1] * behind * _TRAIL_GAP)
        opacity = 1.0 if behind == 0 else 0.6 - 0.12 * behind
        mask = draw_mask(scene.shape, at, radius * (1 - 0.2 * behind))
        canvas.paste(_RGB[scene.colour], mask=mask.point([round(value * opacity) for value in range(256)]))
    return np.asarray(canvas.reduce(_SCALE))


def write_clip(path: Path, video: WorldVideo, *, fps: int = FPS, zoom: int = 1, light: Light = DAY) -> None:
    """Render a video to an H.264 file, whole or not at all.

    Args:
        zoom: how many times larger than 64 pixels, for people to look at.
        light: that the whole video is seen in.
    """
    with written_whole(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "23", "preset": "veryfast"})
        stream.width = stream.height = SIDE * zoom
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # so that the same video gives the same file on any machine
        for picture in draw_video(video, fps=fps):
            enlarged = light.fall_on(picture).repeat(zoom, axis=0).repeat(zoom, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(enlarged, format="rgb24")))
        container.mux(stream.encode())


def draw_video(video: WorldVideo, *, fps: int = FPS) -> list[Picture]:
    """Draw all frames of a video."""
    times = np.arange(round(video.duration_s * fps)) / fps
    ends = [scene.end_s for scene in video.scenes]
    return [draw_frame(video.scenes[int(np.searchsorted(ends, time_s, side="right"))], time_s) for time_s in times]


def draw_mask(shape: str, at: tuple[float, float], radius: float) -> Image.Image:
    """Draw where a shape is, at twice the picture's size; place and radius in pixels of the picture."""
    mask = Image.new("L", (_CANVAS, _CANVAS))
    pen = ImageDraw.Draw(mask)
    x, y, size = at[0] * _SCALE, at[1] * _SCALE, radius * _SCALE
    if shape in _UNIT_POLYGONS:
        pen.polygon([(x + px * size, y + py * size) for px, py in _UNIT_POLYGONS[shape]], fill=255)
    else:
        pen.ellipse((x - size, y - size, x + size, y + size), fill=255)
    if shape == "ring":
        pen.ellipse((x - size * 0.5, y - size * 0.5, x + size * 0.5, y + size * 0.5), fill=0)
    return mask


@lru_cache(maxsize=len(PLACES))
def _background(place: str) -> Picture:
    """Draw a place, [128, 128, 3]; its pattern closes when it is shifted sideways."""
    colours, pattern = _LOOKS[place]
    rows, columns = np.mgrid[0:_CANVAS, 0:_CANVAS] / _CANVAS
    first, second = np.array(colours, np.uint8)
    picture: Picture = np.where(pattern(rows, columns)[..., None], first, second)
    return picture

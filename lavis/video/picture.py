"""From a decoded frame to the pixels a model sees."""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame

from lavis.video.base import Picture

_ANY_TIME_BASE = Fraction(1, 1000)  # pictures are made one by one, whatever their times
_TOLERATED_DEGREES = 1.0
# Filters that turn pictures clockwise, as the published reader does before it scales.
_TURNS: dict[int, tuple[tuple[str, str], ...]] = {
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "cclock"),),
}


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pictures are to be shown: mirrored left to right, if at all, and then turned.

    Attributes:
        mirrored: left and right are exchanged first.
        rotation: degrees clockwise: 0, 90, 180 or 270.
        remainder: degrees clockwise that are left to turn, and are not turned.
    """

    mirrored: bool = False
    rotation: int = 0
    remainder: float = 0.0

    @property
    def warnings(self) -> list[str]:
        """What is not done as the file asks for it."""
        if abs(self.remainder) <= _TOLERATED_DEGREES:
            return []
        asked = (self.rotation + self.remainder) % 360
        return [f"its pictures are to be turned by {asked:.0f}°, which is rounded to {self.rotation}°"]

    @property
    def angle(self) -> float:
        """Degrees clockwise by which a reader that cannot mirror turns pictures."""
        return (self.rotation + self.remainder + 180 * self.mirrored) % 360

    def after(self, turned: int) -> "Orientation":
        """Return what is left to do with pictures that were turned clockwise by 0, 90, 180 or 270 degrees."""
        left = self.rotation + turned if self.mirrored else self.rotation - turned
        return Orientation(mirrored=self.mirrored, rotation=left % 360)


def orientation(frame: VideoFrame) -> Orientation:
    """Return how a frame is to be shown, from the display matrix of its file."""
    side_data = cast(SideDataContainer, frame.side_data)  # which PyAV declares as a dictionary of other keys
    if Type.DISPLAYMATRIX not in side_data:
        return Orientation()
    # A stored pixel (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side_data[Type.DISPLAYMATRIX])[:36])
    determinant = a * d - b * c
    if determinant == 0:
        return Orientation()
    mirrored = determinant < 0
    degrees = math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a))
    turns = round(degrees / 90)
    return Orientation(mirrored=mirrored, rotation=turns * 90 % 360, remainder=degrees - turns * 90)


class PictureMaker:
    """Turns pictures upright and scales them, with the filters and settings of the published reader.

    Args:
        width: of the upright pictures.
        height: of the upright pictures.
        upright: how decoded frames are laid to be shown.
    """

    def __init__(self, *, width: int, height: int, upright: Orientation | None = None) -> None:
        upright = upright or Orientation()
        self._filters = [
            *([("hflip", "")] if upright.mirrored else []),
            *_TURNS[upright.rotation],
            ("scale", f"{width}:{height}:flags=bilinear"),
            ("format", "rgb24"),
        ]
        # Building the graph takes long; it is built again only when the frames' size or format changes.
        self._graph: Graph | None = None
        self._made_for: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> Picture:
        """Return uint8 [height, width, 3], RGB."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._made_for != kind:
            self._graph, self._made_for = self._new_graph(frame), kind
        self._graph.vpush(frame)
        return np.asarray(self._graph.vpull().to_ndarray(), np.uint8)

    def _new_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TIME_BASE)
        filters = [graph.add(name, options or None) for name, options in [*self._filters, ("buffersink", "")]]
        return graph.link_nodes(source, *filters)

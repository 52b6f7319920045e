"""The default reader: FFmpeg's libraries, bundled with PyAV; from packets to the pixels that a model sees."""

import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.filter import Graph
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from lavis.common.types import Integers, VideoInfo
from lavis.video.base import Picture, unreadable
from lavis.video.index import NO_TIME, FrameIndex, PacketReader, build_index, is_costly_to_seek
from lavis.video.limits import (
    PIXELS_PER_PACKET,
    PIXELS_PER_PICTURE,
    LimitError,
    Media,
    RunBudget,
    check_picture,
    open_media,
)

_ANY_TIME_BASE = Fraction(1, 1000)  # pictures are made one by one, whatever their times
_TOLERATED_DEGREES = 1.0
# Filters that turn pictures clockwise, as the published reader does before it scales.
_TURNS: dict[int, tuple[tuple[str, str], ...]] = {
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "cclock"),),
}
_HIGH_DYNAMIC_RANGE = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ and HLG
_OPAQUE = 255
# A seek empties the decoder's threads and buffers, which costs about as much as decoding this many frames.
_SEEK_COST_FRAMES = 8
_MAX_FAILURES = 500  # packets in a row that do not decode: what follows is no video
_MAX_KEPT_INDEXES = 8
_SETTLED_S = 2.0  # a file that changed just now may change again within a tick of its clock

_kept_indexes: dict[tuple[int, ...], FrameIndex] = {}


class PyAVSource:
    """Pictures of a video file, decoded by FFmpeg.

    Raises:
        VideoError: the file is not a video, holds no frames, or none of them can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        media = open_media(path)
        container, stream = media.container, media.stream
        self.format_name = container.format.name
        self.stream_index, self.num_video_streams = stream.index, len(container.streams.video)
        try:
            index = _index_of(media)
            media.file.end_metering()
            if index is None:
                raise LimitError("holds no video frames")
        except LimitError as error:
            media.close()
            raise unreadable(path, str(error)) from error
        self._decoder = FrameDecoder(media, index, reopen=partial(open_media, path))
        self._undecodable: set[int] = set()
        self._concealed: set[int] = set()
        self.index = index
        self.frame_times_s = index.times_s
        first = self._first_frame()
        self.upright = orientation(first)
        self._said = [*media.warnings, *index.warnings, *self.upright.warnings, *_unshown(stream, first)]
        quarter = self.upright.rotation % 180
        width, height = (first.height, first.width) if quarter else (first.width, first.height)
        self.info = VideoInfo(
            path=str(path),
            num_frames=len(index.pts),
            fps=index.fps,
            duration_s=index.duration_s,
            width=width,
            height=height,
            rotation=self.upright.rotation,
            mirrored=self.upright.mirrored,
        )

    @property
    def warnings(self) -> list[str]:
        """What is missing or damaged, as far as it is known."""
        told = {
            "frames that cannot be decoded, so that those nearest to them are used": len(self._undecodable),
            "frames of which a part was lost, so that FFmpeg filled it in": len(self._concealed),
        }
        return [*self._said, *(f"{what}: {count}" for what, count in told.items() if count)]

    def pictures(self, frame_idx: Integers, *, size: int | None) -> Iterator[tuple[int, Picture]]:
        """Yield pictures; see `PictureSource`."""
        make_picture = PictureMaker(
            width=size or self.info.width, height=size or self.info.height, upright=self.upright
        )
        decoded = self._decoded(frame_idx)
        for asked in frame_idx.tolist():
            index, frame = next(decoded, (None, None))
            if index is None or frame is None:
                raise unreadable(self._path, f"neither frame {asked} nor any near it can be decoded")
            if index != asked:
                self._undecodable.add(asked)
            if frame.is_corrupt:
                self._concealed.add(index)
            try:
                picture = make_picture(frame)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                raise unreadable(self._path, f"frame {index} cannot be converted to RGB ({error})") from error
            yield index, picture

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()

    def _decoded(self, frame_idx: Integers) -> Iterator[tuple[int, VideoFrame]]:
        try:
            yield from self._decoder.frames(frame_idx)
        except LimitError as error:
            raise unreadable(self._path, str(error)) from error

    def _first_frame(self) -> VideoFrame:
        for _, frame in self._decoded(np.zeros(1, dtype=np.int64)):
            return frame
        self.close()
        raise unreadable(self._path, "none of its frames can be decoded")


def _index_of(media: Media) -> FrameIndex | None:
    """Index an open file, or take the index from before: the latest few are kept while their files stay as they are."""
    status = os.fstat(media.file.fileno())
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    index = _kept_indexes.pop(key, None) or build_index(media.container, media.stream)
    if index is not None and time.time() - status.st_ctime > _SETTLED_S:
        _kept_indexes[key] = index
        for oldest in list(_kept_indexes)[:-_MAX_KEPT_INDEXES]:
            _kept_indexes.pop(oldest, None)  # another thread may have been here
    return index


def _unshown(stream: VideoStream, first: VideoFrame) -> list[str]:
    """Say what of the pictures RGB of 8 bits does not show."""
    has_alpha = any(component.is_alpha for component in first.format.components)
    transparent = has_alpha and first.reformat(format="rgba").to_ndarray()[..., 3].min() < _OPAQUE
    warnings = []
    if stream.codec_context.color_trc in _HIGH_DYNAMIC_RANGE:
        warnings.append("its colours are of high dynamic range, and are read without adapting them")
    if transparent or stream.metadata.get("alpha_mode") == "1":
        warnings.append("its pictures are transparent in places, and are read as if they were not")
    return warnings


class FrameDecoder:
    """Decodes frames by index, of an open file that it takes over, and opens again where it cannot be sought in."""

    def __init__(self, media: Media, index: FrameIndex, *, reopen: Callable[[], Media]) -> None:
        self._media, self._index, self._reopen = media, index, reopen
        # Which iteration moved the decoder last. A token, since a reference to the run would make a cycle that keeps
        # the file's buffers and threads alive until the garbage collector runs.
        self._moved_by: object = None
        self._seekable = not index.in_file_order and not is_costly_to_seek(media.container)
        self._budget = RunBudget()  # of the frame asked for

    def frames(self, frame_idx: Integers) -> Iterator[tuple[int, VideoFrame]]:
        """Yield increasing indices and frames; for a damaged one the nearest that is not, if possible before it.

        Ends early if there is none. Another iteration may be started before this one is used up.

        Raises:
            LimitError: a picture is too large, or too much must be decoded for a frame.
        """
        wanted = frozenset(self._index.pts[frame_idx].tolist())
        run: _Run | None = None
        token = object()
        found: VideoFrame | None
        for target in self._index.pts[frame_idx].tolist():
            self._budget = RunBudget()
            if run is None or self._moved_by is not token or self._seek_pays(run, target):
                self._moved_by = token
                run, found = self._start(target, wanted)
            else:
                found = run.advance(target) or run.following
            if found is None:
                return
            position = self._index.position(found.pts)
            assert position is not None, "a run gives frames of the index only"
            yield position, found

    def packets_at(self, key: int) -> Iterator[Packet] | None:
        """Return the packets from a keyframe on; None where it cannot be sought."""
        return self._seek(int(self._index.key_pts[key]), int(self._index.key_dts[key])) if self._seekable else None

    def close(self) -> None:
        """Release the file."""
        self._media.close()

    def _seek_pays(self, run: "_Run", target: int) -> bool:
        key_pts = int(self._index.key_pts[self._index.keyframe_before(target)])
        if run.reached is None or key_pts <= run.reached or not self._seekable:
            return False
        first, last = self._index.pts.searchsorted([run.reached, key_pts]).tolist()
        return last - first > _SEEK_COST_FRAMES

    def _start(self, target: int, wanted: frozenset[int]) -> "tuple[_Run, VideoFrame | None]":
        """Decode from the keyframe before; where that gives nothing, from ever earlier ones."""
        key, step = self._index.keyframe_before(target), 1
        while True:
            run = _Run(self._decode_from(key, wanted), self._index)
            found = run.advance(target)
            if found is not None or key == 0:
                return run, found or run.following
            key, step = max(0, key - step), 2 * step

    def _decode_from(self, key: int, wanted: frozenset[int]) -> Iterator[VideoFrame]:
        ordinal, failures = int(self._index.key_pts[key]), 0
        for packet in chain(self._packets_from(key), [None]):  # None: the decoder gives what it still holds
            codec = self._media.stream.codec_context
            if packet is not None and not self._index.counted:
                # Frames that no other frame refers to are not decoded unless they are wanted.
                codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            self._budget.spend(max(codec.width * codec.height, PIXELS_PER_PICTURE))
            try:
                decoded = codec.decode(packet)
            except av.FFmpegError:  # a damaged packet: the frames around it may still be good
                decoded, failures = [], failures + 1
                if failures > _MAX_FAILURES:
                    return
            for frame in decoded:
                failures = 0
                check_picture(frame.width, frame.height, frame.format)  # it may change on the way
                if self._index.counted:
                    frame.pts, ordinal = ordinal, ordinal + 1
                yield frame

    def _packets_from(self, key: int) -> Iterator[Packet]:
        """Yield the packets from a keyframe on."""
        packets = self.packets_at(key)
        if packets is None:
            self._seekable = False
            self._media.close()
            self._media = self._reopen()
            self._media.file.end_metering()
            packets = islice(self._numbered(), int(self._index.key_ordinals[key]), None)
        return packets

    def _numbered(self) -> Iterator[Packet]:
        """Yield all packets of the file, with the timestamps that the index gives them."""
        for number, packet in enumerate(self._read_on()):
            if self._index.packet_pts is not None and number < len(self._index.packet_pts):
                pts = int(self._index.packet_pts[number])
                packet.pts = None if pts == NO_TIME else pts
            yield packet

    def _read_on(self) -> Iterator[Packet]:
        """Yield the packets from where the file is."""
        for packet in PacketReader(self._media.container, self._media.stream):
            self._budget.spend(PIXELS_PER_PACKET)
            yield packet

    def _seek(self, key_pts: int, key_dts: int) -> Iterator[Packet] | None:
        """Return the packets from a keyframe on, or None where seeking goes past it."""
        # MPEG streams seek by decoding time; MP4 and Matroska by presentation time, else they stop a group too early.
        for ticks in (key_pts, key_dts):
            try:
                self._media.container.seek(ticks, stream=self._media.stream)
            except av.FFmpegError:
                continue
            packets = self._read_on()
            for packet in packets:
                if packet.is_keyframe and packet.pts is not None and packet.pts >= key_pts:
                    if packet.pts == key_pts:
                        return chain([packet], packets)
                    break
        return None


class _Run:
    """Frames decoded in the order they are shown, from one keyframe on."""

    def __init__(self, decoded: Iterator[VideoFrame], index: FrameIndex) -> None:
        self._decoded = (frame for frame in decoded if index.position(frame.pts) is not None)
        self._latest: VideoFrame | None = None
        self.following: VideoFrame | None = None
        """The frame after the latest one given out, as far as it has been decoded."""

    @property
    def reached(self) -> int | None:
        """The timestamp of the latest frame given out."""
        return self._latest.pts if self._latest else None

    def advance(self, target: int) -> VideoFrame | None:
        """Return the frame at `target`, or the last one before it, or None if there is neither."""
        while self.reached != target:
            self.following = self.following or next(self._decoded, None)
            if self.following is None or self.following.pts is None or self.following.pts > target:
                break
            self._latest, self.following = self.following, None
        return self._latest


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
    """Turns pictures upright and scales them, with the filters and settings of the published reader."""

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

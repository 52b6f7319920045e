"""The packets of a video stream as they stand in the file, and the times their frames are shown at."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream

from lavis.common.types import Integers

NO_TIME = np.iinfo(np.int64).min
"""In arrays of timestamps: of a packet whose frame is not shown."""

_MAX_PACKETS = 600_000  # over 5 hours; a crafted file can hold one in every byte
_LATEST = 1 << 60  # far from the largest number, and millions of years in any unit
_MOST_MOVED, _MOST_UNTIMED = 0.25, 0.5  # of all frames, for times to be of use
_MAX_GAP_S = 10.0  # in formats whose timestamps may jump; FFmpeg's own limit (-dts_delta_threshold)


@dataclass(slots=True)
class Packets:
    """What a stream's packets say, in the order of the file; timestamps in ticks of the stream.

    Attributes:
        pts: when a packet's frame is shown.
        dts: when it is decoded.
        key: decoding can start with it.
        hidden: an edit list discards its frame.
        duration: 0 where the file does not say.
        end_position: where the last one ends in the file, in bytes; 0 where that is not known.
        num_corrupt: how many of them may not be whole.
        too_many: not all of them were read, since there are too many.
        incomplete: there are more of them, or a part of one, which cannot be read.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    end_position: int = 0
    num_corrupt: int = 0
    too_many: bool = False
    incomplete: bool = False

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(slots=True)
class PacketReader:
    """Reads the packets of a stream that hold data, up to the end, a limit, or where the file is broken.

    A half packet at the end is left out: the decoder's error would take good frames with it. Elsewhere FFmpeg calls
    packets corrupt that may well be whole, as at the joint of two transport streams; they are tried, as players do.

    Attributes:
        cut_off: the last packet was left out.
        broken: the file cannot be read to its end.
        too_many: the limit came first; packets without data count too.
    """

    container: InputContainer
    stream: VideoStream
    cut_off: bool = False
    broken: bool = False
    too_many: bool = False

    def __iter__(self) -> Iterator[Packet]:
        held: Packet | None = None
        try:
            for number, packet in enumerate(self.container.demux(self.stream)):
                if number == _MAX_PACKETS:
                    self.too_many = True
                    break
                if packet.size == 0:  # which is also PyAV's mark of the end
                    continue
                if held is not None:
                    yield held
                held = packet if packet.is_corrupt else None
                if held is None:
                    yield packet
        except av.FFmpegError:
            self.broken = True
        self.cut_off = held is not None


def scan(container: InputContainer, stream: VideoStream) -> Packets:
    """Read all packets of a stream, without decoding them."""
    packets, reader = Packets(), PacketReader(container, stream)
    for packet in reader:
        packets.pts.append(packet.pts)
        packets.dts.append(packet.dts)
        packets.key.append(packet.is_keyframe)
        packets.hidden.append(packet.is_discard)
        packets.duration.append(packet.duration or 0)
        packets.end_position = (packet.pos or 0) + packet.size
        packets.num_corrupt += packet.is_corrupt
    packets.too_many, packets.incomplete = reader.too_many, reader.cut_off or reader.broken
    return packets


@dataclass(slots=True)
class Timeline:
    """When the frames of all packets are shown.

    Attributes:
        pts: int64 [packets] in the order of the file; `NO_TIME` where a frame is not shown, or not known when.
        changed: these are not the packets' own timestamps.
        useless: so many packets share their timestamps, or have none, that they do not tell the order of the frames.
        warnings: what was mended, and what is missing.
    """

    pts: Integers
    changed: bool
    useless: bool
    warnings: list[str]


def timeline(packets: Packets, container: InputContainer, stream: VideoStream) -> Timeline:
    """Return the times of frames: the file's own, made one line where they start again or coincide."""
    may_jump = Flags.ts_discont in Flags(container.format.flags)
    max_gap = round(_MAX_GAP_S / (stream.time_base or 1)) if may_jump else None
    placed, num_joints, num_lost = _in_one_line(packets, max_gap=max_gap, frame_ticks=_frame_ticks(stream))
    untimed = np.array([pts is None for pts in packets.pts])
    in_order = not stream.codec_context.has_b_frames
    timed = np.flatnonzero(placed != NO_TIME)
    if in_order and untimed.any() and len(timed):
        placed[untimed] = np.round(np.interp(np.flatnonzero(untimed), timed, placed[timed]))
    pts, num_moved = _distinct(placed, np.array(packets.hidden, dtype=bool))
    told = {
        f"frames without a time, which are {'put between the others' if in_order else 'left out'}": int(untimed.sum()),
        "places where its timestamps start again or jump, at which the parts are joined": num_joints,
        "frames at the start of such a part that cannot be decoded": num_lost,
        "frames with the time of another one, which are read right after it": num_moved,
    }
    warnings = [f"{what}: {count}" for what, count in told.items() if count]
    changed = bool(num_joints or num_moved or (in_order and untimed.any()))
    useless = num_moved > _MOST_MOVED * len(packets) or untimed.mean() > _MOST_UNTIMED
    return Timeline(pts, changed=changed, useless=useless, warnings=warnings)


def _frame_ticks(stream: VideoStream) -> int:
    return max(1, round(1 / (float(stream.average_rate or 25) * float(stream.time_base or 1))))


def _in_one_line(packets: Packets, *, max_gap: int | None, frame_ticks: int) -> tuple[Integers, int, int]:
    """Put a part whose timestamps are not those that follow behind the one before it, as players do.

    Returns:
        Timestamps, the number of such parts, and how many of their frames need frames that are not there.
    """
    placed = np.full(len(packets), NO_TIME)
    shift = num_joints = num_lost = 0
    highest = end = -math.inf  # of all that was placed
    key = before_key = -math.inf  # the latest keyframe, and the latest frame that is stored before it
    for number, pts in enumerate(packets.pts):
        if pts is None:
            continue
        time = pts + shift
        if not packets.hidden[number]:
            if packets.key[number]:
                # A keyframe is shown after everything that is stored before it.
                if time <= highest or (max_gap is not None and -math.inf < end < time - max_gap):
                    time, num_joints = int(end), num_joints + 1
                    shift, before_key = time - pts, time
                else:
                    before_key = highest
                key = time
            elif time < key and (time <= before_key or highest > key):
                # Between the frames before a keyframe and itself only those are shown that are stored right behind it.
                num_lost += 1
                continue
            if abs(time) > _LATEST:
                num_lost += 1
                continue
            if time > highest:
                highest, end = time, time + (packets.duration[number] or frame_ticks)
        placed[number] = time
    return placed, num_joints, num_lost


def _distinct(pts: Integers, hidden: np.ndarray) -> tuple[Integers, int]:
    """Move frames that share their timestamp apart by a tick; return how many were moved."""
    shown = np.flatnonzero((pts != NO_TIME) & ~hidden)
    order = shown[np.argsort(pts[shown], kind="stable")]
    count_up = np.arange(len(order))
    apart = np.maximum.accumulate(pts[order] - count_up) + count_up
    num_moved = int((apart != pts[order]).sum())
    moved = pts.copy()
    moved[order] = apart
    return moved, num_moved

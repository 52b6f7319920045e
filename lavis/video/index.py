"""Where every frame of a file is and when it is shown, found by reading its packets without decoding them."""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream

from lavis.common.types import Floats, Integers

NO_TIME = np.iinfo(np.int64).min
"""In arrays of timestamps: of a packet whose frame is not shown."""

_MAX_PACKETS = 600_000  # of over 5 hours; in a crafted file every byte can be a packet
_LATEST = 1 << 60  # far from the largest number, and millions of years in any unit
_MOST_MOVED, _MOST_UNTIMED = 0.25, 0.5  # shares of all frames; beyond them timestamps are not used
_MAX_GAP_S = 10.0  # in formats whose timestamps may jump; FFmpeg's own limit (-dts_delta_threshold)
_PLAUSIBLE_RATE_ERROR = 0.05  # beyond this, the declared frame rate is not that of the frames
_UNKNOWN_RATE = 25.0
_TOLERATED_MISSING_S = 0.5
_MATROSKA_START = b"\x1a\x45\xdf\xa3"
_MAX_TAIL_BYTES = 1 << 24
_MAX_HIDDEN = 20_000  # with which a seek takes a tenth of a second
_CHUNK_HEADER_BYTES = 8  # in RIFF files, such as AVI
_MAX_RIFF_CHUNKS = 100  # an AVI has one for each gigabyte


@dataclass(slots=True)
class PacketReader:
    """Reads the packets of a stream that hold data, up to the end, a limit, or where the file is broken.

    A half packet at the end is left out: the decoder's error would take good frames with it. Elsewhere FFmpeg calls
    packets corrupt that may well be whole, as at the joint of two transport streams; they are tried, as players do.

    Attributes:
        incomplete: the last packet was left out, or the file cannot be read to its end.
        too_many: the limit came first; packets without data count too.
    """

    container: InputContainer
    stream: VideoStream
    incomplete: bool = False
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
        except (av.FFmpegError, IndexError):  # PyAV raises the latter where a damaged file's streams change
            self.incomplete = True
        self.incomplete |= held is not None


@dataclass(slots=True)
class Packets(PacketReader):
    """What a stream's packets say, in the order of the file; timestamps in ticks of the stream.

    Attributes:
        pts: when a packet's frame is shown.
        dts: when it is decoded.
        key: decoding can start with it.
        hidden: an edit list discards its frame.
        duration: 0 where the file does not say.
        end_position: where the last one ends in the file, in bytes; 0 where that is not known.
        num_corrupt: how many of them may not be whole.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    end_position: int = 0
    num_corrupt: int = 0

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def is_avi(self) -> bool:
        """They are of an AVI, whose packets have the times of decoding only."""
        return self.container.format.name == "avi"

    @property
    def reordered(self) -> bool:
        """Frames are not shown in the order in which they are stored (B-frames)."""
        return bool(self.stream.codec_context.has_b_frames)

    @property
    def tick_s(self) -> float:
        """The unit of timestamps, in seconds."""
        return float(self.stream.time_base or 1)


def scan(container: InputContainer, stream: VideoStream) -> Packets:
    """Read all packets of a stream, without decoding them."""
    packets = Packets(container, stream)
    for packet in packets:
        packets.pts.append(packet.pts)
        packets.dts.append(packet.dts)
        packets.key.append(packet.is_keyframe)
        packets.hidden.append(packet.is_discard)
        packets.duration.append(packet.duration or 0)
        packets.end_position = (packet.pos or 0) + packet.size
        packets.num_corrupt += packet.is_corrupt
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


def timeline(packets: Packets) -> Timeline:
    """Return the times of frames: the file's own, made one line where they start again or coincide."""
    placed, num_joints, num_lost = _in_one_line(packets)
    untimed = np.array([pts is None for pts in packets.pts])
    in_order = not packets.reordered
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


def _in_one_line(packets: Packets) -> tuple[Integers, int, int]:
    """Where timestamps start again or jump, shift the part that begins there behind the one before, as players do.

    Returns:
        Timestamps, the number of shifted parts, and how many of their frames cannot be decoded, since they refer to
        frames before the part.
    """
    may_jump = Flags.ts_discont in Flags(packets.container.format.flags)
    max_gap = round(_MAX_GAP_S / (packets.stream.time_base or 1)) if may_jump else math.inf
    frame_ticks = max(1, round(1 / (float(packets.stream.average_rate or _UNKNOWN_RATE) * packets.tick_s)))
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
                if time <= highest or -math.inf < end < time - max_gap:
                    time, num_joints = int(end), num_joints + 1
                    shift, before_key = time - pts, time
                else:
                    before_key = highest
                key = time
            elif time < key and (time <= before_key or highest > key):
                # Only frames that are stored right behind a keyframe can be shown between it and the frames before.
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


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The frames a player shows, in the order of their presentation.

    Attributes:
        pts: int64 [num_frames], presentation timestamps, strictly increasing.
        key_pts: int64 [keyframes], timestamps of the frames decoding can start at, increasing;
            one that an edit list hides is among them.
        key_dts: int64 [keyframes], where to seek for each of them.
        key_ordinals: int64 [keyframes], which packets they are, counted from the start of the file.
        times_s: float64 [num_frames], seconds from the first frame shown.
        fps: average frames per second.
        duration_s: from the first frame's start to the last frame's end.
        open_groups: some frames are shown before the keyframe they are stored behind.
        counted: the packets have no presentation timestamps; `pts` and `key_pts` count them instead.
        packet_pts: int64 [packets] in the order of the file, where their own timestamps do not tell them apart.
        warnings: what is missing.
    """

    pts: Integers
    key_pts: Integers
    key_dts: Integers
    key_ordinals: Integers
    times_s: Floats
    fps: float
    duration_s: float
    open_groups: bool = False
    counted: bool = False
    packet_pts: Integers | None = None
    warnings: tuple[str, ...] = ()

    @property
    def in_file_order(self) -> bool:
        """The frames can be found only by counting packets from the start of the file, not by their timestamps."""
        return self.counted or self.packet_pts is not None

    def keyframe_before(self, pts: int) -> int:
        """Return which keyframe decoding must start at to get the frame at `pts`."""
        # By presentation time: frames of an open group that are shown before its keyframe need the group before.
        return max(0, int(np.searchsorted(self.key_pts, pts, side="right")) - 1)

    def position(self, pts: int | None) -> int | None:
        """Return the index of the frame shown at `pts`, or None if no frame is."""
        if pts is None:
            return None
        index = int(np.searchsorted(self.pts, pts))
        return index if index < len(self.pts) and self.pts[index] == pts else None


def build_index(container: InputContainer, stream: VideoStream) -> FrameIndex | None:
    """Read all packets of a video stream, and return their index; None where no frame can be decoded."""
    packets = scan(container, stream)
    if not any(packets.key):
        return None
    if packets.is_avi and not packets.reordered:
        packets.pts = list(packets.dts)
    if (packets.is_avi and packets.reordered) or packets.pts.count(None) == len(packets):
        return _counted_index(packets)
    line = timeline(packets)
    if line.useless:
        said = "its timestamps tell no order of its frames, whose times are counted from the frame rate"
        return replace(index := _counted_index(packets), warnings=(said, *index.warnings))
    key_ordinals = np.flatnonzero(np.array(packets.key) & (line.pts != NO_TIME))
    key_ordinals = key_ordinals[np.argsort(line.pts[key_ordinals], kind="stable")]
    if not len(key_ordinals):
        return None
    key_pts = line.pts[key_ordinals]
    listed = np.sort(line.pts[(line.pts != NO_TIME) & ~np.array(packets.hidden)])
    pts = listed[listed >= key_pts[0]]
    if not len(pts):
        return None
    lost = len(listed) - len(pts)
    warnings = [*([f"frames at the start that cannot be decoded: {lost}"] if lost else []), *line.warnings]
    times_s = (pts.astype(np.float64) - float(pts[0])) * packets.tick_s
    last_ticks = packets.duration[int(np.argmax(line.pts == pts[-1]))]
    if packets.is_avi:
        last_ticks = _avi_end(packets) - int(pts[-1])
    fps, last_s = _rate(times_s, stream, declared_last_s=last_ticks * packets.tick_s)
    end_s = float(pts[-1]) * packets.tick_s + last_s
    warnings += _missing_end(packets, readable=len(pts), end_s=end_s)
    key_dts = [packets.dts[ordinal] for ordinal in key_ordinals.tolist()]
    return FrameIndex(
        pts=pts,
        key_pts=key_pts,
        key_dts=np.array([pts if dts is None else dts for pts, dts in zip(key_pts, key_dts, strict=True)], np.int64),
        key_ordinals=key_ordinals,
        times_s=times_s,
        fps=fps,
        duration_s=float(times_s[-1]) + last_s,
        open_groups=_has_open_groups(line.pts, np.array(packets.key)),
        packet_pts=line.pts if line.changed or packets.is_avi else None,
        warnings=tuple(warnings),
    )


def is_costly_to_seek(container: InputContainer) -> bool:
    """Say whether a seek in this file would take FFmpeg seconds or hours.

    An edit list hides parts of an MP4; the time of a seek grows with the square of what is hidden.
    """
    long_enough = (stream.index_entries for stream in container.streams if len(stream.index_entries) > _MAX_HIDDEN)
    hidden = ((entry for entry in entries if entry.is_discard) for entries in long_enough)
    return any(next(islice(some, _MAX_HIDDEN, None), None) is not None for some in hidden)


def _has_open_groups(pts: Integers, key: npt.NDArray[np.bool_]) -> bool:
    """Say whether a frame is shown before the keyframe that it is stored behind."""
    latest_key = np.maximum.accumulate(np.where(key, pts, NO_TIME))
    return bool(np.any(~key & (pts != NO_TIME) & (pts < latest_key)))


def _counted_index(packets: Packets) -> FrameIndex:
    """Index a stream whose frames have no times of their own, or only in the order in which they are decoded."""
    first, stream = packets.key.index(True), packets.stream
    ordinals = np.arange(first, len(packets), dtype=np.int64)
    # With B-frames, what is shown before a keyframe may be stored behind it, so frames are counted from the start.
    keys = np.flatnonzero(packets.key)[: 1 if packets.reordered else None]
    fps = float(stream.average_rate or stream.guessed_rate or _UNKNOWN_RATE)
    times_s, duration_s = np.arange(len(ordinals)) / fps, len(ordinals) / fps
    dts = packets.dts[first:]
    if packets.is_avi and None not in dts:
        places = _shown_places(np.array(dts, dtype=np.int64), delay=stream.codec_context.reorder_depth)
        times_s = (places - places[0]) * packets.tick_s
        duration_s = (_avi_end(packets) - int(dts[0] or 0)) * packets.tick_s
        fps, _ = _rate(times_s, stream, declared_last_s=duration_s - float(times_s[-1]))
    warnings = _missing_end(packets, readable=len(ordinals), end_s=duration_s)
    return FrameIndex(ordinals, keys, keys, keys, times_s, fps, duration_s, counted=True, warnings=tuple(warnings))


def _shown_places(dts: Integers, *, delay: int) -> Integers:
    """Return when the frames of an AVI are shown, in that order: when the decoder returns them.

    The packets have the times of decoding, and the decoder returns a frame `delay` packets later.
    """
    behind_the_end = dts[-1] + 1 + np.arange(delay)
    return np.concatenate([dts, behind_the_end])[delay:]


def _avi_end(packets: Packets) -> int:
    """Return where an AVI's last frame ends: frames dropped at the end are counted in its header only."""
    container, promised = packets.container, packets.stream.frames
    end = max((dts for dts in packets.dts if dts is not None), default=len(packets) - 1) + 1
    # Each dropped frame is an empty chunk, which is a header.
    has_room = (promised - end) * _CHUNK_HEADER_BYTES <= container.size - packets.end_position
    return max(end, promised) if has_room and _is_whole(container) else end


def _is_whole(container: InputContainer) -> bool:
    """Say whether an AVI has all the bytes that its outermost chunks state."""
    position, size = 0, container.size
    with suppress(OSError), Path(container.name).open("rb") as file:
        for _ in range(_MAX_RIFF_CHUNKS):
            file.seek(position)
            header = file.read(_CHUNK_HEADER_BYTES)
            if header[:4] != b"RIFF" or len(header) < _CHUNK_HEADER_BYTES:
                break
            position += _CHUNK_HEADER_BYTES + int.from_bytes(header[4:], "little")
    return position <= size


def _rate(times_s: Floats, stream: VideoStream, *, declared_last_s: float) -> tuple[float, float]:
    """Return average frames per second, and how long the last frame is shown."""
    declared = float(stream.average_rate or 0)
    if len(times_s) == 1:
        last_s = declared_last_s or 1 / (declared or _UNKNOWN_RATE)
        return declared or 1 / last_s, last_s
    last_s = declared_last_s or float(times_s[-1]) / (len(times_s) - 1)
    measured = len(times_s) / (float(times_s[-1]) + last_s)
    # The declared rate is exact (30000/1001) unless it is wrong, and published sampling multiplies by it.
    return (declared if abs(declared - measured) <= _PLAUSIBLE_RATE_ERROR * measured else measured), last_s


def _missing_end(packets: Packets, *, readable: int, end_s: float) -> list[str]:
    """Compare what was read with what the file's header promised."""
    container, stream = packets.container, packets.stream
    if packets.too_many:
        return [f"the video is too long: only its first {readable} frames are read"]
    # The index of an MP4 has the frames that edit lists hide; other formats that state a number have no edit lists.
    promised = len(stream.index_entries) if "mp4" in container.format.name else stream.frames
    missing = promised - (_avi_end(packets) if packets.is_avi else len(packets))
    if missing > 0:
        promise = f"{'' if stream.frames else 'at least '}{readable + missing} frames"  # fragments state their own
        return [f"the file is cut: {readable} of {promise} can be read"]
    if "matroska" in container.format.name and _begins_again(container, behind=packets.end_position):
        return ["the file holds another movie behind the last frame that is read"]
    promised_s = _promised_s(container, stream)
    if promised_s and promised_s - end_s > _TOLERATED_MISSING_S:
        return [f"the file is cut: {end_s:.1f} of {promised_s:.1f} s can be read"]
    damage = [f"the file is damaged: frames that may look wrong: {packets.num_corrupt}"] if packets.num_corrupt else []
    return [*damage, *(["the file is damaged: not all of its frames can be read"] if packets.incomplete else [])]


def _begins_again(container: InputContainer, *, behind: int) -> bool:
    """Say whether another Matroska file follows: FFmpeg reads two that stand one after the other, and no more."""
    with suppress(OSError), Path(container.name).open("rb") as file:
        file.seek(behind)
        return _MATROSKA_START in file.read(_MAX_TAIL_BYTES)
    return False


def _promised_s(container: InputContainer, stream: VideoStream) -> float:
    """Return the duration the header states; 0 where FFmpeg could only estimate one."""
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):  # Matroska's way
        hours, minutes, seconds = map(float, tag.groups())
        return hours * 3600 + minutes * 60 + seconds
    states_duration = "matroska" in container.format.name or container.format.name == "flv"
    if states_duration and container.duration and not container.streams.audio:
        return container.duration / av.time_base
    return 0.0

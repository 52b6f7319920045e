"""Where every frame of a file is, found by reading its packets without decoding them."""

import re
from dataclasses import dataclass, field
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from lavis.common.types import Floats, Integers

_PLAUSIBLE_RATE_ERROR = 0.05  # beyond this, the declared frame rate is not that of the frames
_UNKNOWN_RATE = 25.0
_UNTIMED_FORMATS = ("avi",)  # holds decoding times only, which FFmpeg passes off as presentation times
_TOLERATED_CUT_S = 0.5
_MAX_HIDDEN = 20_000  # a tenth of a second for each seek
_MAX_PACKETS = 600_000  # over 5 hours; a crafted file can hold one in every byte


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The frames a player shows, in the order of their presentation.

    Attributes:
        pts: int64 [num_frames], presentation timestamps, strictly increasing.
        key_pts: int64 [keyframes], timestamps of the frames decoding can start at, increasing;
            one that an edit list hides is among them.
        key_dts: int64 [keyframes], where to seek for each of them.
        times_s: float64 [num_frames], seconds from the first frame shown.
        fps: average frames per second.
        duration_s: from the first frame's start to the last frame's end.
        open_groups: some frames are shown before the keyframe they are stored behind.
        counted: the file has no presentation timestamps; `pts` and `key_pts` count its packets instead.
        warnings: what is missing.
    """

    pts: Integers
    key_pts: Integers
    key_dts: Integers
    times_s: Floats
    fps: float
    duration_s: float
    open_groups: bool = False
    counted: bool = False
    warnings: tuple[str, ...] = ()

    def keyframe_before(self, pts: int) -> int:
        """Return which keyframe decoding must start at to get the frame at `pts`."""
        # By presentation time: pictures shown before an open group's keyframe need the group before it.
        return max(0, int(np.searchsorted(self.key_pts, pts, side="right")) - 1)

    def position(self, pts: int | None) -> int | None:
        """Return the index of the frame shown at `pts`, or None if no frame is."""
        if pts is None:
            return None
        index = int(np.searchsorted(self.pts, pts))
        return index if index < len(self.pts) and self.pts[index] == pts else None


@dataclass(slots=True)
class _Packets:
    total: int = 0
    shown: list[int] = field(default_factory=list)
    keys: list[tuple[int, int]] = field(default_factory=list)
    key_ordinals: list[int] = field(default_factory=list)
    open_groups: bool = False
    last_duration: int = 0
    untimed: bool = False
    too_many: bool = False
    damaged: bool = False


def build_index(container: InputContainer, stream: VideoStream) -> FrameIndex | None:
    """Read all packets of a video stream.

    Returns:
        The index, or None if the stream holds no frame that can be decoded.
    """
    packets = _scan(container, stream)
    if packets.untimed or container.format.name in _UNTIMED_FORMATS:
        return _counted_index(packets, container, stream)
    keys = np.array(sorted(packets.keys), dtype=np.int64).reshape(-1, 2)
    listed = np.unique(np.array(packets.shown, dtype=np.int64))
    pts = listed[listed >= keys[0, 0]] if len(keys) else listed[:0]
    if not len(pts):
        return None
    warnings = (
        [] if len(pts) == len(listed) else [f"frames at the start that cannot be decoded: {len(listed) - len(pts)}"]
    )
    tick_s = float(stream.time_base or 1)
    times_s = (pts.astype(np.float64) - float(pts[0])) * tick_s
    fps, last_s = _rate(times_s, stream, declared_last_s=packets.last_duration * tick_s)
    end_s = float(pts[-1]) * tick_s + last_s
    warnings += _missing_end(packets, container, stream, readable=len(pts), end_s=end_s)
    return FrameIndex(
        pts=pts,
        key_pts=keys[:, 0],
        key_dts=keys[:, 1],
        times_s=times_s,
        fps=fps,
        duration_s=float(times_s[-1]) + last_s,
        open_groups=packets.open_groups,
        warnings=tuple(warnings),
    )


def is_costly_to_seek(container: InputContainer) -> bool:
    """Say whether a seek in this file would take FFmpeg seconds or hours.

    An edit list hides parts of an MP4; the time of a seek grows with the square of what is hidden.
    """
    long_enough = (stream.index_entries for stream in container.streams if len(stream.index_entries) > _MAX_HIDDEN)
    hidden = ((entry for entry in entries if entry.is_discard) for entries in long_enough)
    return any(next(islice(some, _MAX_HIDDEN, None), None) is not None for some in hidden)


def _scan(container: InputContainer, stream: VideoStream) -> _Packets:
    packets = _Packets()
    last_pts = None
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # PyAV's mark of the end
                continue
            if packet.is_corrupt:
                packets.damaged = True
                continue
            if packets.total == _MAX_PACKETS:
                packets.too_many = True
                break
            packets.total += 1
            pts = packet.pts
            if packet.is_keyframe:
                packets.key_ordinals.append(packets.total - 1)
            if pts is None:
                packets.untimed = True
                continue
            if packet.is_keyframe:
                packets.keys.append((pts, pts if packet.dts is None else packet.dts))
            elif packets.keys and pts < packets.keys[-1][0]:
                packets.open_groups = True
            if packet.is_discard:
                continue
            packets.shown.append(pts)
            if last_pts is None or pts > last_pts:
                last_pts, packets.last_duration = pts, packet.duration or 0
    except av.FFmpegError:
        packets.damaged = True
    return packets


def _counted_index(packets: _Packets, container: InputContainer, stream: VideoStream) -> FrameIndex | None:
    if not packets.key_ordinals:
        return None
    ordinals = np.arange(packets.key_ordinals[0], packets.total, dtype=np.int64)
    # With B-frames, what is shown before a keyframe may be stored behind it: only the start can be counted from.
    usable = packets.key_ordinals[:1] if stream.codec_context.has_b_frames else packets.key_ordinals
    keys = np.array(usable, dtype=np.int64)
    fps = float(stream.average_rate or stream.guessed_rate or _UNKNOWN_RATE)
    duration_s = len(ordinals) / fps
    warnings = _missing_end(packets, container, stream, readable=len(ordinals), end_s=duration_s)
    times_s = np.arange(len(ordinals)) / fps
    return FrameIndex(ordinals, keys, keys, times_s, fps, duration_s, counted=True, warnings=tuple(warnings))


def _rate(times_s: Floats, stream: VideoStream, *, declared_last_s: float) -> tuple[float, float]:
    """Return average frames per second, and how long the last frame is shown."""
    declared = float(stream.average_rate or 0)
    if len(times_s) == 1:
        last_s = declared_last_s or 1 / (declared or _UNKNOWN_RATE)
        return declared or 1 / last_s, last_s
    last_s = declared_last_s or float(times_s[-1]) / (len(times_s) - 1)
    measured = len(times_s) / (float(times_s[-1]) + last_s)
    # The declared one is exact (30000/1001) where it is right at all; published sampling multiplies by it.
    return (declared if abs(declared - measured) <= _PLAUSIBLE_RATE_ERROR * measured else measured), last_s


def _missing_end(
    packets: _Packets, container: InputContainer, stream: VideoStream, *, readable: int, end_s: float
) -> list[str]:
    """Compare what was read with what the file's header promised."""
    if packets.too_many:
        return [f"the video is too long: only its first {readable} frames are read"]
    # MP4's index counts edits in; the other formats that know their number of frames know no edits.
    promised = len(stream.index_entries) if "mp4" in container.format.name else stream.frames
    missing = promised - packets.total
    if missing > 0:
        promise = f"{'' if stream.frames else 'at least '}{readable + missing} frames"  # fragments state their own
        return [f"the file is cut: {readable} of {promise} can be read"]
    promised_s = _promised_s(container, stream)
    if promised_s - end_s > _TOLERATED_CUT_S:
        return [f"the file is cut: {end_s:.1f} of {promised_s:.1f} s can be read"]
    return ["the file is damaged: not all of its frames can be read"] if packets.damaged else []


def _promised_s(container: InputContainer, stream: VideoStream) -> float:
    """Return the duration the header states; 0 where FFmpeg could only estimate one."""
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):  # Matroska's way
        hours, minutes, seconds = map(float, tag.groups())
        return hours * 3600 + minutes * 60 + seconds
    states_duration = "matroska" in container.format.name or container.format.name == "flv"
    if states_duration and container.duration and not container.streams.audio:
        return container.duration / av.time_base
    return 0.0

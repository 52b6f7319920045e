"""Parts of a video as clips with their sound: copied from a key frame where that is exact enough, else encoded again.

Times count from the first frame that is shown, as everywhere. Pictures that are encoded again come from the video's
reader; packets and sound come from the file itself, so a folder of frames gives clips without sound.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard

from lavis.common import defaults
from lavis.common.errors import UserError, VideoError, first_line
from lavis.common.files import written_whole
from lavis.common.types import Integers
from lavis.video import VideoReader, open_video
from lavis.video.limits import LimitError, Media, open_media
from lavis.video.pyav import FrameDecoder, PyAVSource

_CLOCK = Fraction(1, 90_000)
_READ_AT_ONCE = 4
_ROUNDING_S = 1e-6  # of times computed from ticks
_X264 = {"preset": "veryfast", "crf": "21"}
# What MP4 holds and players show; packets of other files than these two kinds would have to be rewritten.
_COPIED_FORMATS = ("mp4", "matroska")
_COPIED_PICTURES = {"h264", "hevc", "av1", "vp9", "mpeg4"}
_COPIED_SOUND = {"aac", "mp3", "ac3", "eac3", "alac"}
_MAX_REORDERED = 16  # frames of H.264 and HEVC that may be shown in another order
_MAX_PACKETS = 1_000_000  # of sound that is read for a clip: more than five hours
_AAC_RATES = {48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 11_025, 8000}

Step = Callable[[], None]
_Dated = tuple[int, int, Packet]  # when it is shown, when it is decoded, in ticks


@dataclass(frozen=True, slots=True)
class Clip:
    """What a clip holds of its video.

    Attributes:
        start_s, end_s: the time in the video that it shows.
        early_s: how far before the asked start it begins; 0 where it was encoded again.
        copied: its pictures are those of the file; else they were encoded again.
        sound: "copied", "encoded", or "" where there is none.
        note: why there is no sound, although the file has some; else "".
    """

    start_s: float
    end_s: float
    early_s: float = 0.0
    copied: bool = False
    sound: str = ""
    note: str = ""

    def __str__(self) -> str:
        """Say how it was made."""
        early = f", from the key frame {self.early_s:.2f} s before" if self.early_s >= 0.005 else ""
        made = f"copied{early}" if self.copied else "encoded again"
        sound = "" if self.sound else f", no sound{f' ({self.note})' if self.note else ''}"
        again = ", its sound encoded again" if self.copied and self.sound == "encoded" else ""
        return f"{made}{again}{sound}"


class _NotCopiedError(Exception):
    """Packets that cannot be copied as they are."""


def cut_clip(
    source: Path,
    target: Path,
    *,
    start_s: float,
    end_s: float,
    copy_early_s: float | None = None,
    max_side: int | None = None,
    reader: str = defaults.VIDEO_READER,
    fps: float | None = None,
    step: Step = lambda: None,
) -> Clip:
    """Write what is on the screen between two times as MP4, with its sound; the file is whole or absent.

    Args:
        copy_early_s: packets are copied, which loses nothing, if a key frame stands at most so many seconds before the
            start; the clip then begins there, and may end some frames late. None encodes in any case (H.264, AAC).
        max_side: the shorter side of pictures that are encoded is scaled down to it.
        reader, fps: how the video is read, as in `open_video`.
        step: called now and then, and may raise.

    Raises:
        VideoError: there is nothing between the two times, or it cannot be decoded.
        UserError: the clip cannot be written.
    """
    with ExitStack() as opened:
        video = opened.enter_context(open_video(source, reader=reader, fps=fps))
        frame_idx = _frames_between(video, start_s, end_s)
        times_s = video.times_s(np.arange(video.info.num_frames))
        after = int(frame_idx[-1]) + 1
        asked = Clip(max(start_s, 0.0), float(times_s[after]) if after < len(times_s) else video.info.duration_s)
        file = _file_of(source)
        if file is not None:
            opened.enter_context(closing(file))
        with written_whole(target) as path:
            try:
                if file is not None and copy_early_s is not None:
                    try:
                        return _copied(file, source, path, asked, early_s=copy_early_s, step=step)
                    except (_NotCopiedError, av.FFmpegError, LimitError, VideoError):
                        path.write_bytes(b"")
                return _encoded(video, frame_idx, file, source, path, asked, max_side=max_side, step=step)
            except av.FFmpegError as error:
                raise UserError(f"cannot write {target}: {error.strerror or first_line(error)}") from error


def has_sound(source: Path) -> bool:
    """Tell whether a video has sound; a folder of frames has none."""
    if source.is_dir():
        return False
    try:
        with closing(open_media(source)) as media:
            return bool(media.container.streams.audio)
    except VideoError:  # only another reader knows it
        return False


def _frames_between(video: VideoReader, start_s: float, end_s: float) -> Integers:
    """Return the frames that are on the screen between two times."""
    times_s = video.times_s(np.arange(video.info.num_frames))
    # The frame on the screen at the start was shown at or before it.
    first = max(int(np.searchsorted(times_s, start_s + _ROUNDING_S, side="right")) - 1, 0)
    end = int(np.searchsorted(times_s, end_s - _ROUNDING_S, side="left"))
    if not end_s > start_s or end <= first or start_s >= max(video.info.duration_s, float(times_s[-1]) + _ROUNDING_S):
        raise VideoError(f"{video.info.path}: no frame lies between {start_s:.1f} and {end_s:.1f} s")
    return np.arange(first, end)


def _file_of(source: Path) -> PyAVSource | None:
    """Open a video's file for its packets; None for a folder, or a file that only another reader knows."""
    try:
        return None if source.is_dir() else PyAVSource(source)
    except VideoError:
        return None


def _encoded(
    video: VideoReader,
    frame_idx: Integers,
    file: PyAVSource | None,
    source: Path,
    path: Path,
    clip: Clip,
    *,
    max_side: int | None,
    step: Step,
) -> Clip:
    with ExitStack() as opened:
        sound = opened.enter_context(closing(_Sound(file, source, clip)))
        output = opened.enter_context(_output(path))
        pictures = encoded_pictures(output, video, frame_idx, clip.start_s, max_side=max_side, step=step)
        heard = sound.encoded(output)
        _mux(output, pictures, heard)
        return replace(clip, sound="encoded" if heard else "", note=sound.note)


def _copied(file: PyAVSource, source: Path, path: Path, clip: Clip, *, early_s: float, step: Step) -> Clip:
    """Copy packets from the key frame before the start on.

    Raises:
        _NotCopiedError: it is too far before the start, or these packets do not stand alone in an MP4.
    """
    index, info = file.index, file.info
    first_pts = int(index.pts[0])
    with ExitStack() as opened:
        media = opened.enter_context(closing(open_media(source)))
        tick_s = float(media.stream.time_base or 1)
        start_pts, end_pts = (first_pts + round(time_s / tick_s) for time_s in (clip.start_s, clip.end_s))
        key = index.keyframe_before(start_pts)
        start_s = (int(index.key_pts[key]) - first_pts) * tick_s
        if (
            not any(name in file.format_name for name in _COPIED_FORMATS)
            or media.stream.codec_context.name not in _COPIED_PICTURES
            or (info.rotation, info.mirrored) != (0, False)
            or not -_ROUNDING_S <= clip.start_s - start_s <= early_s
            or start_s < 0
        ):
            raise _NotCopiedError
        packets = FrameDecoder(media, index, reopen=partial(open_media, source)).packets_at(key)
        if packets is None:
            raise _NotCopiedError
        copied = replace(clip, start_s=start_s, early_s=max(0.0, clip.start_s - start_s), copied=True)
        sound = opened.enter_context(closing(_Sound(file, source, copied)))
        output = opened.enter_context(_output(path))
        stream = output.add_stream_from_template(media.stream)
        way, heard = sound.copied_or_encoded(output)
        key_pts, latest = int(index.key_pts[key]), [int(index.key_pts[key])]

        def pictures() -> Iterator[Packet]:
            frame_ticks = max(1, round(1 / info.fps / tick_s))
            for pts, dts, packet in _whole_groups(_dated(packets, frame_ticks=frame_ticks), end_pts):
                step()
                if pts < key_pts:  # shown before the key frame, and made of frames before it
                    continue
                latest[0] = max(latest[0], pts)
                packet.pts, packet.dts, packet.stream = pts - key_pts, dts - key_pts, stream
                yield packet

        _mux(output, pictures(), heard)
    with open_video(path):  # what was copied can be read by itself
        pass
    after = int(np.searchsorted(index.pts, latest[0])) + 1
    end_s = float(index.times_s[after]) if after < len(index.times_s) else index.duration_s
    return replace(copied, end_s=end_s, sound=way, note=sound.note)


def _dated(packets: Iterator[Packet], *, frame_ticks: int) -> Iterator[_Dated]:
    """Yield packets with when they are decoded: after a seek, Matroska does not say it of the first ones."""
    held: list[tuple[int, Packet]] = []
    for packet in packets:
        if packet.pts is None or packet.is_discard or len(held) > _MAX_REORDERED:
            raise _NotCopiedError
        held.append((packet.pts, packet))
        if packet.dts is None:
            continue
        for behind, (pts, one) in zip(range(len(held) - 1, -1, -1), held, strict=True):
            dts = packet.dts - behind * frame_ticks
            if dts > pts:
                raise _NotCopiedError
            yield pts, dts, one
        held.clear()
    if held:
        raise _NotCopiedError


def _whole_groups(packets: Iterator[_Dated], end_pts: int) -> Iterator[_Dated]:
    """Yield packets in the order of decoding up to the last one shown before the end, with what it refers to."""
    held: list[_Dated] = []  # shown after the end; frames before it may refer to them
    for pts, dts, packet in packets:
        if dts >= end_pts:
            return
        held.append((pts, dts, packet))
        if pts < end_pts:
            yield from held
            held.clear()


def _output(path: Path) -> OutputContainer:
    return av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})


def _mux(output: OutputContainer, pictures: Iterator[Packet], sound: Iterator[Packet] | None) -> None:
    for packet in heapq.merge(pictures, sound or (), key=_decoded_s):
        output.mux(packet)


def _decoded_s(packet: Packet) -> float:
    return float((packet.dts or 0) * packet.time_base)


def encoded_pictures(
    output: OutputContainer,
    video: VideoReader,
    frame_idx: Integers,
    start_s: float,
    *,
    max_side: int | None,
    step: Step,
) -> Iterator[Packet]:
    """Return frames as packets of H.264, each at its own time from `start_s` on; options as for `cut_clip`."""
    rate = Fraction(video.info.fps).limit_denominator(1001)
    stream = output.add_stream("libx264", rate=rate, options=_X264)
    width, height = video.info.width, video.info.height
    scale = min(1.0, (max_side or math.inf) / min(width, height))
    stream.width, stream.height = (max(2, round(side * scale / 2) * 2) for side in (width, height))  # H.264 needs even
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _CLOCK

    def packets() -> Iterator[Packet]:
        for batch in video.stream(frame_idx, chunk=_READ_AT_ONCE):
            step()
            for picture, time_s in zip(batch.frames, batch.times_s, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(stream.width, stream.height, format="yuv420p")
                frame.pts, frame.time_base = round(max(0.0, float(time_s) - start_s) / _CLOCK), _CLOCK
                yield from stream.encode(frame)
        yield from stream.encode()

    return packets()


class _Sound:
    """The sound of a part of a file, from a container of its own.

    Attributes:
        note: why it gives none.
    """

    def __init__(self, file: PyAVSource | None, source: Path, clip: Clip) -> None:
        self.note = ""
        self._clip, self._media, self._stream = clip, None, None
        if file is None:
            return
        media: Media = open_media(source)
        self._media = media
        stream = media.container.streams.best("audio")
        if not isinstance(stream, AudioStream) or stream.codec_context is None or not stream.codec_context.sample_rate:
            return
        if file.index.in_file_order and media.container.format.name != "avi":
            self.note = "the times of its parts start again"
            return
        stream.discard, media.stream.discard = Discard.default, Discard.all
        self._stream = stream
        # Pictures that are counted have no times that sound could begin before.
        first = 0 if file.index.counted else int(file.index.pts[0])
        self._origin_s = float(first * (media.stream.time_base or 1))
        self._tick_s = float(stream.time_base or Fraction(1, stream.codec_context.sample_rate))

    def close(self) -> None:
        """Release the file."""
        if self._media is not None:
            self._media.close()

    def copied_or_encoded(self, output: OutputContainer) -> tuple[str, Iterator[Packet] | None]:
        """Return how the sound is kept ("copied", "encoded" or ""), and its packets."""
        if self._stream is None or self._stream.codec_context.name not in _COPIED_SOUND:
            encoded = self.encoded(output)
            return ("encoded" if encoded else ""), encoded
        packets = (packet for packet in self._packets() if self._time_s(packet.pts) >= self._clip.start_s)
        first = next(packets, None)
        if first is None:
            return "", None
        stream = output.add_stream_from_template(self._stream)
        shift = round((self._origin_s + self._clip.start_s) / self._tick_s)

        def shifted() -> Iterator[Packet]:
            latest = -1
            for packet in chain([first], packets):
                pts = (packet.pts or 0) - shift
                if pts > latest:  # damaged files may go back in time
                    packet.pts, packet.dts, packet.stream, latest = pts, pts, stream, pts
                    yield packet

        return "copied", shifted()

    def encoded(self, output: OutputContainer) -> Iterator[Packet] | None:
        """Return the sound as packets of AAC in mono or stereo; None where there is none."""
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            return None
        rate = first.sample_rate
        stream = output.add_stream("aac", rate=rate, layout=first.layout.name)

        def packets() -> Iterator[Packet]:
            for frame in chain([first], frames):
                yield from stream.encode(frame)
            yield from stream.encode()

        return packets()

    def _time_s(self, pts: int | None) -> float:
        return (pts or 0) * self._tick_s - self._origin_s

    def _packets(self) -> Iterator[Packet]:
        """Yield the packets from before the start to the end, which hold data and a time."""
        if self._stream is None or self._media is None:
            return
        container = self._media.container
        try:
            container.seek(round((self._origin_s + self._clip.start_s) / self._tick_s), stream=self._stream)
            self._media.file.end_metering()
            for packet in islice(container.demux(self._stream), _MAX_PACKETS):
                if packet.size == 0 or packet.pts is None:
                    continue
                if self._time_s(packet.pts) >= self._clip.end_s:
                    return
                yield packet
        except (av.FFmpegError, LimitError):
            self.note = "it cannot be read to its end"

    def _frames(self) -> Iterator[AudioFrame]:
        """Yield the frames of sound that begin within the clip, in mono or stereo, timed from its start."""
        if self._stream is None:
            return
        codec = self._stream.codec_context
        rate = codec.sample_rate if codec.sample_rate in _AAC_RATES else 48_000
        layout, resampler, made_for = "", None, None
        until_s = self._clip.start_s - _ROUNDING_S
        for packet in self._packets():
            try:
                for frame in codec.decode(packet):
                    time_s = self._time_s(frame.pts) if frame.pts is not None else -1.0
                    if not until_s <= time_s < self._clip.end_s:
                        continue
                    until_s = time_s + (frame.samples - 1) / frame.sample_rate  # damaged files may go back in time
                    layout = layout or ("mono" if frame.layout.nb_channels == 1 else "stereo")
                    kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                    if resampler is None or kind != made_for:
                        resampler, made_for = AudioResampler(format="fltp", layout=layout, rate=rate), kind
                    frame.pts = round((time_s - self._clip.start_s) * frame.sample_rate)
                    frame.time_base = Fraction(1, frame.sample_rate)
                    yield from resampler.resample(frame)
            except (av.FFmpegError, ValueError):  # a damaged packet: those around it may still be good
                self.note = "parts of it cannot be decoded"

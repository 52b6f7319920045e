"""Frames of one video, decoded and encoded when they are asked for, each once.

T frames of one video, N frames that are asked for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import interpolate, pad

from lavis.common.errors import VideoError
from lavis.common.types import Floats, FrameBatch, Integers
from lavis.video import VideoReader

# Frames of which an encoder's input may be kept until another one reads it: 48 MiB of patch features at base size in
# fp32, 44 at Flan-T5-XL size in bf16. Memory must stay flat for longer videos.
MAX_KEPT_INPUTS = 64
# Side in pixels of pictures that views of a source share: 12 KiB each at most.
_SMALL = 64

Channels = tuple[float, float, float]
Progress = Callable[[int, int], None]
OpenVideo = Callable[[], VideoReader]


@dataclass
class Timings:
    """Seconds spent so far in each part; `localize` and `answer` grow with every question."""

    decode_s: float = 0.0
    watch_s: float = 0.0
    localize_s: float = 0.0
    answer_s: float = 0.0

    def __post_init__(self) -> None:
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time the block takes to one of the parts; a part that is measured within it counts by itself."""
        self._switch()
        self._stack.append(part)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    @property
    def total_s(self) -> float:
        """Seconds of all parts."""
        return self.decode_s + self.watch_s + self.localize_s + self.answer_s

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._stack:
            setattr(self, self._stack[-1], getattr(self, self._stack[-1]) + now - self._since)
        self._since = now


@dataclass(frozen=True)
class FrameEncoder:
    """A step from frames to what a model reads of them.

    Attributes:
        name: unique among the encoders of a model.
        run: frames (a `FrameBatch` of pictures, or prepared pixels [n, 3, H, W]), or what the encoder before made of
            them, to a tensor [n, ...].
        size: side in pixels of the square pictures that it takes; None is the video's own size.
        before: the encoder whose output this one takes, in place of frames.
        shape: of what it makes of one frame, where that is known.
        takes_prepared: whether it takes pixels that a data loader has prepared; else pictures, whatever there is.
    """

    name: str
    run: Callable[[Any], torch.Tensor]
    size: int | None = None
    before: "FrameEncoder | None" = None
    shape: tuple[int, ...] | None = None
    takes_prepared: bool = True


class EncodedMemory(Protocol):
    """Keeps what encoders made of all frames of one source."""

    def read(self, encoder: FrameEncoder) -> torch.Tensor | None:
        """Return what an encoder made of all frames [T, ...], or None."""

    def write(self, encoder: FrameEncoder, values: torch.Tensor) -> None:
        """Keep what an encoder made of all frames."""


class FrameSource:
    """Frames of one video.

    A frame is decoded when pictures of it, or what an encoder makes of it, are asked for; what encoders make is kept.
    A damaged frame is replaced by the nearest one before it, under that one's index and time, when it is decoded.

    Args:
        frame_idx: int64 [T], indices into the source video, increasing.
        times_s: float64 [T], their presentation times.
        open_video: opens the source video; None where only `pixels` are there.
        pixels: [T, 3, H, W], frames that are decoded and prepared already; encoders get these. Of uint8 they are
            pictures as they are.
        normalization: mean and standard deviation that `pixels` were normalised by: they are for the encoders in
            `together`, and others get pictures. Where the video cannot be opened, pictures are made of the pixels: as
            they were prepared, so with their random crop, if any.
        memory: where what encoders made of all frames is kept beyond this object, of those in `together` if there
            are any; None is nowhere.
        together: encoders that take the same input. Of a video of more than 64 frames that input is not kept, so all
            of them run when one does.
        chunk: frames that are decoded and encoded at once.
        decoded: frames that were decoded to prepare `pixels`.
    """

    def __init__(
        self,
        frame_idx: Integers,
        times_s: Floats,
        *,
        open_video: OpenVideo | None = None,
        pixels: torch.Tensor | None = None,
        normalization: tuple[Channels, Channels] | None = None,
        memory: "EncodedMemory | None" = None,
        together: Sequence[FrameEncoder] = (),
        chunk: int = 32,
        timings: Timings | None = None,
        decoded: int = 0,
    ) -> None:
        self.frame_idx, self.times_s = frame_idx.copy(), times_s.copy()
        self.warnings: tuple[str, ...] = ()
        self.was_decoded = np.zeros(len(frame_idx), dtype=bool)
        self._num_decoded, self._num_told = np.array([decoded]), 0  # shared with views
        self._open_video, self._pixels, self._memory = open_video, pixels, memory
        self._normalization = normalization
        self._together, self._chunk = together, chunk
        self._timings = timings or Timings()
        self._kept: dict[FrameEncoder, _Rows] = {}

    def __len__(self) -> int:
        return len(self.frame_idx)

    @property
    def num_decoded(self) -> int:
        """How many pictures were decoded so far; a frame that was decoded twice counts twice."""
        return int(self._num_decoded[0])

    def newly_decoded(self) -> int:
        """Return how many pictures were decoded since this was called before, or ever."""
        new, self._num_told = self.num_decoded - self._num_told, self.num_decoded
        return new

    def picture_size(self) -> tuple[int, int]:
        """Return the height and width of pictures in the video's own size; nothing is decoded for it.

        Raises:
            VideoError: the video cannot be opened, and no pixels are there.
        """
        if self._open_video is not None:
            with self._open_video() as video:
                return video.info.height, video.info.width
        if self._pixels is None:
            raise VideoError("the pictures of these frames are not at hand")
        return int(self._pixels.shape[2]), int(self._pixels.shape[3])

    def pictures(self, positions: npt.ArrayLike, *, size: int | None = None) -> npt.NDArray[np.uint8]:
        """Decode frames: uint8 [N, H, W, 3], resized to squares of a side where `size` says so. They are not kept.

        Raises:
            VideoError: nothing can be decoded.
        """
        wanted, places = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        batches = [frames.frames for _, frames in self.decoded(wanted, size=size)]
        return np.concatenate(batches)[places.ravel()]

    def encoded(
        self, encoder: FrameEncoder, positions: npt.ArrayLike | None = None, *, progress: Progress | None = None
    ) -> torch.Tensor:
        """Return what an encoder makes of frames, [N, ...] or of all [T, ...]; `progress` gets (done, to do) by chunk.

        Raises:
            VideoError: nothing can be decoded.
        """
        wanted = np.arange(len(self)) if positions is None else np.asarray(positions, dtype=np.int64).ravel()
        rows = self._rows(encoder)
        is_models = encoder in (self._together or [encoder])
        if self._memory is not None and is_models and len(rows.missing(wanted)):
            self._recall(encoder, self._memory)
        new = rows.missing(wanted)
        done = 0
        for chunk, _ in self._encode(encoder, new) if len(new) else ():
            done += len(chunk)
            if progress:
                progress(done, len(new))
        if progress and not done:
            progress(len(wanted), len(wanted))
        return rows.at(wanted)

    def missing(self, encoder: FrameEncoder, positions: npt.ArrayLike) -> Integers:
        """Return the positions of which an encoder's output is not kept, each once, increasing."""
        return self._rows(encoder).missing(np.asarray(positions, dtype=np.int64).ravel())

    def add(self, encoder: FrameEncoder, positions: Integers, values: torch.Tensor) -> None:
        """Keep what an encoder made of frames [N, ...] elsewhere."""
        self._rows(encoder).add(positions, values)

    def pixels_at(self, positions: Integers) -> torch.Tensor:
        """Return prepared pixels [N, 3, H, W], of a source that was made of them."""
        assert self._pixels is not None, "the source was made of a video"
        if len(positions) == len(self._pixels):
            return self._pixels
        return self._pixels[torch.from_numpy(positions).to(self._pixels.device)]

    def _recall(self, encoder: FrameEncoder, memory: "EncodedMemory") -> None:
        """Take what an encoder makes of all frames from the memory; where it is not there, make and keep it."""
        values = memory.read(encoder)
        if values is None:
            # Apart from what is kept here, which must not depend on whether it was found.
            alone = FrameSource(self.frame_idx, self.times_s, pixels=self._pixels, chunk=self._chunk)
            values = alone.encoded(encoder)
            memory.write(encoder, values)
        self.add(encoder, np.arange(len(self)), values)

    def _rows(self, encoder: FrameEncoder) -> "_Rows":
        return self._kept.setdefault(encoder, _Rows(len(self)))

    def _encode(self, encoder: FrameEncoder, positions: Integers) -> Iterator[tuple[Integers, torch.Tensor]]:
        """Yield chunks of positions and what an encoder makes of them, and keep that."""
        inputs = self._inputs(encoder, positions)
        rows = [(encoder, self._rows(encoder))]
        if encoder.before is not None and len(self) > MAX_KEPT_INPUTS:
            others = (one for one in self._together if one.before == encoder.before and one != encoder)
            rows += [(one, self._rows(one)) for one in others]
        for chunk, taken in inputs:
            for one, kept in rows:
                with self._timings.measure("watch_s"):
                    made = _run(one, taken)
                kept.add(chunk, made)
            yield chunk, rows[0][1].at(chunk)

    def _inputs(self, encoder: FrameEncoder, positions: Integers) -> Iterator[tuple[Integers, Any]]:
        before = encoder.before
        if before is None:
            yield from self._prepared(positions, encoder)
            return
        kept = self._rows(before)
        new = kept.missing(positions)
        known = np.setdiff1d(positions, new)
        for chunk in _chunks(known, self._chunk):
            yield chunk, kept.at(chunk)
        for chunk, frames in self._prepared(new, before):
            with self._timings.measure("watch_s"):
                made = _run(before, frames)
            if len(self) <= MAX_KEPT_INPUTS:
                kept.add(chunk, made)
            yield chunk, made

    def _takes_pixels(self, encoder: FrameEncoder) -> bool:
        if self._pixels is None or self._normalization is None:
            return self._pixels is not None
        is_own = (encoder.before or encoder) in [one.before or one for one in self._together]
        return is_own and (encoder.before or encoder).takes_prepared

    def _prepared(self, positions: Integers, encoder: FrameEncoder) -> Iterator[tuple[Integers, Any]]:
        """Yield chunks of positions and what an encoder takes: pixels that were prepared for it, else pictures."""
        if not self._takes_pixels(encoder):
            yield from self.decoded(positions, size=encoder.size)
            return
        for chunk in _chunks(positions, self._chunk):
            yield chunk, self.pixels_at(chunk)

    def decoded(self, positions: Integers, *, size: int | None = None) -> Iterator[tuple[Integers, FrameBatch]]:
        """Decode frames at increasing positions chunk by chunk: yield positions and the frames there, as `pictures`.

        Raises:
            VideoError: nothing can be decoded.
        """
        if not len(positions):
            return
        if self._open_video is None and self._pixels is not None and self._normalization is not None:
            for chunk in _chunks(positions, self._chunk):
                pictures = _pictures_of(self.pixels_at(chunk), *self._normalization, size=size)
                yield chunk, FrameBatch(pictures, self.frame_idx[chunk], self.times_s[chunk])
            return
        if self._open_video is None:
            raise VideoError("the pictures of these frames are not at hand: only prepared pixels are")
        with self._timings.measure("decode_s"):
            video = self._open_video()
        with video:
            batches = video.stream(self.frame_idx[positions], size=size, chunk=self._chunk)
            for chunk in _chunks(positions, self._chunk):
                with self._timings.measure("decode_s"):
                    frames = next(batches)
                self.frame_idx[chunk], self.times_s[chunk] = frames.frame_idx, frames.times_s
                self.was_decoded[chunk] = True
                self._num_decoded[0] += len(chunk)
                yield chunk, frames
            self.warnings = tuple(dict.fromkeys((*self.warnings, *video.warnings)))


class FrameView(FrameSource):
    """The frames of another source, as somebody sees them who asks for them first.

    What is decoded and encoded is shared with the source and its other views. What was asked for through this one is
    counted: `was_decoded`, and in `shared_s` the seconds that encoding would have taken where it was done before.

    Args:
        paces: seconds that each encoder takes for a frame, shared by views; what is encoded now is measured.
    """

    def __init__(self, frames: FrameSource, *, paces: dict[FrameEncoder, float]) -> None:
        vars(self).update(vars(frames))
        self.was_decoded = np.zeros(len(frames), dtype=bool)
        self.shared_s = 0.0
        self._paces, self._asked = paces, dict[FrameEncoder, npt.NDArray[np.bool_]]()

    def encoded(
        self, encoder: FrameEncoder, positions: npt.ArrayLike | None = None, *, progress: Progress | None = None
    ) -> torch.Tensor:
        """Return what an encoder makes of frames; as of any source."""
        wanted = np.arange(len(self)) if positions is None else np.asarray(positions, dtype=np.int64).ravel()
        new, started = len(self.missing(encoder, wanted)), time.perf_counter()
        found = super().encoded(encoder, wanted, progress=progress)
        if new:
            self._paces[encoder] = (time.perf_counter() - started) / new
        asked = self._asked.setdefault(encoder, np.zeros(len(self), dtype=bool))
        first = len(np.unique(wanted[~asked[wanted]]))
        self.shared_s += max(0, first - new) * self._paces.get(encoder, 0.0)
        asked[wanted] = self.was_decoded[wanted] = True
        return found

    def pictures(self, positions: npt.ArrayLike, *, size: int | None = None) -> npt.NDArray[np.uint8]:
        """Decode frames; as of any source, but that small ones are kept for other views."""
        if size is None or size > _SMALL:
            return super().pictures(positions, size=size)
        kept = FrameEncoder("pictures", _as_tensor, size=size, takes_prepared=False)
        return self.encoded(kept, positions).cpu().numpy()

    def decoded(self, positions: Integers, *, size: int | None = None) -> Iterator[tuple[Integers, FrameBatch]]:
        """Decode frames; as of any source."""
        self.was_decoded[positions] = True
        return super().decoded(positions, size=size)


class _Rows:
    """What an encoder made of some of T frames, in the order it was made in."""

    def __init__(self, num_frames: int) -> None:
        self._row_of = np.full(num_frames, -1)
        self._parts: list[torch.Tensor] = []
        self.count = 0

    def missing(self, positions: Integers) -> Integers:
        """Return those that are not there, each once, increasing."""
        return np.unique(positions[self._row_of[positions] < 0])

    def add(self, positions: Integers, values: torch.Tensor) -> None:
        """Add rows; those that are there already stay as they are."""
        new = self._row_of[positions] < 0
        if not new.all():
            positions, values = positions[new], values[torch.from_numpy(new).to(values.device)]
        self._row_of[positions] = np.arange(self.count, self.count + len(positions))
        self._parts.append(values)
        self.count += len(positions)

    def at(self, positions: Integers) -> torch.Tensor:
        """Return the rows of frames; all of them in the order they were made in are not copied."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        (rows,) = self._parts
        wanted = self._row_of[positions]
        return rows if np.array_equal(wanted, np.arange(self.count)) else rows[torch.from_numpy(wanted).to(rows.device)]


def joined(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join features [n, ..., P, E] of several videos; of pictures of other sizes P differs, and zeros fill the rest."""
    most = max(one.shape[-2] for one in features)
    return torch.cat([pad(one, (0, 0, 0, most - one.shape[-2])) if one.shape[-2] < most else one for one in features])


# What is kept may be trained on later, which tensors made in inference mode do not allow.
@torch.inference_mode(mode=False)
@torch.no_grad()
def _run(encoder: FrameEncoder, frames: Any) -> torch.Tensor:
    return encoder.run(frames)


def _as_tensor(batch: FrameBatch) -> torch.Tensor:
    return torch.from_numpy(batch.frames)


def _pictures_of(pixels: torch.Tensor, mean: Channels, std: Channels, *, size: int | None) -> npt.NDArray[np.uint8]:
    """Return pictures uint8 [N, H, W, 3] of normalised pixels [N, 3, H, W], or of uint8 ones as they are."""
    means, stds = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (mean, std))
    shown = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float() * stds + means
    if size is not None and shown.shape[2:] != (size, size):
        shown = interpolate(shown, size=(size, size), mode="bicubic", antialias=True)
    return (shown * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _chunks(positions: Integers, size: int) -> Iterator[Integers]:
    return (positions[start : start + size] for start in range(0, len(positions), size))

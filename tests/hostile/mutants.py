"""Hundreds of bad video files, the same ones for the same seed."""

import multiprocessing
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.hostile.mp4 import LIES
from tests.videos import write_sound, write_video


@dataclass(frozen=True)
class Mutant:
    """A bad file; its name tells what it was made of and how."""

    name: str
    content: bytes


def write_good_files(folder: Path) -> list[Path]:
    """Write the small good files that bad ones are made of: one for each kind of file people have."""
    faststart, fragments = {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    return [
        write_video(folder / "plain.mp4"),
        write_video(folder / "faststart.mp4", muxer_options=faststart, times_s=[0, 0.04, 0.5, 0.6, 2.0]),
        write_video(folder / "fragmented.mp4", muxer_options=fragments),
        write_video(folder / "turned.mov", rotation=90),
        write_video(folder / "hevc.mp4", codec="libx265", num_frames=10, codec_options={"x265-params": "log-level=0"}),
        write_video(folder / "h264.mkv"),
        write_video(folder / "vp9.webm", codec="libvpx-vp9", num_frames=8),
        write_video(folder / "stream.ts"),
        write_video(folder / "mpeg4.avi", codec="mpeg4"),
        write_video(folder / "flash.flv"),
        write_video(folder / "program.mpg", codec="mpeg2video"),
        write_sound(folder / "sound.m4a"),
    ]


def mutants(folder: Path, *, count: int, seed: int) -> Iterator[Mutant]:
    """Yield `count` bad files; every kind of damage comes in turn.

    Args:
        folder: for the good files they are made of.
    """
    good = {path: path.read_bytes() for path in write_good_files(folder)}
    boxed = [path for path in good if path.suffix in (".mp4", ".mov", ".m4a")]
    bombs = write_bombs(folder)
    kinds = [*((lie.__name__, lie, boxed) for lie in LIES), *((hurt.__name__, hurt, list(good)) for hurt in DAMAGES)]
    yield from (Mutant(f"bomb-{path.name}", path.read_bytes()) for path in bombs)
    for number in range(count - len(bombs)):
        rng = random.Random(f"{seed} {number}")
        name, change, sources = kinds[number % len(kinds)]
        # Not at random: every kind of damage meets every kind of file.
        path = sources[number // len(kinds) % len(sources)]
        content = bytearray(good[path])
        change(content, rng)
        yield Mutant(f"{number:04d}-{name}-{path.name}", bytes(content))


def _flipped(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 10, 200, len(content) // 20])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _flipped_header(content: bytearray, rng: random.Random) -> None:
    tables = max(content.find(b"moov"), 0)
    for _ in range(rng.choice([1, 3, 30])):
        content[min(len(content) - 1, tables + rng.randrange(1500))] = rng.randrange(256)


def _cut(content: bytearray, rng: random.Random) -> None:
    start, end = sorted(rng.randrange(len(content)) for _ in range(2))
    if rng.random() < 0.7:
        start = 0 if rng.random() < 0.8 else len(content) - end
        del content[len(content) - start or rng.randrange(1, len(content)) :]
    else:
        del content[start:end]


def _overwritten(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    length = rng.choice([4, 64, 4096])
    content[start : start + length] = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])


def _shuffled(content: bytearray, rng: random.Random) -> None:
    size = rng.choice([16, 188, 1000])
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    for _ in range(rng.choice([1, 5, 50])):
        first, second = rng.randrange(len(blocks)), rng.randrange(len(blocks))
        blocks[first], blocks[second] = blocks[second], blocks[first]
    content[:] = b"".join(blocks)


def _repeated(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:start] = content[start : start + rng.choice([8, 500, 5000])] * rng.choice([1, 10, 100])


def _huge_numbers(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 2, 8])):
        start = rng.randrange(max(1, min(len(content) - 8, 2000)))
        content[start : start + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x10\0\0\0"])


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flipped, _flipped_header, _cut, _overwritten, _shuffled, _repeated, _huge_numbers,
)  # fmt: skip


def write_bombs(folder: Path) -> list[Path]:
    """Write files of a few kilobytes that decode to a great many, or very large, pictures.

    In a process of its own: where a video has been read, FFmpeg may no longer allocate as much as this takes.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_write_bombs, folder).result()


def _write_bombs(folder: Path) -> list[Path]:
    return [
        _bomb(folder / "wide.avi", width=8000, height=4400, repeats=20),
        _bomb(folder / "long.mp4", width=4096, height=4096, repeats=2000),
        _bomb(folder / "countless.avi", width=64, height=48, repeats=250_000),
        _bomb(folder / "countless.ts", width=64, height=48, repeats=20_000, codec="mpeg2video"),
    ]


def _bomb(path: Path, *, width: int, height: int, repeats: int, codec: str = "mpeg4") -> Path:
    """Write one grey picture, and then "the same again" many times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 600, 0
        picture = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), format="yuv420p")
        packets = []
        for number in range(3):
            picture.pts, picture.time_base = number, Fraction(1, 25)
            packets += stream.encode(picture)
        packets += stream.encode()
        for packet in packets[:2]:
            container.mux(packet)
        again = bytes(packets[-1])
        for number in range(2, repeats):
            packet = av.Packet(again)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    return path

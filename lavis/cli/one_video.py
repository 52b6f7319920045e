"""What `sevila answer` and `sevila find` share: watching a video as the command line asks, and saving results."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lavis.cli.options import cache_of, clip_of
from lavis.cli.show import progress_bar
from lavis.common.naming import counted, visible
from lavis.common.types import Answer, Moments
from lavis.export import (
    answer_picture,
    answer_record,
    check_folder,
    jpeg,
    keyframe_name,
    moments_picture,
    moments_record,
    moments_vtt,
    slug,
    thumbnail,
    to_json,
)
from lavis.export.pictures import best_positions, option_shares
from lavis.export.records import LETTERS
from lavis.models.pipeline import WatchedVideo, frames_to_watch
from lavis.video import open_video

_MOST_MOMENT_PICTURES = 8
_READ_AT_ONCE = 8
_BAR_WIDTH = 30


@dataclass(frozen=True)
class Watched:
    """A watched video, and what is told of how it came about."""

    video: WatchedVideo
    model_name: str
    load_s: float

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds per part, so far."""
        return {"load": self.load_s, **{part[:-2]: value for part, value in asdict(self.video.timings).items()}}


def check_watching(args: argparse.Namespace) -> None:
    """Refuse what cannot work before a model is loaded, which may take minutes.

    Raises:
        UserError: the result folder, the cache, the video, or how it is to be read.
    """
    if args.save:
        check_folder(args.save, force=args.force)
    cache_of(args)
    with open_video(args.video, reader=args.reader, fps=args.fps) as video:
        frames_to_watch(video, num_frames=args.num_frames, clip=clip_of(args))


def watch_video(args: argparse.Namespace) -> Watched:
    """Load the model and watch the video, with progress on a terminal's standard error.

    Raises:
        UserError: see `lavis.load_model` and `lavis.models.pipeline.watch`.
    """
    with progress_bar() as bar:
        bar.add_task("loading the model", total=None)
        from lavis.models.loading import load_model  # takes seconds, which are not the model's

        started = time.perf_counter()
        model = load_model(
            "sevila",
            args.model,
            device=args.device,
            dtype=args.dtype,
            quantize=args.quantize,
            compiled=args.compile,
        )
        load_s = time.perf_counter() - started
    with progress_bar() as bar:
        task = bar.add_task("watching the video", total=None)
        video = model.watch(
            args.video,
            num_frames=args.num_frames,
            clip=clip_of(args),
            reader=args.reader,
            fps=args.fps,
            cache=cache_of(args),
            progress=lambda seen, total: bar.update(task, completed=seen, total=total),
        )
    return Watched(video, model.config.name, load_s)


@dataclass(frozen=True)
class _Frame:
    jpeg: bytes
    small: npt.NDArray[np.uint8]


def answer_files(answer: Answer, watched: Watched) -> dict[str, bytes]:
    """Return the files of an answer by name: the record, the keyframes as they are in the video, the picture."""
    video, keyframes = watched.video, answer.keyframes
    frames = _read(watched, keyframes.frame_idx)
    origin: dict[str, Any] = {"video": video.info, "model": watched.model_name}
    record = answer_record(answer, timings_s=watched.timings_s, **origin)
    files = {"answer.json": _text(to_json(record))}
    chosen = zip(keyframes.times_s, keyframes.frame_idx, frames, strict=True)
    for number, (time_s, frame_idx, frame) in enumerate(chosen, start=1):
        files[keyframe_name(number, time_s=float(time_s), frame_idx=int(frame_idx))] = frame.jpeg
    files["scores.png"] = answer_picture(answer, frames=[frame.small for frame in frames], **origin)
    return files


def all_answer_files(answers: Sequence[Answer], watched: Watched) -> dict[str, bytes]:
    """Return the files of several answers, each in a folder of its own, numbered and named by id or question."""
    files: dict[str, bytes] = {}
    for number, answer in enumerate(answers, start=1):
        folder = f"{number:02d}_{slug(answer.question.id or answer.question.text)}".rstrip("_")
        files |= {f"{folder}/{name}": content for name, content in answer_files(answer, watched).items()}
    return files


def moments_files(moments: Moments, watched: Watched) -> dict[str, bytes]:
    """Return the files of a moment search by name: the record, subtitles, the picture."""
    best = best_positions(moments)[:_MOST_MOMENT_PICTURES]
    frames = _read(watched, watched.video.frame_idx[best])
    origin: dict[str, Any] = {"video": watched.video.info, "model": watched.model_name}
    return {
        "moments.json": _text(to_json(moments_record(moments, timings_s=watched.timings_s, **origin))),
        "moments.vtt": _text(moments_vtt(moments)),
        "scores.png": moments_picture(moments, frames=[frame.small for frame in frames], **origin),
    }


def _read(watched: Watched, frame_idx: npt.NDArray[np.int64]) -> list[_Frame]:
    """Read frames in any order at the video's own size, and keep them only as JPEG and thumbnail."""
    order, places = np.unique(frame_idx, return_inverse=True)
    frames = [
        _Frame(jpeg(picture), thumbnail(picture))
        for start in range(0, len(order), _READ_AT_ONCE)
        for picture in watched.video.frames(order[start : start + _READ_AT_ONCE]).frames
    ]
    return [frames[place] for place in places]


def _text(content: str) -> bytes:
    return f"{content.rstrip()}\n".encode()


def show_video(console: Console, video: WatchedVideo, *, model: str) -> None:
    """Print what was watched by whom."""
    info, part = video.info, f" from {video.clip}" if video.clip else ""
    size = f"{info.width}x{info.height}"
    facts = f"{info.duration_s:.2f} s, {counted(info.num_frames, 'frame')} at {info.fps:.4g} fps, {size}"
    seen = f"{counted(len(video.frame_idx), 'frame')}{part} watched by {model}"
    line = Text.assemble((info.path, "bold"), f": {facts}; {seen}")
    _print(console, line)


def show_caveats(console: Console, caveats: Sequence[str]) -> None:
    """Print what must not be overlooked."""
    for caveat in caveats:
        _print(console, Text(f"! {caveat}", style="bold yellow"))


def show_answer(console: Console, answer: Answer) -> None:
    """Print question, options with bars, and keyframes."""
    _print(console, Text(f"\n{answer.question.text}", style="bold"))
    if answer.index is None:
        _print(console, Text.assemble("answer: ", (answer.text or "(none)", "bold green")))
    else:
        console.print(_options(answer, answer.index))
        _print(console, Text.assemble("answer: ", (f"{LETTERS[answer.index]} {answer.text}", "bold green")))
    keyframes = answer.keyframes
    rows = [
        [f"{int(frame_idx)}", f"{time_s:.2f} s"]
        for frame_idx, time_s in zip(keyframes.frame_idx, keyframes.times_s, strict=True)
    ]
    columns = ["frame", "time"]
    if len(keyframes.scores):
        columns.append("score")
        rows = [[*row, f"{score:.3f}"] for row, score in zip(rows, keyframes.scores, strict=True)]
    if len(answer.frame_choices):
        columns.append("chooses")
        rows = [[*row, LETTERS[choice]] for row, choice in zip(rows, answer.frame_choices, strict=True)]
    console.print(_numbered("keyframe", columns, rows))
    scored, total = keyframes.num_scored, len(keyframes.all_scores)
    if scored < total:
        _print(
            console,
            Text(
                f"{scored} of {counted(total, 'frame')} scored: {1 - scored / total:.0%} of the calls saved",
                style="dim",
            ),
        )


def show_moments(console: Console, found: Moments) -> None:
    """Print the query and its moments, best first."""
    _print(console, Text(f"\n{found.query}", style="bold"))
    if not found.moments:
        best = int(found.scores.argmax())
        nearest = f"the best frame, at {found.times_s[best]:.2f} s, scores {found.scores[best]:.3f}"
        _print(console, Text(f"no moment found; {nearest}"))
        return
    rows = [[f"{one.start_s:.2f} s", f"{one.end_s:.2f} s", f"{one.score:.3f}"] for one in found.moments]
    console.print(_numbered("moment", ["start", "end", "score"], rows))


def show_timings(console: Console, timings_s: Mapping[str, float]) -> None:
    """Print the seconds per part."""
    parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in timings_s.items() if seconds)
    _print(console, Text(f"\ntime: {parts}", style="dim"))


def show_saved(console: Console, folder: Path, names: Sequence[str]) -> None:
    """Print which files were written."""
    _print(console, Text(f"\nsaved in {folder}:"))
    for name in names:
        _print(console, Text(f"  {name}"))


def _options(answer: Answer, chosen: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    shares = option_shares(answer.option_scores)
    for index, text in enumerate(answer.question.options):
        style = "bold green" if index == chosen else ""
        bar = "\u2588" * max(1, round(_BAR_WIDTH * shares[index]))
        score = f"{answer.option_scores[index]:.3f}"
        cells = [">" if index == chosen else "", LETTERS[index], text, bar, f"{shares[index]:.0%}", score]
        table.add_row(*(Text(visible(cell), style=style) for cell in cells))
    return table


def _numbered(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in (name, *columns):
        table.add_column(column, justify="right")
    for number, row in enumerate(rows, start=1):
        table.add_row(str(number), *row)
    return table


def _print(console: Console, text: Text) -> None:
    # Not wrapped, so that paths and messages can be copied and searched for.
    text.plain = visible(text.plain)
    console.print(text, soft_wrap=True)

"""What `sevila answer` and `sevila find` share: watching a video, and saving and printing what comes of it."""

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lavis.cli.common import cache_of, make_console, model_options, progress_bar
from lavis.common.errors import counted
from lavis.common.logging import visible
from lavis.common.types import Answer, Moments, Question, Span
from lavis.export.files import check_folder, slug, write_folder
from lavis.export.records import LETTERS, Record, option_shares, to_json
from lavis.export.results import result_files, result_record
from lavis.models.base import VideoModel
from lavis.models.pipeline import WatchedVideo, frames_to_watch, watch
from lavis.video import open_video

_BAR_WIDTH = 30


@dataclass(frozen=True, eq=False)
class Watched:
    """A watched video, with the model's name and how long loading it took."""

    video: WatchedVideo
    model_name: str
    load_s: float

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds per part, so far."""
        parts = asdict(self.video.timings)
        return {"load": self.load_s, **{part.removesuffix("_s"): value for part, value in parts.items()}}

    def record(self, result: Answer | Moments) -> Record:
        """Return the record of a result."""
        about: Any = {"video": self.video.info, "model": self.model_name, "timings_s": self.timings_s}
        return {**result_record(result, **about), "frames_remembered": self.video.num_remembered}


Result = tuple[Watched, Answer | Moments]


@dataclass(frozen=True)
class Loaded:
    """A model, its name and how long loading it took."""

    model: VideoModel
    name: str
    load_s: float


@dataclass(frozen=True)
class Written:
    """Files that were written besides: what is said of each, and what the record of each result gets for it."""

    lines: tuple[str, ...] = ()
    fields: tuple[Record, ...] = ()


_NOTHING_WRITTEN = Written()


def parts_of(questions: Sequence[Question], args: argparse.Namespace) -> dict[Span | None, list[int]]:
    """Return the places of questions by the part of the video that they ask about: their own, or that of --clip."""
    given = Span(*args.clip) if args.clip else None
    parts: dict[Span | None, list[int]] = {}
    for place, question in enumerate(questions):
        parts.setdefault(question.clip or given, []).append(place)
    return parts


def check_watching(args: argparse.Namespace, parts: Iterable[Span | None]) -> None:
    """Refuse what cannot work before a model is loaded, which may take minutes.

    Raises:
        UserError: the result folder, the cache, the video, a part of it, or how it is to be read.
    """
    if args.save:
        check_folder(args.save, force=args.force)
    cache_of(args)
    with open_video(args.video, reader=args.reader, fps=args.fps) as video:
        for clip in parts:
            frames_to_watch(video, num_frames=args.num_frames, sample_fps=args.sample_fps, clip=clip)


def load_model(args: argparse.Namespace) -> Loaded:
    """Load the model that the options name."""
    with progress_bar("loading the model"):
        from lavis.models.mixed import load_chain  # takes seconds, which are not the model's

        started = time.perf_counter()
        model = load_chain(**model_options(args), quantize=args.quantize, compiled=args.compile)
        load_s = time.perf_counter() - started
    return Loaded(model, model.config.name if hasattr(model, "config") else args.model, load_s)


def watch_video(args: argparse.Namespace, loaded: Loaded, *, clip: Span | None, lazy: bool = False) -> Watched:
    """Watch the video, with progress on a terminal's standard error; `lazy` as in `watch`."""
    with progress_bar(getattr(args, "watching", "watching the video")) as progress:
        video = watch(
            loaded.model,
            args.video,
            num_frames=args.num_frames,
            sample_fps=args.sample_fps,
            clip=clip,
            reader=args.reader,
            fps=args.fps,
            cache=cache_of(args),
            lazy=lazy,
            progress=progress,
        )
    return Watched(video, loaded.name, loaded.load_s)


def present(
    args: argparse.Namespace, results: Sequence[Result], *, several: bool, written: Written = _NOTHING_WRITTEN
) -> None:
    """Save results where --save says, and print them, as JSON alone with --json; each of `several` in its folder."""
    files = save_results(args, results, several=several)
    if args.json:
        records = records_of(results)
        for record, fields in zip(records, written.fields, strict=False):
            record |= fields
        print(to_json(records if several else records[0]))
        return
    console = make_console()
    for watched in dict.fromkeys(watched for watched, _ in results):
        _show(console, watched, [result for seen, result in results if seen is watched])
    for line in written.lines:
        _print(console, line)
    if args.save:
        _print(console, "\n".join([f"\nsaved in {args.save}:", *(f"  {name}" for name in files)]))


def records_of(results: Sequence[Result]) -> list[Record]:
    """Return the record of each result."""
    return [watched.record(result) for watched, result in results]


def save_results(args: argparse.Namespace, results: Sequence[Result], *, several: bool) -> list[str]:
    """Write the files of results where --save says, each of `several` in a folder; return their names."""
    files: dict[str, bytes] = {}
    if args.save:
        for number, (watched, result) in enumerate(results, start=1):
            folder = f"{folder_name(number, result)}/" if several else ""
            files |= {f"{folder}{name}": content for name, content in _files(result, watched).items()}
        write_folder(args.save, files, force=args.force)
    return list(files)


def _show(console: Console, watched: Watched, results: Sequence[Answer | Moments]) -> None:
    """Print what was watched, and what came of it."""
    _show_video(console, watched)
    for caveat in dict.fromkeys(caveat for result in results for caveat in result.caveats):
        _print(console, f"! {caveat}", style="bold yellow")
    for result in results:
        if isinstance(result, Answer):
            _show_answer(console, result)
        else:
            _show_moments(console, result)
    parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in watched.timings_s.items() if seconds)
    _print(console, f"\ntime: {parts}", style="dim")
    if remembered := watched.video.num_remembered:
        of_all = f"{remembered} of {counted(len(watched.video.frame_idx), 'frame')}"
        _print(console, f"remembered: {of_all} from the cache", style="dim")
    if cost := results[0].cost:
        tokens = "" if cost.frame_tokens is None else f", {counted(int(cost.frame_tokens), 'token')} of frames read"
        calls = counted(int(cost.scorer_calls), "call")
        frames = f"{int(cost.frames_decoded)} decoded, {int(cost.frames_scored)} scored in {calls}"
        _print(console, f"frames: {frames}{tokens}", style="dim")


def folder_name(number: int, result: Answer | Moments) -> str:
    """Return the name of a result's folder, such as "01_what_happens"."""
    text = result.question.id or result.question.text if isinstance(result, Answer) else result.query
    return f"{number:02d}_{slug(text)}".rstrip("_")


def _files(result: Answer | Moments, watched: Watched) -> dict[str, bytes]:
    about: Any = {"video": watched.video.info, "model": watched.model_name}
    return result_files(result, record=watched.record(result), read=watched.video.frames, **about)


def _show_video(console: Console, watched: Watched) -> None:
    video, info = watched.video, watched.video.info
    part = f" from {video.clip}" if video.clip else ""
    size = f"{info.width}x{info.height}"
    facts = f"{info.duration_s:.2f} s, {counted(info.num_frames, 'frame')} at {info.fps:.4g} fps, {size}"
    of_all = f"{video.num_seen} of " if video.num_seen < len(video.frame_idx) else ""
    seen = f"{of_all}{counted(len(video.frame_idx), 'frame')}{part} watched by {watched.model_name}"
    _print(console, (info.path, "bold"), f": {facts}; {seen}")


def _show_answer(console: Console, answer: Answer) -> None:
    """Print question, options with bars, and keyframes."""
    _print(console, f"\n{answer.question.text}", style="bold")
    text = answer.text or "(none)"
    if answer.index is not None:
        console.print(_options(answer, answer.index))
        text = f"{LETTERS[answer.index]} {answer.text}"
    _print(console, "answer: ", (text, "bold green"))
    keyframes = answer.keyframes
    columns = {
        "frame": [f"{int(frame_idx)}" for frame_idx in keyframes.frame_idx],
        "time": [f"{time_s:.2f} s" for time_s in keyframes.times_s],
        "score": ["-" if math.isnan(score) else f"{score:.3f}" for score in keyframes.scores],
        "size": [f"{size:g}" for size in keyframes.sizes],
        "chooses": [LETTERS[choice] for choice in answer.frame_choices],
    }
    console.print(_numbered("keyframe", columns))
    scored, total = keyframes.num_scored, len(keyframes.all_scores)
    if scored < total:
        saved = f"{1 - scored / total:.0%} of the calls saved"
        _print(console, f"{scored} of {counted(total, 'frame')} scored: {saved}", style="dim")


def _show_moments(console: Console, found: Moments) -> None:
    """Print the query and its moments, best first."""
    _print(console, f"\n{found.query}", style="bold")
    if not found.moments:
        best = int(found.scores.argmax())
        nearest = f"the best frame, at {found.times_s[best]:.2f} s, scores {found.scores[best]:.3f}"
        _print(console, f"no moment found; {nearest}")
        return
    columns = {
        "start": [f"{moment.start_s:.2f} s" for moment in found.moments],
        "end": [f"{moment.end_s:.2f} s" for moment in found.moments],
        "score": [f"{moment.score:.3f}" for moment in found.moments],
    }
    console.print(_numbered("moment", columns))


def _options(answer: Answer, chosen: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    shares = option_shares(answer.option_scores)
    for index, text in enumerate(answer.question.options):
        style = "bold green" if index == chosen else ""
        cells = [">" if index == chosen else "", LETTERS[index], text]
        if shares:
            bar = "\u2588" * max(1, round(_BAR_WIDTH * shares[index]))
            cells += [bar, f"{shares[index]:.0%}", f"{answer.option_scores[index]:.3f}"]
        table.add_row(*(Text(visible(cell), style=style) for cell in cells))
    return table


def _numbered(name: str, columns: dict[str, list[str]]) -> Table:
    """Return a table of numbered rows; columns without values are left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    filled = {column: values for column, values in columns.items() if values}
    for column in (name, *filled):
        table.add_column(column, justify="right")
    for number, row in enumerate(zip(*filled.values(), strict=True), start=1):
        table.add_row(str(number), *row)
    return table


def _print(console: Console, *parts: str | tuple[str, str], style: str = "") -> None:
    """Print a text of (styled) parts; not wrapped, so that paths and messages can be copied and searched for."""
    text = Text.assemble(*parts, style=style)
    text.plain = visible(text.plain)
    console.print(text, soft_wrap=True)

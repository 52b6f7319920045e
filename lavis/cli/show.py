"""Results for people, on a terminal or in a log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lavis.common.naming import counted, visible
from lavis.common.types import Answer, Moments
from lavis.export.pictures import option_shares
from lavis.export.records import LETTERS

if TYPE_CHECKING:
    from lavis.models.pipeline import WatchedVideo

_BAR_WIDTH = 30
_LEAST_WIDTH = 100


def make_console() -> Console:
    """Return a console on standard output, wide enough for tables where there is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_LEAST_WIDTH)


def show_video(console: Console, video: "WatchedVideo", *, model: str) -> None:
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

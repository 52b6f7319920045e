"""Text for people: what every subcommand prints with. rich is imported where it is used; help does without it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lavis.common.logging import visible

if TYPE_CHECKING:
    from rich.console import Console

    from lavis.common.distributed import World

_LEAST_WIDTH = 100


def say(text: str = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print a text on standard output."""
    print(visible(text), end=end, flush=flush)


def announce(remarks: Sequence[str], world: "World") -> None:
    """Warn, in the main process alone, of what is odd about a run's settings."""
    if world.is_main:
        for remark in remarks:
            logging.getLogger(__name__).warning(remark)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal's standard error; the block calls it with what is done of how much, and of what."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what=what: bar.update(task, description=what, completed=done, total=total)


def make_console() -> "Console":
    """Return a console on standard output, wide enough for tables where there is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_LEAST_WIDTH)

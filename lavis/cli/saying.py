"""Text for people on standard output."""

from lavis.common.naming import visible


def say(text: str = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print text; names of files and the like can be anything, and reach the terminal without being orders to it."""
    print(visible(text), end=end, flush=flush)

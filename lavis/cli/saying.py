"""Text for people: results on standard output, remarks in the log."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lavis.common.naming import visible

if TYPE_CHECKING:
    from lavis.common.distributed import World


def say(text: str = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print text; names of files and the like can be anything, and reach the terminal without being orders to it."""
    print(visible(text), end=end, flush=flush)


def announce(remarks: Sequence[str], world: "World") -> None:
    """Say once what whoever starts a run should know of its settings."""
    if world.is_main:
        for remark in remarks:
            logging.getLogger(__name__).warning(remark)

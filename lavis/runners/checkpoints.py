"""The checkpoints of a run: numbered folders, each complete or absent.

A folder is made under another name, flushed, sealed with the digests of its files, read again, and only then
renamed. What is found damaged later is set aside, and the one before it is used.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lavis.common.errors import CheckpointError
from lavis.runners.manifest import Manifest, RunShape, flush, seal, verified

logger = logging.getLogger(__name__)

_NUMBERED = re.compile(r"step_(\d+)")
_UNFINISHED = ".unfinished_"
_DAMAGED = "damaged_"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole."""

    folder: Path
    manifest: Manifest


class CheckpointStore:
    """The folder that the checkpoints of one run lie in; for one process.

    Args:
        keep_last: older ones are removed.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self._folder = folder
        self._keep_last = keep_last

    def begin(self, step: int) -> Path:
        """Return an empty folder to write a checkpoint to."""
        self._clear()
        made = self._folder / f"{_UNFINISHED}{_name(step)}"
        made.mkdir(parents=True)
        return made

    def finish(
        self, made: Path, *, step: int, layout: str, shape: RunShape, digests: Mapping[str, str] | None = None
    ) -> Path:
        """Make what was written to a folder of `begin` a checkpoint, and remove those that are too old.

        Args:
            layout: see `Manifest`.
            digests: sha256 of files as they were meant to be written.

        Raises:
            CheckpointError: what can be read back is not what was written.
        """
        seal(made, step=step, layout=layout, shape=shape, digests=digests or {})
        verified(made)
        target = self._folder / _name(step)
        if target.exists():
            # Set aside first: there is no moment at which a folder of this name is half removed.
            target.rename(self._folder / f"{_UNFINISHED}old_{target.name}")
        made.rename(target)
        flush(self._folder)
        for old in self.steps()[: -self._keep_last]:
            aside = self._folder / f"{_UNFINISHED}old_{_name(old)}"
            (self._folder / _name(old)).rename(aside)
        self._clear()
        return target

    def discard(self, made: Path) -> None:
        """Remove what was written to a folder of `begin`: its room may be what is missing."""
        shutil.rmtree(made, ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps there are checkpoints of, oldest first."""
        names = [path.name for path in self._folder.glob("step_*")]
        return sorted(int(match[1]) for match in map(_NUMBERED.fullmatch, names) if match)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not damaged, or None; damaged ones are set aside."""
        for step in reversed(self.steps()):
            folder = self._folder / _name(step)
            try:
                return Checkpoint(folder, verified(folder))
            except CheckpointError as error:
                aside = self._folder / f"{_DAMAGED}{folder.name}"
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
                logger.warning("a checkpoint is passed over and kept as %s: %s", aside.name, error)
        return None

    def _clear(self) -> None:
        for leftover in self._folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _name(step: int) -> str:
    return f"step_{step:08d}"

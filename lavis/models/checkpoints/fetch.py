"""Fetching published files and making a model folder of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from lavis.common.errors import UserError
from lavis.models.checkpoints.assemble import Assembled
from lavis.models.checkpoints.convert import convert
from lavis.models.checkpoints.download import Progress
from lavis.models.checkpoints.published import Recipe, WebFile, fetch_file


def fetch_model(
    size: str,
    recipe: Recipe,
    out: Path,
    *,
    downloads: Path,
    language_dtype: str = "bf16",
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Assembled:
    """Download a recipe's files and assemble the model folder `out`.

    Args:
        downloads: folder for files with an address of their own; they stay there, and can be removed.
        language_dtype: see `convert`.
        say: told what happens.

    Raises:
        CheckpointError: a download fails, or the files do not make the model.
        UserError: the disk has too little room, or the folder cannot be written to.
    """
    web_files = [file for file in (*recipe.files, *recipe.over) if isinstance(file, WebFile)]
    _check_room(out, recipe.gigabytes)
    _check_room(downloads, sum(file.gigabytes for file in web_files if not (downloads / file.name).is_file()))
    paths = [fetch_file(file, downloads, progress=progress, say=say) for file in recipe.files]
    over = [fetch_file(file, downloads, progress=progress, say=say) for file in recipe.over]
    say(f"assembling {out}")
    return convert(paths, out, size=size, over=over, language_dtype=language_dtype)


def _check_room(folder: Path, gigabytes: float) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise UserError(
            f"{folder} needs {gigabytes:.1f} GB, but only {free:.1f} GB are free there; choose another disk"
        )

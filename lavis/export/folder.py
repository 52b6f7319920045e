"""Result folders that appear whole, or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from lavis.common.errors import UserError

_OWN_FILES = re.compile(r"answer\.json|moments\.json|moments\.vtt|scores\.png|keyframe_.*\.jpg")


def check_folder(path: str | Path, *, force: bool = False) -> None:
    """Refuse a folder that results cannot be written to; writes nothing.

    Args:
        force: the results of an earlier run may be replaced, and nothing else.

    Raises:
        UserError: not a folder, not writable, or it holds files.
    """
    target = Path(path)
    parent = next(folder for folder in (target, *target.absolute().parents) if os.path.lexists(folder))
    if not parent.is_dir():
        raise UserError(f"cannot write to {target}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {target}: no permission to write in {parent}")
    if parent != target or not any(target.iterdir()):
        return
    if not force:
        raise UserError(f"{target} already holds files; choose another folder, or pass --force to replace old results")
    foreign = sorted(file.name for file in target.rglob("*") if not _is_own(file))
    if foreign:
        raise UserError(f"{target} holds {foreign[0]!r}, which is no result of an earlier run; choose another folder")


def _is_own(file: Path) -> bool:
    if file.is_symlink() or not file.is_dir():
        return file.is_file() and _OWN_FILES.fullmatch(file.name) is not None
    return True


def write_folder(path: str | Path, files: Mapping[str, bytes], *, force: bool = False) -> None:
    """Write files to a folder of their own, by name relative to it; see `check_folder`.

    The folder is built beside its place and then moved there.

    Raises:
        UserError: the folder cannot be written; then what was there before is still there.
    """
    check_folder(path, force=force)
    target = Path(path).resolve()
    unique = secrets.token_hex(4)
    built, replaced = (target.with_name(f".{target.name}.{unique}.{state}") for state in ("new", "old"))
    try:
        built.mkdir(parents=True)
        for name, content in files.items():
            file = built / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        _move(built, target, aside=replaced)
    except OSError as error:
        raise UserError(f"cannot write to {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(built, ignore_errors=True)


def _move(built: Path, target: Path, *, aside: Path) -> None:
    if not target.exists():
        built.rename(target)
        return
    target.rename(aside)
    try:
        built.rename(target)
    finally:
        # Whatever went wrong, an interrupt too: what was there before is put back.
        if not target.exists():
            aside.rename(target)
    shutil.rmtree(aside, ignore_errors=True)

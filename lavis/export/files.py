"""Files of results: their names, pictures as JPEG, and folders that appear whole or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from lavis.common.errors import UserError
from lavis.common.types import FrameBatch, Integers

_OWN_FILES = re.compile(r"answer\.json|moments\.json|moments\.vtt|scores\.png|keyframe_.*\.jpg|moment_.*\.mp4")
_SLUG_LENGTH = 40
_JPEG_QUALITY = 92
_THUMBNAIL_SIDE = 640
_READ_AT_ONCE = 8

Made = TypeVar("Made")
Picture = npt.NDArray[np.uint8]


def keyframe_name(number: int, *, time_s: float, frame_idx: int) -> str:
    """Return a file name such as "keyframe_1_00m05.27s_frame79.jpg"."""
    return f"keyframe_{number}_{_time_name(time_s)}_frame{frame_idx}.jpg"


def moment_name(number: int, *, start_s: float, end_s: float) -> str:
    """Return a file name such as "moment_1_00m30.75s_00m34.95s.mp4"."""
    return f"moment_{number}_{_time_name(start_s)}_{_time_name(end_s)}.mp4"


def _time_name(time_s: float) -> str:
    # Rounded before it is split, so that 59.999 s is a minute and not "00m60.00s".
    minutes, hundredths = divmod(round(time_s * 100), 6000)
    return f"{minutes:02d}m{hundredths / 100:05.2f}s"


def slug(text: str) -> str:
    """Return a short form of a text that is a safe file name everywhere; may be empty."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower())[:_SLUG_LENGTH].strip("_")


def as_text(content: str) -> bytes:
    """Return a text as the content of a file, which ends with one line break."""
    return f"{content.rstrip()}\n".encode()


def jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture [H, W, 3] as a JPEG of the same size."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def thumbnail(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a picture [H, W, 3] as small as result pictures show it, with the same sides' ratio."""
    small = Image.fromarray(picture)
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return np.asarray(small)


def read_pictures(
    read: Callable[[Integers], FrameBatch], frame_idx: npt.ArrayLike, made: Callable[[npt.NDArray[np.uint8]], Made]
) -> list[Made]:
    """Read frames in any order, though `read` takes them in theirs; keep what `made` makes of each [H, W, 3]."""
    order, places = np.unique(np.asarray(frame_idx, np.int64), return_inverse=True)
    pictures = [
        made(picture)
        for start in range(0, len(order), _READ_AT_ONCE)
        for picture in read(order[start : start + _READ_AT_ONCE]).frames
    ]
    return [pictures[place] for place in places]


def check_folder(path: str | Path, *, force: bool = False) -> None:
    """Refuse a folder that results cannot be written to; `force` allows to replace those of an earlier run.

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
    """Write files to a folder of their own, by name relative to it; see `folder_written_whole`.

    Raises:
        UserError: the folder cannot be written; then what was there before is still there.
    """
    with folder_written_whole(path, force=force) as built:
        for name, content in files.items():
            file = built / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


@contextmanager
def folder_written_whole(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a folder beside `path`, which is moved there when the block ends without an error; see `check_folder`.

    Raises:
        UserError: the folder cannot be written; then what was there before is still there.
    """
    check_folder(path, force=force)
    target = Path(path).resolve()
    unique = secrets.token_hex(4)
    built, replaced = (target.with_name(f".{target.name}.{unique}.{state}") for state in ("new", "old"))
    try:
        built.mkdir(parents=True)
        yield built
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

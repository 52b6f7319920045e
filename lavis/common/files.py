"""Files: where the package's own lie, writing them whole, locking a folder, hashing, and reading JSON of others."""

import contextlib
import errno
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lavis.common.errors import ConfigError, UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks; there the promise of `sole_use` is not kept.
    fcntl = None  # type: ignore[assignment]

# Larger than any JSON that this package writes or reads, apart from tokenizers and annotations.
MAX_JSON_BYTES = 10_000_000
_BLOCK = 1 << 20  # bytes that are hashed at once
_LOCK_FILE = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)
_PACKAGE = Path(__file__).resolve().parent.parent


def _bundled(name: str) -> Path:
    inside_wheel = _PACKAGE / name
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / name


def configs_dir() -> Path:
    """Return the folder of YAML configurations."""
    return _bundled("configs")


def recipes() -> dict[str, Path]:
    """Return the recipes that come with the package: "nextqa/finetune" is `configs/sevila/finetune/nextqa.yaml`.

    A name is data set and stage; recipes for other models than SeViLA have the model's folder before them
    ("hf/nextqa/finetune").
    """
    found = {}
    for file in sorted(configs_dir().glob("*/*/*.yaml")):
        family, folder, name = file.relative_to(configs_dir()).with_suffix("").parts
        ours = f"{folder}/{name}" if folder == "miniature" else f"{name}/{folder}"  # a data set with its stages
        found[ours if family == "sevila" else f"{family}/{ours}"] = file
    return found


def checkpoints_dir() -> Path:
    """Return the folder of the embedded model and tokenizer."""
    return _bundled("sevila_checkpoints")


def paper_tables_path() -> Path:
    """Return the file of published figures."""
    return configs_dir() / "paper_tables.yaml"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file block by block."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block ends without an error.

    Raises:
        UserError: the folder cannot be written to.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private to its owner; give it the usual permissions instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes while the block runs; make it where it is missing.

    The system takes the lock from a process that dies, however it dies. A folder where files cannot be locked or made
    (some network file systems, read-only ones) goes without.

    Raises:
        ConfigError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / _LOCK_FILE).open("a+", encoding="utf-8"))
                _lock(file.fileno(), folder)
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
        yield


def _lock(descriptor: int, folder: Path) -> None:
    try:
        # Not `flock`: processes that read data would inherit it, and outlive a killed run by seconds.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        holder = (folder / _LOCK_FILE).read_text(encoding="utf-8") or "another process"
        raise ConfigError(
            f"{folder} is in use by {holder}; wait until it has ended, or name another run.output_dir"
        ) from error


def read_json(path: str | Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a regular file of JSON that others wrote, of bounded size.

    Raises:
        FileNotFoundError: there is none; a pipe or device, which might never end, is none either.
        ValueError: it is too large, not UTF-8, not JSON, or nested too deeply.
        OSError: it cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if file.stat().st_size > max_bytes:
        raise ValueError(f"it has {file.stat().st_size:,} bytes, more than the {max_bytes:,} that it may have")
    return parse_json(file.read_bytes())


def parse_json(content: bytes) -> Any:
    """Parse JSON that others wrote, already read and of bounded size.

    Raises:
        ValueError: it is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_object(path: str | Path) -> dict[str, Any] | None:
    """Return the object that a JSON file holds, or None if there is none or it is damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

"""Reading JSON that others wrote: of bounded size, and whatever is wrong with it is one line."""

import json
from pathlib import Path
from typing import Any

# Larger than any that this package writes or reads, apart from tokenizers and annotations.
MAX_BYTES = 10_000_000


def read_json(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a regular file of JSON.

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
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error

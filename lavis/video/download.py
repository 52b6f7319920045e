"""A video at a web address, brought to a file of its own: within a size, within a time, over http and https alone."""

import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from lavis.common.defaults import VERSION
from lavis.common.errors import VideoError, first_line
from lavis.common.logging import visible

BytesProgress = Callable[[int, int | None], None]
"""Called with bytes so far, and in all (None: the server does not say)."""

MAX_BYTES = 4 << 30
_TIMEOUT_S, _MAX_S = 30.0, 3600.0  # without a byte more, and in all
_BLOCK = 1 << 20
_SCHEMES = ("http", "https")
_FAILED = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)


class _WebOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in _SCHEMES:
            raise VideoError(f"{shown(req.full_url)}: leads to {shown(newurl)}, which is no http or https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def shown(url: str) -> str:
    """Return an address as it is shown: without user, password and query, which may hold keys."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(url: str, target: Path, *, progress: BytesProgress | None = None) -> None:
    """Download a file; `progress` None writes a line on standard error where a person sees it.

    Raises:
        VideoError: the server cannot be reached, has no such file, sends too much, too slowly, or a web page.
    """
    name, progress = shown(url), progress or _progress_line(shown(url))
    opener = urllib.request.build_opener(_WebOnly)
    request = urllib.request.Request(url, headers={"User-Agent": f"sevila/{VERSION}"})
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as response, target.open("wb") as file:
            _receive(response, file, name=name, progress=progress)
    except VideoError:
        raise
    except urllib.error.HTTPError as error:
        raise VideoError(f"{name}: the server answers {error.code} {error.reason}") from error
    except _FAILED as error:
        reason = getattr(error, "reason", None) or first_line(error)
        raise VideoError(f"{name}: cannot be downloaded ({reason})".replace("\n", " ")) from error


def _receive(response: Any, file: Any, *, name: str, progress: BytesProgress) -> None:
    if response.headers.get_content_type() == "text/html":
        raise VideoError(f"{name}: is a web page, not a video file; give the address of the file itself")
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    ends, so_far = time.monotonic() + _MAX_S, 0
    check_size(total or 0, name=name)
    # Whatever has arrived: waiting for a whole block, a slow server would never be found out.
    while block := response.read1(_BLOCK):
        so_far += len(block)
        check_size(so_far, name=name)
        if time.monotonic() > ends:
            raise VideoError(f"{name}: was not downloaded after {_MAX_S:g} s; download it with another program")
        file.write(block)
        progress(so_far, total)
    if total is not None and so_far != total:
        raise VideoError(f"{name}: the connection ended after {so_far} of {total} bytes; try again")


def check_size(num_bytes: int, *, name: str) -> None:
    """Refuse what is larger than what is kept in a temporary file.

    Raises:
        VideoError: it is.
    """
    if num_bytes > MAX_BYTES:
        raise VideoError(f"{name}: is larger than {MAX_BYTES / 2**30:g} GiB; save it to a file and give its path")


def _progress_line(name: str) -> BytesProgress:
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return lambda so_far, total: None  # noqa: ARG005

    def show(so_far: int, total: int | None) -> None:
        whole = f" of {total / 1e6:.1f}" if total else ""
        end = "\n" if so_far == total else ""
        sys.stderr.write(f"\rdownloading {visible(name)}: {so_far / 1e6:.1f}{whole} MB{end}")
        sys.stderr.flush()

    return show

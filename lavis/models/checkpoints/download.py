"""Downloading files so that an interrupted one resumes, and only a checked one gets its final name."""

import base64
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from lavis.common.errors import CheckpointError, UserError, first_line
from lavis.common.files import file_digest, write_text

Progress = Callable[[str, int, int], None]

_BLOCK = 1 << 20
# In a row, without a byte more; a connection that breaks now and then is no reason to stop.
_FRUITLESS_ATTEMPTS = 3
_TIMEOUT_S = 60
_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_LFS_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Offer:
    """What a server says of a file: its whole size, its version, and its MD5 if it tells."""

    num_bytes: int
    version: str
    md5: str | None


class _InterruptedError(ConnectionError):
    """The connection ended before the file did."""


_BROKEN_CONNECTION = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError)


def download(url: str, target: str | Path, *, progress: Progress | None = None) -> Path:
    """Download one file, resuming what an earlier attempt left.

    The part that has arrived is kept beside the target as `.NAME.part`. It is checked by size, and by the MD5 that
    Google's storage sends.

    Args:
        progress: called with (file name, bytes so far, bytes in all).

    Raises:
        CheckpointError: the server has no such file, the connection keeps breaking, or the file is not
            the one that was wanted; a wrong file is removed.
        UserError: the folder cannot be written to.
    """
    place = Path(target)
    part = place.with_name(f".{place.name}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        offer = _fetch_all(url, part, progress=progress)
        _check(part, offer, url=url)
        part.replace(place)
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error
    _version_file(part).unlink(missing_ok=True)
    return place


def download_from_hub(repository: str, name: str) -> Path:
    """Download one file of a Hugging Face repository to its shared cache, and check its sha256.

    Raises:
        CheckpointError: the hub cannot be reached, has no such file, or sent another one.
    """
    try:
        path = Path(hf_hub_download(repository, name))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot download {name} of {repository}: {first_line(error)}") from error
    stored = path.resolve()
    # The cache keeps large files under their sha256.
    if _LFS_NAME.fullmatch(stored.name) and file_digest(stored) != stored.name:
        raise CheckpointError(f"{stored} of {repository} is damaged; remove it and fetch again")
    return path


def _fetch_all(url: str, part: Path, *, progress: Progress | None) -> _Offer:
    """Fetch until the part is whole, each time from where the last attempt stopped."""
    most, fruitless = -1, 0
    while True:
        try:
            return _fetch_some(url, part, progress=progress)
        except urllib.error.HTTPError as error:
            raise CheckpointError(f"cannot download {url}: the server answers {error.code} {error.reason}") from error
        except _BROKEN_CONNECTION as error:
            so_far = part.stat().st_size if part.exists() else 0
            fruitless = 0 if so_far > most else fruitless + 1
            most = max(most, so_far)
            if fruitless == _FRUITLESS_ATTEMPTS:
                reason = getattr(error, "reason", error)
                raise CheckpointError(
                    f"cannot download {url}: {reason}; {so_far} bytes are kept, the same command resumes there"
                ) from error


def _fetch_some(url: str, part: Path, *, progress: Progress | None) -> _Offer:
    so_far = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    version = _version_file(part)
    known_version = version.read_text(encoding="utf-8") if version.exists() else ""
    if so_far and known_version:
        # A server whose file has changed since then answers with all of the new one.
        request.add_header("Range", f"bytes={so_far}-")
        request.add_header("If-Range", known_version)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        offer = _read_offer(error, url)
        if so_far == offer.num_bytes:
            return offer
        part.unlink()
        raise _InterruptedError("what an earlier attempt left is longer than the file") from error
    with response:
        offer = _read_offer(response, url)
        write_text(version, offer.version)
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        so_far = so_far if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                so_far += len(block)
                if progress:
                    progress(part.name[1 : -len(".part")], so_far, offer.num_bytes)
    if so_far < offer.num_bytes:
        raise _InterruptedError(f"the connection ended after {so_far} of {offer.num_bytes} bytes")
    return offer


def _read_offer(response: http.client.HTTPResponse | urllib.error.HTTPError, url: str) -> _Offer:
    headers = response.headers
    total = _TOTAL.fullmatch(headers.get("Content-Range", ""))
    num_bytes = total[1] if total else headers.get("Content-Length")
    if num_bytes is None:
        raise CheckpointError(f"cannot download {url}: the server does not say how long the file is")
    md5 = re.search(r"md5=([\w+/=]+)", ",".join(headers.get_all("x-goog-hash", [])))
    return _Offer(
        int(num_bytes),
        headers.get("ETag") or headers.get("Last-Modified") or "",
        base64.b64decode(md5[1]).hex() if md5 else None,
    )


def _check(part: Path, offer: _Offer, *, url: str) -> None:
    found = part.stat().st_size
    problem = ""
    if found != offer.num_bytes:
        problem = f"it has {found} bytes instead of {offer.num_bytes}"
    elif offer.md5 and file_digest(part, "md5") != offer.md5:
        problem = "its MD5 is not the one the server names"
    if problem:
        part.unlink()
        _version_file(part).unlink(missing_ok=True)
        raise CheckpointError(f"{url} is not the file that was wanted: {problem}; it was removed")


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")

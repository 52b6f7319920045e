"""Taking visitors' uploads, in place of Gradio's own way.

Gradio puts a file where the checksum of its content says, so whoever has the same file can tell that somebody else has
sent it; and it leaves behind what an upload that is broken off has brought.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from anyio import to_thread
from gradio_client.utils import strip_invalid_filename_characters
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from lavis.demo.files import VisitorFiles
from lavis.demo.requests import RefusedError, content_length, in_time, visitor_of
from lavis.demo.settings import MEGABYTE, Settings

_SLACK = 100_000  # what a multipart request adds to its file
_MAX_FILES = 8
_MAX_FIELDS, _MAX_FIELD_BYTES = 8, 1000


class Uploads:
    """ASGI application: keeps the files of a multipart request and answers with their paths, as Gradio would."""

    def __init__(self, files: VisitorFiles, settings: Settings) -> None:
        self._files = files
        self._max_bytes = settings.max_upload_mb * MEGABYTE
        self._max_stored = settings.max_stored_mb * MEGABYTE
        self._max_per_address = settings.max_jobs_per_address
        self._announced = 0
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the files of one request; of a request that is broken off nothing stays.

        Raises:
            RefusedError: too large, too slow, too many at once, no room, or nothing in it.
            ClientDisconnect: the sender has gone.
        """
        address = scope["client"][0] if scope.get("client") else ""
        with self._room(content_length(scope), address):
            form = await _form(Request(scope, in_time(receive)))
            try:
                paths = [str(await self._keep(file, visitor_of(scope))) for file in self._sent(form)]
            finally:
                await form.close()
        await JSONResponse(paths)(scope, receive, send)

    @contextmanager
    def _room(self, length: int | None, address: str) -> Iterator[None]:
        """Have the room for an upload kept for the block."""
        if length is None:
            raise RefusedError(411, "a length is needed")
        if length > self._max_bytes + _SLACK:
            raise RefusedError(413, "the file is too large")
        if self._under_way[address] >= self._max_per_address:
            raise RefusedError(429, "too many uploads at once from your network; try again in a moment")
        # Those under way count as if they were here, so the share is overrun by one of them at most.
        if self._files.size() + self._announced > self._max_stored:
            raise RefusedError(507, "there is no room for more files; try again in an hour")
        self._announced += length
        self._under_way[address] += 1
        try:
            yield
        finally:
            self._announced -= length
            self._under_way -= Counter([address])

    def _sent(self, form: FormData) -> list[UploadFile]:
        sent = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not sent:
            raise RefusedError(400, "there is no file in it")
        if any((file.size or 0) > self._max_bytes for file in sent):
            raise RefusedError(413, "the file is too large")
        return sent

    async def _keep(self, file: UploadFile, owner: str | None) -> Path:
        name = strip_invalid_filename_characters(Path(file.filename or "").name).lstrip(".") or "file"
        try:
            return await to_thread.run_sync(partial(self._files.take, name, file.file, owner=owner))
        except OSError:  # the disk is full, or the page is being closed
            raise RefusedError(507, "there is no room for more files; try again in an hour") from None


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    except HTTPException as error:
        raise RefusedError(400, str(error.detail)) from error

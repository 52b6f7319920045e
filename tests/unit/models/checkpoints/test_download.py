"""Downloads against a server on this machine that breaks off, changes its mind, and lies."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from lavis.common.errors import CheckpointError, UserError
from lavis.models.checkpoints import published
from lavis.models.checkpoints.download import download, download_from_hub
from lavis.models.checkpoints.published import HubModel, WebFile, fetch_file, find_recipe

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """A file server with a bad connection.

    Attributes:
        files: content by path.
        version: the ETag; None makes one of the content.
        cut_after: bytes after which each connection breaks; None never breaks.
        headers: sent beside the usual ones.
        requests: (method, path, Range header) so far.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    version: str | None = '"1"'
    ranges: bool = True
    cut_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def url(self, name: str = "weights.pth") -> str:
        return f"{self.address}/{name}"

    def ranges_asked(self) -> list[str | None]:
        return [asked for _, _, asked in self.requests]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(files={"/weights.pth": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send_body=False)

        def do_GET(self) -> None:
            self.answer(send_body=True)

        def answer(self, *, send_body: bool) -> None:
            asked = self.headers.get("Range")
            state.requests.append((self.command, self.path, asked))
            content = state.files.get(self.path)
            if content is None:
                self.send_response(404, "Not Found")
                self.send_header("X-Error-Code", "EntryNotFound")  # what the hub says
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            version = state.version or f'"{hashlib.sha256(content).hexdigest()}"'
            start = 0
            if asked and state.ranges and self.headers.get("If-Range", version) == version:
                start = int(asked.removeprefix("bytes=").rstrip("-").partition("-")[0])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            for name, value in {"ETag": version, **state.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if send_body:
                end = len(content) if state.cut_after is None else start + state.cut_after
                self.wfile.write(content[start:end])

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    seen = []
    target = tmp_path / "new" / "weights.pth"
    assert download(server.url(), target, sha256=SHA256, progress=lambda *step: seen.append(step)) == target
    assert target.read_bytes() == CONTENT
    assert names_in(tmp_path / "new") == ["weights.pth"]
    assert seen[-1] == ("weights.pth", len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_now_and_then_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    server.cut_after = 300_000
    download(server.url(), tmp_path / "weights.pth", sha256=SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.ranges_asked() == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_download_that_was_given_up_resumes_the_next_time(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pth"] = CONTENT
    part = tmp_path / ".weights.pth.part"
    server.cut_after = 0
    part.write_bytes(CONTENT[:500_000])
    (tmp_path / ".weights.pth.part.version").write_text('"1"')
    with pytest.raises(CheckpointError, match="500000 bytes are kept, the same command resumes there"):
        download(server.url(), tmp_path / "weights.pth")
    assert names_in(tmp_path) == [".weights.pth.part", ".weights.pth.part.version"]
    server.cut_after = None
    server.requests.clear()
    download(server.url(), tmp_path / "weights.pth", sha256=SHA256)
    assert server.ranges_asked() == ["bytes=500000-"]
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["weights.pth"]


def test_a_part_that_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(CONTENT)
    (tmp_path / ".weights.pth.part.version").write_text('"1"')
    download(server.url(), tmp_path / "weights.pth", sha256=SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("old", [CONTENT[:1000], CONTENT + b"more"])
def test_a_part_of_an_older_version_is_not_continued(old: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(old)
    (tmp_path / ".weights.pth.part.version").write_text('"0"')
    download(server.url(), tmp_path / "weights.pth", sha256=SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_started_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / ".weights.pth.part.version").write_text('"1"')
    download(server.url(), tmp_path / "weights.pth", sha256=SHA256)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_of_unknown_version_is_not_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(b"of another file")
    download(server.url(), tmp_path / "weights.pth", sha256=SHA256)
    assert server.ranges_asked() == [None]


def test_a_server_that_cannot_resume_is_given_up_in_the_end(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, 1000
    with pytest.raises(CheckpointError, match="the connection ended after 1000 of 1024000 bytes"):
        download(server.url(), tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()


@pytest.mark.parametrize(
    ("wanted", "headers", "message"),
    [
        ({"sha256": "0" * 64}, {}, f"its sha256 is {SHA256} instead of 0000"),
        ({"num_bytes": 5}, {}, "it has 1024000 bytes instead of 5"),
        (
            {},
            {"x-goog-hash": f"crc32c=AAAA,md5={base64.b64encode(b'0' * 16).decode()}"},
            "its MD5 is not the one the server names",
        ),
    ],
)
def test_another_file_than_wanted_is_refused_and_removed(
    wanted: dict[str, object], headers: dict[str, str], message: str, server: Server, tmp_path: Path
) -> None:
    server.headers = headers
    with pytest.raises(CheckpointError, match=message):
        download(server.url(), tmp_path / "weights.pth", **wanted)  # type: ignore[arg-type]
    assert names_in(tmp_path) == []


def test_the_md5_of_googles_storage_is_accepted_where_it_is_right(server: Server, tmp_path: Path) -> None:
    digest = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
    server.headers = {"x-goog-hash": f"crc32c=AAAA,md5={digest}"}
    assert download(server.url(), tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_wrong_download_does_not_replace_a_good_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    target.write_bytes(b"good")
    with pytest.raises(CheckpointError):
        download(server.url(), target, sha256="0" * 64)
    assert target.read_bytes() == b"good"


def test_an_address_without_a_file_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot download http.*/absent: the server answers 404 Not Found$"):
        download(server.url("absent"), tmp_path / "weights.pth")


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"^cannot download http://127\.0\.0\.1:9/x: .*refused.*; 0 bytes are kept"
    ):
        download("http://127.0.0.1:9/x", tmp_path / "weights.pth")


def test_a_folder_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"^cannot write .*file/weights\.pth: "):
        download(server.url(), tmp_path / "file" / "weights.pth")


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the Hugging Face hub."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.headers, server.version = {"X-Repo-Commit": "a" * 40}, None
    return server


def put_on_hub(hub: Server, repository: str, files: dict[str, bytes]) -> None:
    hub.files |= {f"/{repository}/resolve/main/{name}": content for name, content in files.items()}


def test_a_hub_file_is_checked_by_the_sha256_the_hub_names(hub: Server) -> None:
    put_on_hub(hub, "some/model", {"weights.pth": CONTENT})
    assert download_from_hub("some/model", "weights.pth").read_bytes() == CONTENT


def test_a_hub_file_of_another_sha256_is_refused(hub: Server) -> None:
    put_on_hub(hub, "some/model", {"weights.pth": CONTENT})
    hub.version = f'"{"0" * 64}"'
    with pytest.raises(CheckpointError, match=r"0{64} of some/model is damaged; remove it and fetch again"):
        download_from_hub("some/model", "weights.pth")


def test_a_file_that_the_hub_does_not_have_is_one_line(hub: Server) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot download weights\.pth of some/model: .*404") as caught:
        download_from_hub("some/model", "weights.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "weights",
    [
        {"model.safetensors": b"all"},
        {
            "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
            "model-1.safetensors": b"one",
            "model-2.safetensors": b"two",
        },
    ],
)
def test_a_hub_model_comes_in_one_folder_with_its_tokenizer(
    weights: dict[str, bytes], hub: Server, tmp_path: Path
) -> None:
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "tokenizer_config.json": b"{}", **weights}
    put_on_hub(hub, "google/flan", files)
    said: list[str] = []
    folder = fetch_file(HubModel("google/flan", 1.0), tmp_path, say=said.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert said == ["google/flan: from huggingface.co/google/flan (about 1.0 GB unless cached)"]


def test_a_hub_that_breaks_while_a_model_is_fetched_is_not_taken_for_a_model_in_one_file(
    hub: Server, tmp_path: Path
) -> None:
    put_on_hub(hub, "google/flan", {"config.json": b"{}", "tokenizer.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"cannot download tokenizer_config\.json of google/flan"):
        fetch_file(HubModel("google/flan", 1.0), tmp_path)


def test_a_download_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    file = WebFile("weights.pth", server.url(), 0.001)
    said: list[str] = []
    for _ in range(2):
        fetch_file(file, tmp_path, say=said.append)
    assert len(server.requests) == 1
    assert said[1] == f"weights.pth: already in {tmp_path}"


def test_recipes_are_found_by_size_and_name() -> None:
    assert find_recipe("flant5xl", None).files == (published.EVA, published.FLAN_T5_XL, published.SEVILA)
    assert find_recipe("flant5xxl", None).files[-1] == published.BLIP2_XXL
    with pytest.raises(UserError, match="nothing is published for 'flant5x'; did you mean 'flant5xl'"):
        find_recipe("flant5x", None)
    with pytest.raises(UserError, match="no 'sevilla' weights for flant5xl; did you mean 'sevila'"):
        find_recipe("flant5xl", "sevilla")

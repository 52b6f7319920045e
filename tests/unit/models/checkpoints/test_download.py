"""Downloads over a bad connection, and from a server that sends another file than was wanted."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lavis.common.errors import CheckpointError, UserError
from lavis.models.checkpoints.download import download
from tests.unit.models.checkpoints.file_server import Server, serving

CONTENT = bytes(range(256)) * 4000
OTHER_MD5 = {"x-goog-hash": f"crc32c=AAAA,md5={base64.b64encode(b'0' * 16).decode()}"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/weights.pth": CONTENT}) as state:
        yield state


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    seen = []
    target = tmp_path / "new" / "weights.pth"
    assert download(server.url(), target, progress=lambda *step: seen.append(step)) == target
    assert target.read_bytes() == CONTENT
    assert names_in(tmp_path / "new") == ["weights.pth"]
    assert seen[-1] == ("weights.pth", len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_now_and_then_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    server.cut_after = 300_000
    download(server.url(), tmp_path / "weights.pth")
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
    download(server.url(), tmp_path / "weights.pth")
    assert server.ranges_asked() == ["bytes=500000-"]
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["weights.pth"]


def test_a_part_that_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(CONTENT)
    (tmp_path / ".weights.pth.part.version").write_text('"1"')
    download(server.url(), tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("old", [CONTENT[:1000], CONTENT + b"more"])
def test_a_part_of_an_older_version_is_not_continued(old: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(old)
    (tmp_path / ".weights.pth.part.version").write_text('"0"')
    download(server.url(), tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_started_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / ".weights.pth.part.version").write_text('"1"')
    download(server.url(), tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_of_unknown_version_is_not_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(b"of another file")
    download(server.url(), tmp_path / "weights.pth")
    assert server.ranges_asked() == [None]
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_is_given_up_in_the_end(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, 1000
    with pytest.raises(CheckpointError, match="the connection ended after 1000 of 1024000 bytes"):
        download(server.url(), tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()


def test_another_file_than_wanted_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.headers = OTHER_MD5
    with pytest.raises(CheckpointError, match="its MD5 is not the one the server names; it was removed"):
        download(server.url(), tmp_path / "weights.pth")
    assert names_in(tmp_path) == []


def test_the_md5_of_googles_storage_is_accepted_where_it_is_right(server: Server, tmp_path: Path) -> None:
    digest = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
    server.headers = {"x-goog-hash": f"crc32c=AAAA,md5={digest}"}
    assert download(server.url(), tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_wrong_download_does_not_replace_a_good_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    target.write_bytes(b"good")
    server.headers = OTHER_MD5
    with pytest.raises(CheckpointError):
        download(server.url(), target)
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

import hashlib
import logging
import os
from pathlib import Path

import pytest
import torch

from lavis.common.errors import ConfigError
from lavis.models.frame_cache import CacheUsage, FrameCache, default_folder, entry_key

TENSORS = {
    "half": torch.arange(6, dtype=torch.bfloat16).view(2, 3) / 7,
    "turned": torch.arange(6.0).view(2, 3).T,
    "whole": torch.tensor([1, 2, 3]),
}


def fill(cache: FrameCache, *numbers: int) -> list[str]:
    """Write entries of one size, each used a second later than the one before."""
    keys = [entry_key(number=number) for number in numbers]
    for key, number in zip(keys, numbers, strict=True):
        cache.write(key, {"value": torch.full((1000,), number)})
        age(cache, key, seconds=1000 - number)
    return keys


def age(cache: FrameCache, key: str, *, seconds: float) -> None:
    file = cache.folder / f"{key}.tokens"
    now = file.stat().st_ctime
    os.utime(file, (now - seconds, now - seconds))


def test_what_is_written_is_read_bit_by_bit(tmp_path: Path) -> None:
    FrameCache(tmp_path).write("ab", TENSORS)
    found = FrameCache(tmp_path).read("ab")
    assert found is not None
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_nothing_is_read_under_a_key_that_was_never_written(tmp_path: Path) -> None:
    assert FrameCache(tmp_path / "none yet").read("ab") is None


def test_an_entry_with_a_right_checksum_that_holds_no_tensors_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, content = tmp_path / "ab.tokens", b"no tensors"
    file.write_bytes(hashlib.sha256(content).digest() + content)
    with caplog.at_level(logging.WARNING):
        assert FrameCache(tmp_path).read("ab") is None
    assert caplog.messages == [f"{file} is damaged; watching again"]


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "longer"])
def test_a_damaged_entry_is_missing_and_can_be_written_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FrameCache(tmp_path)
    cache.write("ab", TENSORS)
    file = tmp_path / "ab.tokens"
    content = bytearray(file.read_bytes())
    content[-1] ^= damage == "flipped"
    file.write_bytes({"cut": content[:-1], "empty": b"", "flipped": content, "longer": content + b"x"}[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.read("ab") is None
    assert caplog.messages == [f"{file} is damaged; watching again"]
    cache.write("ab", TENSORS)
    assert cache.read("ab") is not None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    keys = fill(FrameCache(tmp_path), 1, 2, 3)
    size = FrameCache(tmp_path).usage().num_bytes // 3
    cache = FrameCache(tmp_path, max_bytes=3 * size)
    assert cache.read(keys[0]) is not None
    keys += fill(cache, 4)
    assert [key for key in keys if cache.read(key)] == [keys[0], keys[2], keys[3]]
    assert cache.usage() == CacheUsage(3, 3 * size)


def test_an_entry_larger_than_the_cache_drives_nothing_out(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    (kept,) = fill(cache, 1)
    small = FrameCache(tmp_path, max_bytes=cache.usage().num_bytes)
    small.write(entry_key(number=2), {"value": torch.zeros(5000)})
    assert small.read(kept) is not None
    assert small.usage().entries == 1


def test_an_entry_that_is_being_read_is_read_to_its_end_though_it_is_removed(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    (key,) = fill(cache, 1)
    file = tmp_path / f"{key}.tokens"
    whole = file.read_bytes()
    with file.open("rb") as reading:
        start = reading.read(10)
        assert cache.clear().entries == 1
        assert start + reading.read() == whole


def test_clearing_removes_entries_and_nothing_else(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    fill(cache, 1, 2)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "My.tokens").write_text("mine too")
    before = cache.usage()
    assert cache.clear() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["My.tokens", "notes.txt"]
    assert cache.usage() == CacheUsage(0, 0)


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ".ab.tokens.x.tokens", tmp_path / ".ab.tokens.y.tokens"
    for file in (old, new):
        file.write_text("half")
    two_days_ago = new.stat().st_mtime - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    fill(FrameCache(tmp_path), 1)
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = FrameCache(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        cache.write("ab", TENSORS)
        assert cache.read("ab") is None
    assert [message.partition("(")[0] for message in caplog.messages] == [
        "the frame cache cannot be written ",
        "the frame cache cannot be read ",
    ]


def test_impossible_caches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file is a file; name a folder"):
        FrameCache(tmp_path / "file")
    with pytest.raises(ConfigError, match="a cache of 0 bytes holds nothing"):
        FrameCache(tmp_path, max_bytes=0)


def test_the_default_folder_is_the_environment_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_CACHE", str(tmp_path / "here"))
    assert FrameCache().folder == default_folder() == tmp_path / "here"
    monkeypatch.delenv("SEVILA_CACHE")
    assert default_folder() == Path.home() / ".cache" / "sevila" / "frames"

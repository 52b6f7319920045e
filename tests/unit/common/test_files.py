import os
from pathlib import Path

import pytest

from lavis.common import files
from lavis.common.errors import UserError
from lavis.common.files import write_text, written_whole


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_as_utf8_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Größe ✓")
    assert (tmp_path / "a.txt").read_bytes() == "Größe ✓".encode()
    assert names_in(tmp_path) == ["a.txt"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "deeper" / "a.txt", "x")
    assert (tmp_path / "new" / "deeper" / "a.txt").read_text() == "x"


def test_old_content_is_seen_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with written_whole(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_an_error_in_the_block_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail_half_way() -> None:
        with written_whole(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail_half_way()
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_the_temporary_name_keeps_the_suffix_that_writers_go_by(tmp_path: Path) -> None:
    with written_whole(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_file_gets_the_permissions_that_the_umask_grants(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_a_folder_that_cannot_be_made_is_a_user_error_naming_the_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    target = tmp_path / "file" / "a.txt"
    with pytest.raises(UserError, match=r"^cannot write .*a\.txt: .+") as caught:
        write_text(target, "x")
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)


CHECKOUT = Path(__file__).resolve().parents[3]


def test_a_checkout_uses_the_folders_at_its_top() -> None:
    assert files.configs_dir() == CHECKOUT / "configs"
    assert files.checkpoints_dir() == CHECKOUT / "sevila_checkpoints"


def test_folders_inside_the_installed_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lavis"
    for folder in (package / "configs", tmp_path / "configs", tmp_path / "sevila_checkpoints"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert files.configs_dir() == package / "configs"
    assert files.checkpoints_dir() == tmp_path / "sevila_checkpoints"

from pathlib import Path

import pytest

from lavis.common import paths

CHECKOUT = Path(__file__).resolve().parents[3]


def test_a_checkout_uses_the_folders_at_its_top() -> None:
    assert paths.configs_dir() == CHECKOUT / "configs"
    assert paths.checkpoints_dir() == CHECKOUT / "sevila_checkpoints"


def test_folders_inside_the_installed_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lavis"
    for folder in (package / "configs", tmp_path / "configs", tmp_path / "sevila_checkpoints"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(paths, "_PACKAGE", package)
    assert paths.configs_dir() == package / "configs"
    assert paths.checkpoints_dir() == tmp_path / "sevila_checkpoints"

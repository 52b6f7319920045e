"""Weight files from strangers through the real commands: never run, never unpacked without bounds, always named."""

import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lavis.cli.main import main
from lavis.common.errors import EXIT_FAILURE, EXIT_USER_ERROR

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

COMMANDS = (["checkpoint", "inspect"], ["checkpoint", "verify"], ["checkpoint", "convert"])


class Attack:
    """Creates a file through a shell, as real attacks do, wherever it is unpickled freely."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def zipped_code(file: Path, target: Path) -> str:
    torch.save({"model": {"w": torch.ones(1)}, "config": Attack(target)}, file)
    return "is refused: it holds more than weights"


def plain_code(file: Path, target: Path) -> str:
    file.write_bytes(pickle.dumps(Attack(target)))
    return "is refused: it holds more than weights"


def compressed(file: Path, target: Path) -> str:
    """20 MB in 20 KB; torch's own files are not compressed."""
    torch.save({"w": torch.zeros(5_000_000)}, stored := target.with_name("stored.pth"))
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    stored.unlink()
    return "is refused: stored/data.pkl is compressed, which no PyTorch file is"


def climbing(file: Path, target: Path) -> str:
    """An archive whose records would be written elsewhere if it were extracted."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"../../{target.name}", "x")
        archive.writestr(str(target), "x")
    return "is damaged: "


def cut_torch(file: Path, target: Path) -> str:
    torch.save({"w": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:2000])
    return "is damaged: its end is missing"


def flipped_torch(file: Path, target: Path) -> str:
    torch.save({"w": torch.ones(1000)}, file)
    content = bytearray(file.read_bytes())
    content[content.index(torch.ones(1000).numpy().tobytes()) + 2001] ^= 16
    file.write_bytes(content)
    return "is damaged: weights/data/0 fails its checksum"


def cut_safetensors(file: Path, target: Path) -> str:
    save_file({"w": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:2000])
    return "is damaged: "


def huge_header(file: Path, target: Path) -> str:
    """A header that claims to be an exabyte long."""
    save_file({"w": torch.ones(10)}, file)
    content = bytearray(file.read_bytes())
    content[:8] = (1 << 60).to_bytes(8, "little")
    file.write_bytes(content)
    return "is damaged: "


@pytest.mark.parametrize("command", COMMANDS, ids=[command[1] for command in COMMANDS])
@pytest.mark.parametrize(
    "make",
    [zipped_code, plain_code, compressed, climbing, cut_torch, flipped_torch, cut_safetensors, huge_header],
    ids=lambda make: make.__name__,
)
def test_a_bad_weight_file_is_refused_by_name_and_nothing_is_run_or_written(
    make: Callable[[Path, Path], str], command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "created"
    file = tmp_path / "folder" / "weights.bin"
    file.parent.mkdir()
    problem = make(file, target)
    out = ["--out", str(tmp_path / "out")] if command[1] == "convert" else []
    code = main([*command, str(file), *out])
    shown = capsys.readouterr()
    if command[1] == "verify":  # which reports what it was asked to find
        assert code == EXIT_FAILURE
        assert f"WRONG: {file} {problem}" in shown.out
    else:
        assert code == EXIT_USER_ERROR
        assert shown.err.startswith(f"error: {file} {problem}")
        assert shown.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "weights.bin"]


def test_the_attack_is_one(tmp_path: Path) -> None:
    """Without care, the file of the test above does what it is meant to do."""
    zipped_code(tmp_path / "weights.pth", tmp_path / "created")
    code = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "weights.pth"], check=True)
    assert (tmp_path / "created").exists()

"""The set-up scripts install the versions they should, with a Python that only writes down what it was asked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
LOCKS = sorted((ROOT / "constraints").glob("python-*.txt"))
# Answers as `$VENV/bin/python` does, for a torch whose version is in the file `torch` beside it.
PYTHON = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$*" >>"$here/calls"
case "$*" in
    -\\ torch*) cat "$here/torch" ;;
    --version) echo Python 3.99.0 ;;
    *--target*) mkdir -p "$here/../torchvision" ;;
    -m\\ pip\\ install*torch\\>=*) echo 2.99.0+cpu >"$here/torch" ;;
esac
"""


class Checkout:
    """A checkout with an environment that is made already."""

    def __init__(self, root: Path, *, venv: str = ".venv", python: str = "3.11", torch: str | None = None) -> None:
        self.root, self.venv = root, root / venv
        for name in ("pyproject.toml", "setup.py", "constraints", "run_scripts"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        (self.venv / "bin").mkdir(parents=True)
        (self.venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {python}.7\n")
        (self.venv / "bin" / "python").write_text(PYTHON)
        (self.venv / "bin" / "python").chmod(0o755)
        if torch is not None:
            (self.venv / "bin" / "torch").write_text(f"{torch}\n")

    def run(self, script: str, *arguments: str, **environment: str) -> str:
        """Run a script and return what it printed."""
        command = ["sh", str(self.root / "run_scripts" / script), *arguments]
        inherited = {name: value for name, value in os.environ.items() if name != "CONSTRAINTS"}
        return subprocess.run(
            command, env={**inherited, **environment}, check=True, capture_output=True, text=True
        ).stdout

    @property
    def installed(self) -> list[str]:
        """What pip was told to install."""
        calls = (self.venv / "bin" / "calls").read_text().splitlines()
        return [call.rpartition("versions.txt ")[2] for call in calls if "pip install" in call]

    @property
    def versions(self) -> set[str]:
        return requirements(self.venv / "versions.txt")


def requirements(path: Path) -> set[str]:
    return {line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")}


@pytest.mark.parametrize("command", [["quickstart.sh"], ["test.sh", "tests/unit"]], ids=" ".join)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_both_commands_install_the_versions_written_down_for_the_python(
    tmp_path: Path, command: list[str], lock: Path
) -> None:
    checkout = Checkout(tmp_path, python=lock.stem.removeprefix("python-"))
    assert f"the versions that CI runs with (constraints/{lock.name})" in checkout.run(*command)
    least = "2.6" if command == ["quickstart.sh"] else "2.10"  # one of the extras for tests asks for more
    assert checkout.installed[0].split()[-1] == f"torch>={least}"
    (torch,) = (line for line in requirements(lock) if line.startswith("torch=="))
    assert requirements(lock) - checkout.versions == {torch}
    assert checkout.versions - requirements(lock) == {"torch==2.99.0+cpu", "torchcodec<0.14"}


def test_a_torch_that_is_there_and_fits_stays(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, torch="2.15.0+cu130")
    checkout.run("quickstart.sh")
    assert checkout.installed == [f"-e {tmp_path}"]
    assert {line for line in checkout.versions if line.startswith("torch==")} == {"torch==2.15.0+cu130"}


def test_without_written_versions_the_newest_are_installed_and_that_is_said(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python="3.99", torch="2.99.0")
    said = checkout.run("quickstart.sh")
    assert "no versions are written down for Python 3.99.0: installing the newest of each" in said
    assert checkout.versions == {"torch==2.99.0"}


def test_the_lowest_versions_are_those_of_the_project(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, venv=".venv-lowest", torch="2.10.0")
    checkout.run("test.sh", "--lowest", "tests/unit")
    bounds = {f"{name}=={least}" for name, least in re.findall(r'"([\w-]+)>=([\d.]+)[^"]*"', PROJECT)}
    followed = {"torch==2.6", "torch==2.10", "torchvision==0.21"}
    assert {"av==17.1", "gradio==6.31", *followed} <= bounds
    assert checkout.versions == bounds - followed | {"torch==2.10.0"}
    assert (checkout.venv / "bin" / "calls").read_text().splitlines()[-1] == "-m pytest tests/unit"


def test_the_newest_versions_are_looked_for_again(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, venv=".venv-newest", torch="2.6.0")
    checkout.run("test.sh", "--newest", "tests/unit")
    calls = [call for call in (checkout.venv / "bin" / "calls").read_text().splitlines() if "pip install" in call]
    assert all("--upgrade --upgrade-strategy eager" in call for call in calls)
    assert checkout.versions == {"torch==2.99.0+cpu", "torchcodec<0.14"}


def test_what_needs_torchvision_lies_in_a_folder_of_its_own_and_leaves_torch_alone(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, torch="2.13.0+cpu")
    checkout.run("test.sh", "tests/unit")
    names = ["timm", "num2words", "peft", "accelerate", "psutil", "openai", "jiter", "sniffio"]
    beside = f"--no-deps --target {checkout.venv}/torchvision torchvision==0.28.* {' '.join(names)}"
    assert checkout.installed == [f"-e {tmp_path}[dev]", beside]
    for lock in LOCKS:
        assert {line.partition("==")[0] for line in requirements(lock)} >= set(names)


def test_a_file_of_versions_can_be_given(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, torch="2.7.1")
    (tmp_path / "mine.txt").write_text("av==18.0.0\ntorch==2.8.0\n")
    checkout.run("quickstart.sh", CONSTRAINTS=str(tmp_path / "mine.txt"))
    assert checkout.versions == {"av==18.0.0", "torch==2.7.1"}


def test_nothing_is_installed_again_until_the_versions_change(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, torch="2.13.0")
    checkout.run("quickstart.sh")
    assert ".venv is up to date" in checkout.run("quickstart.sh")
    assert len(checkout.installed) == 1
    (tmp_path / "constraints" / "python-3.11.txt").write_text("av==18.0.0\n")
    checkout.run("quickstart.sh")
    assert len(checkout.installed) == 2
    assert checkout.versions == {"av==18.0.0", "torch==2.13.0"}


@pytest.mark.parametrize(("asked", "fits"), [("torch>=2.6", True), ("torch>=99", False)])
def test_an_installed_torch_is_judged_by_its_version(asked: str, fits: bool) -> None:
    script = f'ROOT="{ROOT}"; . "$ROOT/run_scripts/setup_env.sh"; VENV="{sys.prefix}"; TORCH="{asked}"; fitting_torch'
    printed = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    assert bool(re.fullmatch(r"2\.\d+\.\S+\n", printed)) is fits
    assert bool(printed) is fits

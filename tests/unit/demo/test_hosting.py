"""What hosting needs says the same as the project."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")


def copied() -> list[str]:
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    return [path for line in lines for path in line.split()[:-1]]


@pytest.mark.parametrize("path", copied())
def test_the_image_is_made_of_files_that_exist_and_are_not_left_out(path: str) -> None:
    assert (ROOT / path).exists()
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert any(line == path or line.startswith(f"{path}/") for line in kept)


def test_the_image_has_the_versions_that_are_known_to_work_with_its_python() -> None:
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    assert f"COPY constraints/python-{python}.txt constraints/" in DOCKERFILE
    assert f"PIP_CONSTRAINT=/app/constraints/python-{python}.txt" in DOCKERFILE


def test_the_space_runs_a_gradio_that_the_package_accepts() -> None:
    (least,) = re.findall(r'"gradio>=(\d+)\.(\d+)"', PROJECT)
    (version,) = re.findall(r"sdk_version: (\d+)\.(\d+)\.\d+", DOCS)
    assert tuple(map(int, version)) >= tuple(map(int, least))
    assert "`app_file: app.py`" in DOCS
    assert f"app_port: {re.findall('EXPOSE (.*)', DOCKERFILE)[0]}" in DOCS


def test_every_limit_of_the_command_line_is_documented() -> None:
    from lavis.cli.main import build_parser

    subparsers = next(action for action in build_parser()._actions if action.dest == "command")
    assert isinstance(subparsers.choices, dict)
    options = {name for action in subparsers.choices["demo"]._actions for name in action.option_strings}
    missing = [name for name in options if name.startswith("--") and f"`{name}`" not in DOCS]
    assert missing == ["--help"]

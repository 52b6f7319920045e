"""What is committed works on any machine and is quick to clone."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

MAX_BYTES = 5 * 1000**2
# What may be larger, and up to what size: the embedded model is what makes the first answer need no download.
LARGER = {Path("sevila_checkpoints/sevila_tiny/model.safetensors"): 15 * 1000**2}
# A path on somebody's machine. A web address or a longer path may hold the same words further on.
MACHINE_PATH = re.compile(r"(?<![\w.~/*}\])-])/(?:home|root|tmp|work|Users)/\w")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        text = (ROOT / path).read_bytes().decode("utf-8", errors="ignore")
        found += [f"{path}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_no_tracked_file_is_large() -> None:
    sizes = {path: (ROOT / path).stat().st_size for path in tracked_files()}
    assert {str(path): size for path, size in sizes.items() if size > LARGER.get(path, MAX_BYTES)} == {}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("open('" + "/home" + "/ada/clip.mp4')", True),
        ("cd " + "/work" + "/main", True),
        ("data: " + "/tmp" + "/x", True),
        ("https://example.org/home/page", False),
        ("sevila_data/tmp/x", False),
        ("../root/x", False),
        ("/usr/bin/env", False),
    ],
)
def test_machine_paths_are_told_from_addresses_and_relative_paths(text: str, matches: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is matches

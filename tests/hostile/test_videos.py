"""Whatever a video file claims to be, reading it gives frames or a VideoError, soon and in little memory."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import reading
from tests.hostile.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]
MAX_MB = 1000


def outcomes(folder: Path, *, count: int, seed: int) -> list[dict[str, Any]]:
    """Read so many bad files, each in a process of its own, and return what came of them."""
    (folder / "good").mkdir()
    (folder / "bad").mkdir()
    for mutant in mutants(folder / "good", count=count, seed=seed):
        (folder / "bad" / mutant.name).write_bytes(mutant.content)
    done = subprocess.run(
        [sys.executable, reading.__file__, folder / "bad"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: list[dict[str, Any]], *, count: int) -> None:
    assert len(found) == count
    assert [row for row in found if row["ended_by"] != 0] == []
    assert [row for row in found if not row["outcome"].startswith(("frames ", "VideoError "))] == []
    assert [row for row in found if row["peak_mb"] > MAX_MB] == []
    # The files are bad, but not all of them so bad that nothing is tried.
    kinds = [row["outcome"].split()[0] for row in found]
    assert min(kinds.count("frames"), kinds.count("VideoError")) > count // 5


def described(found: list[dict[str, Any]]) -> str:
    """What came of them all, and the worst of them."""
    slowest, largest = (max(found, key=lambda row: row[key]) for key in ("seconds", "peak_mb"))
    with_frames = sum(row["outcome"].startswith("frames") for row in found)
    return f"{with_frames} of {len(found)} give frames; slowest: {slowest}; largest: {largest}"


@pytest.mark.parametrize(
    ("count", "seed", "max_seconds"),
    [
        pytest.param(60, 1, math.inf, id="sample"),
        pytest.param(1000, 2, 10.0, id="whole", marks=pytest.mark.slow),
    ],
)
def test_bad_files_give_frames_or_a_video_error(
    count: int, seed: int, max_seconds: float, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    found = outcomes(tmp_path, count=count, seed=seed)
    measured(described(found))
    check(found, count=count)
    assert max(row["seconds"] for row in found) < max_seconds

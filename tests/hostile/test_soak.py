"""One process that is asked about video after video keeps its size."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import soak

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("num_videos", "warm_up"),
    [
        pytest.param(30, 15, id="sample"),
        pytest.param(300, 50, id="whole", marks=pytest.mark.slow),
    ],
)
def test_a_process_keeps_its_size_however_many_videos_it_is_asked_about(
    num_videos: int, warm_up: int, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    done = subprocess.run(
        [sys.executable, soak.__file__, str(num_videos)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == num_videos
    before, after = rows[warm_up - 1], rows[-1]
    growth = after.pop("resident") / before.pop("resident") - 1
    measured(f"resident memory grew by {growth:.2%} from video {warm_up} to {num_videos}; {after}")
    assert after == before
    assert growth < 0.05

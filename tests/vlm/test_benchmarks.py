"""What measures image-text models measures what it says, at tiny sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.gpu_check import STEPS

pytestmark = pytest.mark.vlm
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", ["tiny", "qwen3-vl-tiny"])
def test_both_ways_of_asking_agree(size: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--num-frames", "4", "--questions", "2", "--video-seconds", "2", "--repeats", "1", "--plain-frames", "2"]
    assert main(["hf", "--size", size, *options, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["shares"]
    assert found["agreement"]["same_answer"] == found["agreement"]["compared"] == 2
    assert found["agreement"]["same_order"] == 2
    assert found["agreement"]["worst_option_error"] < 1e-3
    assert found["plain_frames"] == 2
    assert found["floor_ratio"]["further"] > found["floor_ratio"]["2"] > found["floor_ratio"]["1"]
    assert set(found["runs"]) == {"1", "2"}


def test_a_dry_run_of_a_recipe_is_shown_with_what_it_takes(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--recipes", "pretrain/qvh", "--options", "run.batch_size_train=1", "run.batch_size_eval=1"]
    assert main(["hf-dry-runs", "--size", "tiny", *options, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())["recipes"]["pretrain/qvh"]
    assert "-" not in found.values()
    assert found["memory"].endswith(" MiB")


def test_a_dry_run_that_fails_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--recipes", "pretrain/qvh", "--options", "run.max_epoch=0"]
    assert main(["hf-dry-runs", "--size", "tiny", *options, "--json", str(tmp_path / "none.json")]) == 2
    assert "the dry run of hf/pretrain/qvh ended with 2: error: " in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()


def test_the_gpu_check_passes_on_a_cpu_at_tiny_size(tmp_path: Path) -> None:
    figures = tmp_path / "rows.json"
    command = ["sh", str(ROOT / "run_scripts" / "gpu_check.sh"), "--tiny", "--json", str(figures)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=580, env={**os.environ, "PYTHON": sys.executable}
    )
    rows = json.loads(figures.read_text())["rows"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [row for row in rows if row["passed"] is False]
    named = " ".join(row["name"] for row in rows)
    assert not {row["name"] for row in rows} & set(STEPS), "a step was left out, or failed"
    for part in (
        "gemma3, bf16",
        "resume, autocast bf16",
        "published, a question",
        "each further",
        "decoding, ours alone",
        "answerer_finetuning",
    ):
        assert part in named

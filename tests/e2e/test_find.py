"""`sevila find` and `sevila models`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lavis.cli.main import main
from tests.e2e.conftest import Sevila


def test_moments_are_found_and_saved(sevila: Sevila, clip: Path, tmp_path: Path) -> None:
    done = sevila("find", clip, "Squares appear", "--threshold", "-1e9", "--json", "--save", "found")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert [(moment["start_s"], moment["end_s"]) for moment in record["moments"]] == [(0.0, 4.0)]
    assert len(record["frame_scores"]) == 32
    saved = tmp_path / "found"
    assert sorted(file.name for file in saved.iterdir()) == ["moments.json", "moments.vtt", "scores.png"]
    assert json.loads((saved / "moments.json").read_text())["moments"] == record["moments"]
    assert (saved / "moments.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nSquares appear (#1")
    assert Image.open(saved / "scores.png").format == "PNG"


def test_moments_are_printed_with_their_times(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", str(clip), "Squares appear", "--threshold", "-1e9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines if line.strip().startswith("1 ")] == [["1", "0.00", "s", "4.00", "s"]]


def test_nothing_is_found_above_every_score(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "found"
    assert main(["find", str(clip), "Squares appear", "--threshold", "1e9", "--save", str(saved)]) == 0
    assert "no moment found; the best frame, at " in capsys.readouterr().out
    assert json.loads((saved / "moments.json").read_text())["moments"] == []


def test_moments_are_limited_and_split_as_asked(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", str(clip), "Squares appear", "--threshold", "-1e9", "--json"]) == 0
    scores = sorted(frame["score"] for frame in json.loads(capsys.readouterr().out)["frame_scores"])
    threshold = ["--threshold", str(scores[16]), "--max-gap-frames", "0", "--json"]
    assert main(["find", str(clip), "Squares appear", *threshold]) == 0
    every = json.loads(capsys.readouterr().out)["moments"]
    assert len(every) > 2
    assert main(["find", str(clip), "Squares appear", *threshold, "--max-moments", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["moments"] == every[:2]


def test_models_lists_every_size_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    sizes = {row["name"]: row["parameters"] for row in rows if "repository" not in row}
    # BLIP-2 with its ViT-g, Flan-T5-XL (XXL), and two Q-Formers.
    assert sizes["flant5xl"] == 4_049_186_560
    assert sizes["flant5xxl"] == 12_337_911_552
    assert set(sizes) == {"base", "flant5xl", "flant5xxl", "tiny"}
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "sevila checkpoint fetch flant5xl" in shown
    # What can be downloaded from the hub, with what to know before.
    smallest = next(row for row in rows if row["name"] == "smolvlm2-256m")
    assert (smallest["repository"], smallest["licence"]) == ("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "Apache-2.0")
    line = next(line for line in shown.splitlines() if line.startswith("smolvlm2-256m"))
    assert line.split() == ["smolvlm2-256m", "260.0", "million", "1", "GB", "1.0", "/", "0.5", "GB", "Apache-2.0"]


def test_quantised_weights_find_nearly_the_same(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def scores(*options: str) -> np.ndarray:
        assert main(["find", str(clip), "a red circle", "--num-frames", "4", "--json", "--no-cache", *options]) == 0
        return np.array([frame["score"] for frame in json.loads(capsys.readouterr().out)["frame_scores"]])

    assert 0 < np.abs(scores("--quantize", "int8") - scores()).max() < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize", "int9"], "unknown quantization 'int9'; did you mean"),
        (["--quantize", "int4", "--dtype", "fp32"], "int4 weights need a model in bf16, not float32"),
    ],
)
def test_weights_that_cannot_be_quantised_so_are_refused_in_one_line(
    clip: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["find", str(clip), "a red circle", *options, "--no-cache"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {message}")
    assert shown.count("\n") == 1

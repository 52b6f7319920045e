"""Weights of lower precision are compared with those of fp32, each in a process of its own."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.quantization import compared as agreement
from tests.unit.benchmarks.test_inference import asked


def test_scores_choices_and_answers_are_compared_one_by_one() -> None:
    plain = asked((0, [0, 2], [1.0, 2.0, 3.0], [1.0, 0.0]), (1, [1, 2], [4.0, 5.0, 6.0], [0.0, 1.0]))
    ours = asked((0, [0, 2], [1.0, 2.0, 6.0], [1.0, 0.0]), (0, [0, 2], [2.0, 5.0, 11.0], [1.0, 0.0]))
    found = agreement(ours, plain)
    correlation = np.corrcoef([-2, -1, 3, -4, -1, 5], [-1, 0, 1, -1, 0, 1])[0, 1]
    assert found == pytest.approx(
        {
            "correlation": correlation,
            "worst_difference": 5.0,
            "mean_difference": 10 / 6,
            "same_frames": 0.5,
            "same_answers": 0.5,
        }
    )


def test_fewer_bits_take_less_memory_and_the_plain_weights_agree_with_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    figures = tmp_path / "figures.json"
    sizes = ["--num-frames", "2", "--num-keyframes", "1", "--questions", "1", "--video-seconds", "1"]
    kinds = ["--weights", "bf16", "bf16+int4"]
    assert main(["quantization", *kinds, *sizes, "--repeats", "1", "--threads", "1", "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text(encoding="utf-8"))["weights"]
    plain = rows["fp32"]
    exact = {"same_frames": 1.0, "same_answers": 1.0, "worst_difference": 0.0, "ratio_cpu": 1.0}
    assert {name: plain[name] for name in exact} == exact
    megabytes = [rows[name]["weight_mib"] for name in ("fp32", "bf16", "bf16+int4")]
    assert list(rows) == ["fp32", "bf16", "bf16+int4"]
    assert sorted(megabytes, reverse=True) == megabytes

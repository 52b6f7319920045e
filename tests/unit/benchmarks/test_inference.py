"""Variants are asked beside the published procedure, and figures say what was seen."""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import build_parser, main
from benchmarks.flops import FlopCounter, Flops, MinFlops
from benchmarks.inference import agreement, compared, model_rate, variants_of
from benchmarks.inference_side import Asked, OurSide, Setting
from benchmarks.published import PublishedAnswer
from benchmarks.variants import PLAIN, VARIANTS, Variant
from lavis.common.types import Answer, Keyframes, Question
from lavis.models.pipeline import Timings

SETTING = Setting(size="tiny", device="cpu", threads=1, video_seconds=1, num_questions=2, num_frames=6, num_keyframes=1)


@pytest.fixture(autouse=True)
def own_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def asked(*rows: tuple[int, list[int], list[float], list[float]]) -> Asked:
    """Answers of index, positions, frame scores and option scores."""
    return Asked([answer(*row) for row in rows], Timings())


def answer(index: int, positions: list[int], scores: list[float], option_scores: list[float]) -> Answer:
    times = np.arange(len(scores), dtype=float)
    chosen = np.array(positions)
    frames = Keyframes(chosen, chosen, times[chosen], np.array(scores)[chosen], times, np.array(scores))
    return Answer(Question("which", ("a", "b")), index, "ab"[index], np.array(option_scores), frames)


def parsed(*options: str) -> argparse.Namespace:
    return build_parser().parse_args(["inference", *options])


def test_variants_are_asked_by_turns_and_compared_with_the_published_procedure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, trace = tmp_path / "figures.json", tmp_path / "trace.json"
    sizes = ["--num-frames", "9", "--num-keyframes", "1", "--questions", "2", "--video-seconds", "1"]
    variants = ["--variants", "fp32", "fp32+coarse_to_fine"]
    options = [*sizes, *variants, "--repeats", "2", "--threads", "1", "--json", str(figures), "--profile", str(trace)]
    assert main(["inference", *options]) == 0
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["machine"]["versions"].keys() >= {"sevila", "torch", "transformers"}
    assert found["machine"]["commit"]
    assert list(found["ways"]) == ["fp32", "fp32+coarse_to_fine"]
    plain, few = found["ways"].values()
    assert {name: plain["agreement"][name] for name in ("compared", "same_answer", "same_frames")} == {
        "compared": 2,
        "same_answer": 2,
        "same_frames": 2,
    }
    assert max(variant["agreement"]["worst_frame_score_error"] for variant in (plain, few)) < 1e-4
    assert (plain["scored"], few["scored"] < 1) == (1.0, True)
    for variant in (plain, few):
        assert [len(run["wall_s"]) for run in variant["runs"].values()] == [2, 2]
        assert json.loads((tmp_path / f"trace-{name_of(variant)}.json").read_text(encoding="utf-8"))["traceEvents"]
    assert found["decoding"]["frames_per_s"] > 0
    shown = capsys.readouterr().out
    assert "2 processes decode" in shown
    assert "fp32+coarse_to_fine with 2 questions a video takes" in shown


def name_of(variant: dict[str, object]) -> str:
    return next(
        name for name, known in VARIANTS.items() if known.selector == variant["selector"] and known.dtype == "fp32"
    )


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        (PLAIN, "fp32"),
        (Variant("bf16", quantize="int4"), "bf16+int4"),
        (
            Variant("bf16", selector="coarse_to_fine", quantize="int8", compiled=True),
            "bf16+int8+coarse_to_fine+compile",
        ),
    ],
)
def test_a_variant_is_named_by_what_is_not_plain(variant: Variant, name: str) -> None:
    assert variant.name == name


def test_one_variant_is_described_or_several_are_named() -> None:
    described = parsed("--dtype", "fp16", "--selector", "coarse_to_fine", "--compile", "--quantize", "int8")
    assert variants_of(described) == [Variant("fp16", selector="coarse_to_fine", quantize="int8", compiled=True)]
    assert variants_of(parsed("--variants", "bf16", "fp32", "bf16")) == [VARIANTS["bf16"], PLAIN]


def test_naming_variants_and_describing_another_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inference", "--ways", "fp32", "--dtype", "bf16"]) == 2
    said = capsys.readouterr().err
    assert "--variants names whole variants; leave out what describes 'bf16', or --variants" in said
    assert said.count("\n") == 1


def test_only_frames_that_were_scored_are_compared_with_the_published_ones() -> None:
    ours = asked((0, [0, 2], [1.0, np.nan, 3.0], [0.5, 0.0]), (1, [1, 2], [np.nan, 2.0, 2.5], [0.0, 0.5]))
    published = {1: PublishedAnswer(1, np.array([0, 2]), np.array([9.0, 2.25, 2.5]), np.array([0.0, 1.0]), Timings())}
    assert agreement(ours, published) == {
        "compared": 1,
        "same_answer": 1,
        "same_frames": 0,
        "worst_frame_score_error": 0.25,
        "worst_option_score_error": 0.5,
    }
    assert ours.scored == pytest.approx(4 / 6)


def test_fewer_calls_need_the_operations_of_the_frames_that_were_scored() -> None:
    fewest = FlopCounter(SETTING).count()
    every = fewest.of(asked(*[(0, [0], [1.0] * 6, [1.0, 0.0])] * 2))
    half = fewest.of(asked(*[(0, [0], [1.0, np.nan] * 3, [1.0, 0.0])] * 2))
    assert half.localize == every.localize / 2
    assert (half.watch, half.answer) == (every.watch, every.answer)


def test_the_fewest_operations_grow_by_the_frames_that_any_question_reads() -> None:
    nothing = Flops(0, 0, 0)
    fewest = MinFlops({1: nothing, 2: Flops(100, 10, 1)}, watched=Flops(50, 0, 0), read=Flops(50, 0, 3))
    rows = [(0, positions, [1.0] * 6, [1.0, 0.0]) for positions in ([0, 4], [1, 4])]
    assert fewest.of(asked(*rows)) == Flops(100, 10, 1 + 3 * 3)


def test_weights_of_half_the_bits_take_half_the_memory() -> None:
    plain, half = (OurSide(SETTING, VARIANTS[name]).weight_bytes() for name in ("fp32", "bf16"))
    assert half == plain / 2


def test_the_model_takes_frames_at_the_rate_it_would_have_without_decoding() -> None:
    run = {"median_s": 4.0, "parts_s": {"decode": 1.0, "watch": 2.0, "localize": 0.5, "answer": 0.5}}
    assert model_rate(run, num_frames=30) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("decoding", "model", "says"),
    [
        (100.0, 40.0, "decoding is not the slowest stage, 2.5× as fast"),
        (40.0, 100.0, "decoding is the slowest stage, by 2.5×"),
    ],
)
def test_it_is_said_whether_decoding_is_the_slowest_stage(decoding: float, model: float, says: str) -> None:
    assert compared(decoding, model) == says

"""Ways are asked beside the published procedure, and figures say what was seen."""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import build_parser, main
from benchmarks.asking import Asked, OurSide, Setting
from benchmarks.floor import Floor
from benchmarks.inference import ways_of
from benchmarks.inference_report import agreement, compared, model_rate
from benchmarks.least import Counter, LeastWork
from benchmarks.published import PublishedAnswer
from benchmarks.ways import PLAIN, WAYS, Way
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


def test_ways_are_asked_by_turns_and_compared_with_the_published_procedure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, trace = tmp_path / "figures.json", tmp_path / "trace.json"
    sizes = ["--num-frames", "9", "--num-keyframes", "1", "--questions", "2", "--video-seconds", "1"]
    ways = ["--ways", "fp32", "fp32+coarse_to_fine"]
    options = [*sizes, *ways, "--repeats", "2", "--threads", "1", "--json", str(figures), "--profile", str(trace)]
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
    assert max(way["agreement"]["worst_frame_score_error"] for way in (plain, few)) < 1e-4
    assert (plain["scored"], few["scored"] < 1) == (1.0, True)
    for way in (plain, few):
        assert [len(run["wall_s"]) for run in way["runs"].values()] == [2, 2]
        assert json.loads((tmp_path / f"trace-{way_name(way)}.json").read_text(encoding="utf-8"))["traceEvents"]
    assert found["decoding"]["frames_per_s"] > 0
    shown = capsys.readouterr().out
    assert "2 processes decode" in shown
    assert "fp32+coarse_to_fine with 2 questions a video takes" in shown


def way_name(way: dict[str, object]) -> str:
    return next(name for name, known in WAYS.items() if known.selector == way["selector"] and known.dtype == "fp32")


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (PLAIN, "fp32"),
        (Way("bf16", quantize="int4"), "bf16+int4"),
        (Way("bf16", selector="coarse_to_fine", quantize="int8", compiled=True), "bf16+int8+coarse_to_fine+compile"),
    ],
)
def test_a_way_is_named_by_what_is_not_plain(way: Way, name: str) -> None:
    assert way.name == name


def test_one_way_is_described_or_several_are_named() -> None:
    described = parsed("--dtype", "fp16", "--selector", "coarse_to_fine", "--compile", "--quantize", "int8")
    assert ways_of(described) == [Way("fp16", selector="coarse_to_fine", quantize="int8", compiled=True)]
    assert ways_of(parsed("--ways", "bf16", "fp32", "bf16")) == [WAYS["bf16"], PLAIN]


def test_naming_ways_and_describing_another_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inference", "--ways", "fp32", "--dtype", "bf16"]) == 2
    said = capsys.readouterr().err
    assert "--ways names whole ways; leave out what describes 'bf16', or --ways" in said
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


def test_the_floor_of_fewer_calls_is_that_of_the_frames_that_were_scored() -> None:
    least = Counter(SETTING).count()
    every = least.floor(asked(*[(0, [0], [1.0] * 6, [1.0, 0.0])] * 2))
    half = least.floor(asked(*[(0, [0], [1.0, np.nan] * 3, [1.0, 0.0])] * 2))
    assert half.localize == every.localize / 2
    assert (half.watch, half.answer) == (every.watch, every.answer)


def test_the_floor_grows_by_the_frames_that_any_question_reads() -> None:
    nothing = Floor(0, 0, 0)
    least = LeastWork({1: nothing, 2: Floor(100, 10, 1)}, watched=Floor(50, 0, 0), read=Floor(50, 0, 3))
    rows = [(0, positions, [1.0] * 6, [1.0, 0.0]) for positions in ([0, 4], [1, 4])]
    assert least.floor(asked(*rows)) == Floor(100, 10, 1 + 3 * 3)


def test_weights_of_half_the_bits_take_half_the_memory() -> None:
    plain, half = (OurSide(SETTING, WAYS[name]).weight_bytes() for name in ("fp32", "bf16"))
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

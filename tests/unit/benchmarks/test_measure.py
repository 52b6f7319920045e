import time

import pytest
import torch

from benchmarks.floor import least_work
from benchmarks.machine import MatrixRate
from benchmarks.measure import Measured, by_turns, peak_bytes, reset_peak
from benchmarks.subjects import questions
from lavis.models.sevila.build import build_untrained
from tests.unit.models.tiny import CONFIG

CPU = torch.device("cpu")


def test_each_round_begins_with_another_candidate() -> None:
    order: list[str] = []
    candidates = {name: (lambda name=name: order.append(name)) for name in "abc"}
    by_turns(candidates, repeats=4, device=CPU, warmup={})
    assert "".join(order) == "abcbcacababc"


def test_warm_up_runs_once_and_is_not_counted() -> None:
    calls: list[str] = []
    found = by_turns({"a": lambda: calls.append("a")}, repeats=2, device=CPU, warmup={"w": lambda: calls.append("w")})
    assert calls == ["w", "a", "a"]
    assert len(found["a"].wall_s) == len(found["a"].cpu_s) == 2


@pytest.mark.slow
def test_sleeping_takes_time_on_the_clock_but_none_of_the_processor() -> None:
    found = by_turns({"sleep": lambda: time.sleep(0.1)}, repeats=1, device=CPU, warmup={})["sleep"]
    assert found.median_s >= 0.1
    assert found.median_cpu_s < 0.1


def test_spread_is_half_the_range_over_the_median() -> None:
    assert Measured(wall_s=[2.0, 1.0, 4.0]).spread == pytest.approx(0.75)


def test_peak_memory_is_that_since_the_last_reset() -> None:
    torch.ones(50 * 2**20 // 4)
    reset_peak(CPU)
    before = peak_bytes(CPU)
    torch.ones(50 * 2**20 // 4)
    after = peak_bytes(CPU)
    assert 45 * 2**20 < after - before < 60 * 2**20


def test_matrix_rate_counts_a_multiplication_and_an_addition() -> None:
    assert MatrixRate(device=CPU, dtype=torch.float32, repeats=3).flops == 3 * 2 * 2048**3


def test_least_work_watches_once_and_grows_by_the_language_model_alone() -> None:
    model = build_untrained(CONFIG)
    asked = questions(1) * 2
    one, two = (least_work(model, asked[:count], num_frames=8, num_keyframes=2, num_read=0) for count in (1, 2))
    assert two.watch == one.watch
    assert two.localize == 2 * one.localize
    assert two.answer == 2 * one.answer
    assert two.total == two.watch + two.localize + two.answer


def test_least_work_of_the_vision_tower_is_that_of_its_matrices() -> None:
    model = build_untrained(CONFIG)
    counts = [least_work(model, [], num_frames=frames, num_keyframes=1, num_read=0).watch for frames in (1, 3)]
    tokens, width, hidden = 4 + 1, 16, 32
    patches = 2 * 4 * width * 3 * 16 * 16
    block = 2 * tokens * (4 * width * width + 2 * width * hidden) + 4 * tokens * tokens * width
    assert counts[1] == 3 * counts[0]
    assert counts[0] - _prompter_operations(model) == patches + block


def _prompter_operations(model: object) -> float:
    counts = [least_work(model, [], num_frames=1, num_keyframes=1, num_read=read).answer for read in (0, 1)]  # type: ignore[arg-type]
    return counts[1] - counts[0]

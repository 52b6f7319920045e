import time

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import MatrixRate, Measured, by_turns, peak_bytes, reset_peak

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


def test_a_part_within_another_counts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 4.5])
    monkeypatch.setattr(measure, "spent_s", lambda _: next(clock))
    timings = measure.PartTimings(torch.device("cpu"))
    with timings.measure("localize_s"), timings.measure("watch_s"):
        pass
    assert (timings.localize_s, timings.watch_s) == (1.5, 3.0)

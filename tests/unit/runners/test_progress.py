import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from lavis.common.errors import ConfigError
from lavis.common.logging import read_json_lines
from lavis.runners.progress import Pace, TrainingLog, as_duration


def test_steps_are_averaged_between_log_lines(tmp_path: Path) -> None:
    progress = TrainingLog(tmp_path, total=5, log_freq=2)
    for iteration, loss in enumerate([1.0, 3.0, 5.0, 7.0, 9.0], start=1):
        progress.step({"loss": loss}, iteration=iteration, epoch=0, samples=4, waited_s=0.0)
    progress.close()
    rows = read_json_lines(tmp_path / "log.jsonl")
    assert [(row["kind"], row["iteration"], row["loss"]) for row in rows] == [
        *(("train", 2, 2.0), ("train", 4, 6.0), ("train", 5, 9.0)),
    ]
    assert rows[-1]["left_s"] == 0


def test_a_step_without_samples_does_not_enter_the_mean(tmp_path: Path) -> None:
    progress = TrainingLog(tmp_path, total=2, log_freq=2)
    progress.step({"lr": 1.0}, iteration=1, epoch=0, samples=0, waited_s=0.0)
    progress.step({"lr": 1.0, "loss": 3.0}, iteration=2, epoch=0, samples=1, waited_s=0.0)
    assert read_json_lines(tmp_path / "log.jsonl")[0]["loss"] == 3.0


def test_a_run_that_goes_on_takes_back_what_was_written_after_its_checkpoint(tmp_path: Path) -> None:
    progress = TrainingLog(tmp_path, total=6, log_freq=2)
    losses = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
    for iteration, loss in enumerate(losses[:5], start=1):
        progress.step({"loss": loss}, iteration=iteration, epoch=0, samples=4, waited_s=0.0)
        if iteration == 3:
            state = progress.state_dict()
    progress.close()
    again = TrainingLog(tmp_path, total=6, log_freq=2)
    again.resume(3, state)
    for iteration, loss in enumerate(losses[3:], start=4):
        again.step({"loss": loss}, iteration=iteration, epoch=0, samples=4, waited_s=0.0)
    again.close()
    rows = read_json_lines(tmp_path / "log.jsonl")
    assert [(row["iteration"], row["loss"]) for row in rows] == [(2, 2.0), (4, 6.0), (6, 10.0)]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65, "1:05"), (3909.4, "1:05:09")])
def test_durations_are_worded_for_people(seconds: float, text: str) -> None:
    assert as_duration(seconds) == text


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "iteration": 1}\n{"kind": "tr')
    assert read_json_lines(tmp_path / "log.jsonl") == [{"kind": "train", "iteration": 1}]


def test_weights_and_biases_gets_the_figures_where_its_project_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[dict, int]] = []
    run = SimpleNamespace(log=lambda values, step: logged.append((values, step)), finish=lambda: None)
    fake = ModuleType("wandb")
    fake.init = lambda **_: run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_PROJECT", "sevila")
    progress = TrainingLog(tmp_path, total=1)
    progress.event("val", {"accuracy": 50.0}, iteration=3, epoch=0)
    progress.close()
    assert logged == [({"val/accuracy": 50.0}, 3)]


def test_a_named_project_without_its_package_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_PROJECT", "sevila")
    with pytest.raises(ConfigError, match=r"WANDB_PROJECT is set, but wandb is not installed"):
        TrainingLog(tmp_path, total=1)


def test_the_time_left_is_that_of_the_pace_so_far(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr("lavis.runners.progress.time.perf_counter", lambda: now[0])
    pace = Pace("val", 1000)
    with caplog.at_level("INFO", "lavis"):
        for _ in range(30):
            now[0] += 1.0
            pace.step(4)
    assert caplog.messages == [
        "val: 40 of 1000 questions, 4.0 a second, 4:00 left",
        "val: 80 of 1000 questions, 4.0 a second, 3:50 left",
        "val: 120 of 1000 questions, 4.0 a second, 3:40 left",
    ]

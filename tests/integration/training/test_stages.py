"""Every stage on one process: what it changes, keeps, writes and survives."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lavis.common.distributed import World
from lavis.common.errors import ConfigError, UserError
from lavis.models.loading import load_model
from lavis.models.sevila.model import SeViLA
from lavis.runners.build import build_parts, build_runner, set_training_as_published
from lavis.runners.config import EVALUATION_SECTIONS, TrainConfig, load_train_config
from lavis.runners.dry_run import dry_evaluation, dry_run
from lavis.runners.trainer import Runner, Updater
from lavis.tasks.predictions import ChoiceAsker
from tests.integration.training.tiny_run import STAGES, TRAINED, options, recipe


def config_of(stage: str, data: Path, model: Path, output: Path, **run: object) -> TrainConfig:
    return load_train_config(recipe(stage), options=options(stage, data=data, model=model, output=output, **run))


def weights(model: SeViLA) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def trained(output: Path, model_folder: Path) -> dict[str, torch.Tensor]:
    """All weights after a run: those it keeps as the best over those it started from."""
    model = load_model("sevila", str(model_folder), device="cpu")
    model.load_partial(output / "best")
    return weights(model)


@pytest.mark.parametrize("stage", STAGES)
def test_two_steps_change_the_trained_role_and_nothing_else(
    stage: str, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    before = weights(load_model("sevila", str(model_folder), device="cpu"))
    # Without validation the last weights are kept.
    build_runner(config_of(stage, data, model_folder, tmp_path / "run", max_iters=2, valid_splits="[]"), World()).run()
    after = trained(tmp_path / "run", model_folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith(f"{TRAINED[stage]}.")}


@pytest.mark.parametrize("stage", STAGES)
def test_frozen_parts_stay_in_eval_while_training(stage: str, data: Path, model_folder: Path, tmp_path: Path) -> None:
    model = build_parts(config_of(stage, data, model_folder, tmp_path), World()).model
    model.train()
    assert {name for name, part in model.named_children() if part.training} == {TRAINED[stage]}
    assert {name.partition(".")[0] for name, _ in model.trainable_parameters()} == {TRAINED[stage]}


def test_published_quirks_train_and_drop_out_as_published(data: Path, model_folder: Path, tmp_path: Path) -> None:
    parts = build_parts(config_of("refine", data, model_folder, tmp_path, published_quirks="true"), World())
    set_training_as_published(parts.model)
    assert all(part.training for part in parts.model.modules())
    trainable = {name for name, _ in parts.model.trainable_parameters()}
    others = {"answerer.norm.weight", "answerer.norm.bias", "answerer.proj.weight", "answerer.proj.bias"}
    assert {name for name in trainable if not name.startswith("localizer.")} == others
    assert {name for name, _ in parts.model.named_parameters() if name.startswith("localizer.")} <= trainable


def test_a_run_leaves_everything_that_is_needed_to_judge_and_repeat_it(
    data: Path, model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    config = config_of("finetune", data, model_folder, output, test_splits="[val,test]", keep_last=1)
    metrics = build_runner(config, World()).run()
    assert {split: figures["questions"] for split, figures in metrics.items()} == {"val": 5, "test": 4}
    files = {"val_epoch0.json", "val_epoch1.json", "val_best.json", "test_best.json"}
    assert {path.name for path in (output / "metrics").iterdir()} == files
    assert json.loads((output / "metrics" / "test_best.json").read_text())["accuracy"] == metrics["test"]["accuracy"]
    assert yaml.safe_load((output / "config.yaml").read_text())["run"]["max_epoch"] == 2
    assert json.loads((output / "run.json").read_text())["seed"] == 42
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step_00000008"]
    assert (output / "curves.png").read_bytes()[:4] == b"\x89PNG"
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "train"]
    assert [row["iteration"] for row in steps] == list(range(1, 9))
    assert {"loss", "lr", "samples_per_s", "data_wait", "memory_mib", "left_s"} <= steps[0].keys()
    assert steps[-1]["lr"] == 0.0


def fixed_validation(runner: Runner, monkeypatch: pytest.MonkeyPatch, values: list[float]) -> list[dict]:
    """Let validations give these accuracies; return the weights that were measured."""
    measured: list[dict] = []
    given = iter(values)

    def validate(model: SeViLA, split: str) -> dict[str, float]:
        measured.append(weights(model))
        return {"accuracy": next(given), "questions": 5, "unreadable": 0}

    monkeypatch.setattr(runner, "_validator", validate)
    return measured


def test_refinement_that_does_not_help_keeps_the_earlier_localizer(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    runner = build_runner(config_of("refine", data, model_folder, output, test_splits="[]"), World())
    measured = fixed_validation(runner, monkeypatch, [50.0, 40.0, 45.0])
    said: list[str] = []
    monkeypatch.setattr("lavis.runners.trainer.logger.warning", lambda text, *values: said.append(text % values))
    runner.run()
    assert said == [
        "epoch 0: accuracy is 40.00, not above 50.00; the weights before training stay the best",
        "epoch 1: accuracy is 45.00, not above 50.00; the weights before training stay the best",
        "training did not raise accuracy above 50.00: what was there before is kept",
    ]
    kept = trained(output, model_folder)
    assert all(torch.equal(kept[name], value) for name, value in measured[0].items())


def test_the_best_epoch_is_tested_and_kept(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    config = config_of("finetune", data, model_folder, output, max_epoch=3, test_splits="[test]")
    runner = build_runner(config, World())
    measured = fixed_validation(runner, monkeypatch, [40.0, 60.0, 50.0, 55.0])
    assert runner.run() == {"test": {"accuracy": 55.0, "questions": 5, "unreadable": 0}}
    kept = trained(output, model_folder)
    for name, value in measured[1].items():
        assert torch.equal(kept[name], value), name
        assert torch.equal(measured[3][name], value), name
    assert json.loads((output / "best" / "metrics.json").read_text())["epoch"] == 1


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    ("stage", "stop_after"),
    [
        pytest.param(stage, count, marks=() if chosen else pytest.mark.slow)
        for place, stage in enumerate(STAGES)
        for number, count in enumerate((1, 3, 5))
        for chosen in [place == number]
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    stage: str, stop_after: int, data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"save_freq": 1, "valid_splits": "[]", "test_splits": "[]", "batch_size_train": 3, "clip_grad_norm": 1.0}
    build_runner(config_of(stage, data, model_folder, tmp_path / "whole", **settings), World()).run()

    stopped = build_runner(config_of(stage, data, model_folder, tmp_path / "cut", **settings), World())
    save, saved = stopped.save, []

    def save_and_stop() -> None:
        save()
        saved.append(stopped.iteration)
        if len(saved) == stop_after:
            raise StoppedError

    monkeypatch.setattr(stopped, "save", save_and_stop)
    with pytest.raises(StoppedError):
        stopped.run()
    build_runner(config_of(stage, data, model_folder, tmp_path / "cut", **settings, resume="auto"), World()).run()
    whole, cut = trained(tmp_path / "whole", model_folder), trained(tmp_path / "cut", model_folder)
    assert all(torch.equal(whole[name], value) for name, value in cut.items())


def test_a_run_does_not_mix_with_an_earlier_one(data: Path, model_folder: Path, tmp_path: Path) -> None:
    config = config_of("finetune", data, model_folder, tmp_path, max_iters=1, valid_splits="[]", test_splits="[]")
    build_runner(config, World()).run()
    with pytest.raises(ConfigError, match=r"holds an earlier run; continue it with run.resume=auto"):
        build_runner(config, World())


def test_too_many_unreadable_samples_stop_the_run(data: Path, model_folder: Path, tmp_path: Path) -> None:
    config = config_of("finetune", data, model_folder, tmp_path, valid_splits="[]", test_splits="[]")
    videos = config.dataset.build_info.videos
    object.__setattr__(videos, "storage", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"of 7 samples cannot be read, the last: no video 'v\d'.*run.max_unreadable"):
        build_runner(config, World()).run()


@pytest.mark.parametrize("stage", STAGES)
def test_dry_run_reports_what_trains_and_writes_nothing(
    stage: str, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    report = dry_run(config_of(stage, data, model_folder, tmp_path / "run"), World()).splitlines()
    table = {line.split()[0]: line.split()[1:3] for line in report[1:5]}
    assert {name for name, (_, count) in table.items() if count != "0"} == {TRAINED[stage]}
    assert table[TRAINED[stage]][0] == table[TRAINED[stage]][1]
    assert report[5] == "samples: 7, batches per epoch: 4, iterations: 8, processes: 1"
    assert report[6].startswith("first step: 2 samples, loss ")
    # Two epochs, each validated; refining starts with a validation. Tests are measured once.
    often = 3 if stage == "refine" else 2
    splits = {"val": often + 1} if "test_splits: [val]" in recipe(stage).read_text() else {"val": often, "test": 1}
    found = [
        re.fullmatch(r"measuring (\w+): (\d) questions, (\d) times, \d+\.\d\d s a question; .*", row) for row in report
    ]
    assert {row[1]: int(row[3]) for row in found if row} == splits
    assert [int(row[2]) for row in found if row] == [{"val": 5, "test": 4}[split] for split in splits]
    assert re.fullmatch(r"expected in all: \d+:\d\d", report[8 + len(splits)])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("first", [0, 7])
def test_the_estimate_is_what_the_parts_of_a_run_take(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """With a clock that only computing moves: by 10 s for a step, 3 s for a question, and more for the first of each.

    What takes long is not done twice: then the step counts as it is.
    """
    now = [0.0]
    step_s = 10 if first else 100

    def slow(whole: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        extra = [first]

        def run(*arguments: Any, **named: Any) -> Any:
            now[0] += seconds + (extra.pop() if extra else 0)
            return whole(*arguments, **named)

        return run

    monkeypatch.setattr("lavis.runners.dry_run.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(Updater, "update", slow(Updater.update, step_s))
    monkeypatch.setattr(ChoiceAsker, "ask", slow(ChoiceAsker.ask, 3))
    config = config_of("finetune", data, model_folder, tmp_path, valid_splits="[val]", test_splits="[test]")
    report = dry_run(config, World()).splitlines()
    training, whole = ("1:20", "2:02") if first else ("13:20", "14:02")
    assert f"time: reading 0.00 s, step {step_s}.00 s; expected for training alone: {training}" in report
    assert "measuring val: 5 questions, 2 times, 3.00 s a question; expected: 0:30" in report
    assert "measuring test: 4 questions, 1 times, 3.00 s a question; expected: 0:12" in report
    assert f"expected in all: {whole}" in report


def test_a_dry_evaluation_estimates_from_its_first_clip(data: Path, model_folder: Path, tmp_path: Path) -> None:
    small = options("finetune", data=data, model=model_folder, output=tmp_path / "run", evaluate="true")
    config = load_train_config(recipe("finetune"), options=small, further_sections=EVALUATION_SECTIONS)
    report = dry_evaluation(config, World()).splitlines()
    assert "questions: 5 of the split 'val', processes: 1" in report
    assert any(re.fullmatch(r"time: first clip \d+\.\d\d s; expected in all: \d+:\d\d", line) for line in report)
    assert not (tmp_path / "run").exists()


def test_validations_and_tests_say_how_far_they_are_and_how_much_time_is_left(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lavis.runners.progress.SECONDS_BETWEEN_LOGS", 0.0)
    config = config_of(
        "finetune", data, model_folder, tmp_path, max_iters=1, valid_splits="[val]", test_splits="[test]"
    )
    with caplog.at_level("INFO", "lavis"):
        build_runner(config, World()).run()
    said = [
        re.sub(r"[\d.]+ a second, \d+:\d\d", "R a second, T", line) for line in caplog.messages if "questions," in line
    ]
    assert said == [
        *(f"val: {done} of 5 questions, R a second, T left" for done in range(1, 5)),
        *(f"test: {done} of 4 questions, R a second, T left" for done in range(1, 4)),
    ]


def test_half_precision_and_moving_average_train(data: Path, model_folder: Path, tmp_path: Path) -> None:
    config = config_of("finetune", data, model_folder, tmp_path / "run", amp="true", ema_decay=0.5, max_iters=2)
    build_runner(config, World()).run()
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(row["loss"] < 100 for row in steps if row["kind"] == "train")


def test_prompts_that_lose_their_end_are_counted_at_the_end(
    data: Path, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = tmp_path / "short"
    shutil.copytree(model_folder, short)
    config = json.loads((short / "config.json").read_text())
    config["language"]["max_text_length"] = 12
    (short / "config.json").write_text(json.dumps(config))
    build_runner(config_of("refine", data, short, tmp_path / "run", max_iters=1, valid_splits="[]"), World()).run()
    assert "prompts were longer than 12 tokens and lost their end" in caplog.text

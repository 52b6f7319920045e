"""What a run begins with and goes on with: files that are there, and what was there when it began."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lavis.cli.main import main
from lavis.common.config import load_yaml
from lavis.common.files import configs_dir
from lavis.models.sevila.model import SeViLA
from lavis.runners.checkpoint import CheckpointSaver
from lavis.runners.trainer import Runner
from tests.integration.training.tiny_run import options, recipe
from tests.videos import write_video

_SMALL = {"valid_splits": "[]", "test_splits": "[]", "save_freq": 2, "resume": "auto"}


def train(*places: Path, data: Path, changes: tuple[str, ...] = (), stage: str = "finetune", **run: object) -> int:
    model, output = places
    small = options(stage, data=data, model=model, output=output, **{**_SMALL, **run})
    return main(["train", "--cfg-path", str(recipe(stage)), "--options", *small, *changes])


class Stop(Exception):  # noqa: N818  # no error: the run is as if it had been killed
    pass


def stop(*places: Path, data: Path, monkeypatch: pytest.MonkeyPatch, **run: Any) -> None:
    """Start a run, and end it after its first checkpoint."""

    def save_and_stop(self: CheckpointSaver, *arguments: Any, **named: Any) -> None:
        save(self, *arguments, **named)
        raise Stop

    save = CheckpointSaver.save
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointSaver, "save", save_and_stop)
        with pytest.raises(Stop):
            train(*places, data=data, **run)


@pytest.fixture
def stopped(data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stop(model_folder, tmp_path / "run", data=data, monkeypatch=monkeypatch)
    return tmp_path / "run"


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("run.init_lr=2e-3", "run.init_lr 0.001, now 0.002"),
        ("run.max_epoch=3", "run.max_epoch 2, now 3"),
        ("run.weight_decay=0", "run.weight_decay 0.05, now 0"),
        ("run.clip_grad_norm=0.5", "run.clip_grad_norm None, now 0.5"),
        ("model.frame_num=1", "model.frame_num 2, now 1"),
        ("run.valid_splits=[val]", "run.valid_splits [], now ['val']"),
        ("datasets.nextqa.vis_processor.train.n_frms=3", "datasets.nextqa.vis_processor.train.n_frms 4, now 3"),
    ],
)
def test_settings_that_make_another_run_are_refused_unless_told(
    stopped: Path,
    data: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    named: str,
) -> None:
    before = {name: (stopped / name).read_bytes() for name in ("config.yaml", "run.json", "inputs.json", "log.jsonl")}
    monkeypatch.setattr(Runner, "run", lambda _: {})
    capsys.readouterr()
    assert train(model_folder, stopped, data=data, changes=(change,)) == 2
    line = last_line(capsys)
    assert f"{stopped} was begun with {named}; that would make another run" in line
    assert "run.resume_changed=true" in line
    assert {name: (stopped / name).read_bytes() for name in before} == before
    if "n_frms" in change or "frame_num" in change or "valid" in change:
        return
    assert train(model_folder, stopped, data=data, changes=(change, "run.resume_changed=true")) == 0
    assert f"going on with a change: begun with {named}" in capsys.readouterr().err
    facts = json.loads((stopped / "run.json").read_text())
    key, value = change.removeprefix("run.").split("=")
    assert str(facts["settings"]["run"][key]) == str(load_yaml(stopped / "config.yaml")["run"][key])
    assert facts["earlier_starts"][0]["settings"]["run"][key] != facts["settings"]["run"][key], value


def test_several_changes_are_listed_together(
    stopped: Path, data: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(model_folder, stopped, data=data, init_lr=1.0, beta2=0.9, batch_size_train=1) == 2
    line = last_line(capsys)
    assert "begun with run.init_lr 0.001, now 1.0; run.beta2 0.999, now 0.9; that" in line


def test_settings_that_make_no_other_run_may_change_and_are_said(
    stopped: Path, data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(data / "nextqa", tmp_path / "elsewhere")
    model = shutil.copytree(model_folder, tmp_path / "model")
    storage = f"datasets.nextqa.build_info.videos.storage={moved}/videos"
    annotations = f"datasets.nextqa.build_info.annotations.train.storage={moved}/train.json"
    capsys.readouterr()
    assert train(model, stopped, data=data, changes=(storage, annotations), batch_size_train=1, log_freq=3) == 0
    said = capsys.readouterr().err
    assert "going on at iteration 2 of 8" in said
    for text in ("run.batch_size_train 2, now 1", "run.log_freq 1, now 3", "build_info.videos.storage"):
        assert f"begun with {text}" in said or text in said
    assert "run.resume " not in said


def _replaced(video: Path, tmp_path: Path) -> None:
    video.write_bytes(write_video(tmp_path / "other.mp4", num_frames=41).read_bytes())


def _one_byte(video: Path, _: Path) -> None:
    content = bytearray(video.read_bytes())
    content[len(content) // 2] ^= 1
    video.write_bytes(content)


def _gone(video: Path, _: Path) -> None:
    video.unlink()


@pytest.mark.parametrize("change", [_replaced, _one_byte, _gone])
def test_a_changed_video_is_noticed_when_training_goes_on(
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path, Path], None],
) -> None:
    """Size and time of the file stay what they were where it still is there."""
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    video = changed / "nextqa" / "videos" / "v1.mp4"
    status = video.stat()
    change(video, tmp_path)
    if video.exists():
        os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert train(model_folder, stopped, data=changed) == 2
    assert "was begun with other videos (nextqa/v1); that would make another run" in last_line(capsys)
    allowed = ("run.resume_changed=true", "run.max_unreadable=1")
    assert train(model_folder, stopped, data=changed, changes=allowed) == 0
    assert "begun with other videos (nextqa/v1)" in capsys.readouterr().err


def test_verdicts_on_videos_that_have_changed_are_not_taken_up(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, output = Path(shutil.copytree(data, tmp_path / "data")), tmp_path / "run"
    settings: dict[str, Any] = {"stage": "refine", "frozen_verdicts": "remembered"}
    stop(model_folder, output, data=data, monkeypatch=monkeypatch, **settings)
    assert train(model_folder, output, data=changed, **settings) == 0
    assert "verdicts are of other" not in capsys.readouterr().err
    shutil.rmtree(output)
    stop(model_folder, output, data=data, monkeypatch=monkeypatch, **settings)
    _replaced(changed / "nextqa" / "videos" / "v1.mp4", tmp_path)
    assert train(model_folder, output, data=changed, changes=("run.resume_changed=true",), **settings) == 0
    assert "the checkpoint's verdicts are of other weights or settings" in capsys.readouterr().err


def test_other_annotations_and_other_weights_are_noticed_when_training_goes_on(
    data: Path, model_folder: Path, tmp_path: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    file = changed / "nextqa" / "train.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([{**rows[0], "answer": (rows[0]["answer"] + 1) % 3}, *rows[1:]]))
    model = SeViLA.from_pretrained(model_folder)
    with torch.no_grad():
        model.language.model.shared.weight[0, 0] += 1
    model.save_pretrained(tmp_path / "model")
    assert train(tmp_path / "model", stopped, data=changed) == 2
    line = last_line(capsys)
    assert "was begun with other weights to begin with; other annotations (nextqa.train); that would" in line


def test_a_run_that_failed_before_its_first_step_can_simply_be_started_again(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("lavis.runners.trainer.Updater.accumulate", fail)
        assert train(model_folder, output, data=data, resume="never") == 1
    assert (output / "log.jsonl").is_file()
    assert train(model_folder, output, data=data, resume="never", init_lr=2e-3) == 0
    assert train(model_folder, output, data=data, resume="never") == 2


@pytest.mark.parametrize(
    ("stage", "missing", "message"),
    [
        (
            "finetune",
            "nextqa/train.json",
            "no annotations at {data}/nextqa/train.json; make them with: sevila prepare nextqa --raw DOWNLOADS, or say "
            "where they are by SEVILA_DATA ({variable}) or the option "
            "datasets.nextqa.build_info.annotations.train.storage",
        ),
        ("pretrain", "qvh/val.json", "make them with: sevila prepare qvh --raw DOWNLOADS, or say"),
        ("finetune", "nextqa/test.json", "datasets.nextqa.build_info.annotations.test.storage"),
        (
            "finetune",
            "nextqa/videos",
            "no folder of videos at {data}/nextqa/videos; put the videos there, or say where they are by SEVILA_DATA "
            "({variable}) or the option datasets.nextqa.build_info.videos.storage",
        ),
    ],
)
@pytest.mark.parametrize("variable", ["/prepared", None])
@pytest.mark.parametrize("command", [["train"], ["train", "--dry-run"]])
def test_what_is_missing_is_said_before_anything_is_written(
    command: list[str],
    variable: str | None,
    stage: str,
    missing: str,
    message: str,
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEVILA_DATA", variable) if variable else monkeypatch.delenv("SEVILA_DATA", raising=False)
    part = Path(shutil.copytree(data, tmp_path / "data"))
    shutil.move(part / missing, tmp_path / "kept")
    output = tmp_path / "run"
    small = options(stage, data=part, model=model_folder, output=output, valid_splits="[val]", test_splits="[test]")
    assert main([*command, "--cfg-path", str(recipe(stage)), "--options", *small]) == 2
    assert message.format(
        data=part, variable=f"now {variable}" if variable else "not set, so sevila_data here"
    ) in last_line(capsys)
    assert not output.exists()
    shutil.move(tmp_path / "kept", part / missing)
    few = ["run.max_iters=1", "run.valid_splits=[]", "run.test_splits=[]"]
    assert main([*command, "--cfg-path", str(recipe(stage)), "--options", *small, *few]) == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.finetuned={tmp}/pretrain/best", "no weights at {tmp}/pretrain/best; set model.finetuned to weights"),
        (
            "model.finetuned={tmp}/sevila_pretrained.pth",
            "{tmp}/sevila_pretrained.pth; download them with: sevila checkpoint fetch sevila_pretrained.pth",
        ),
        ("model.model_type=flant5xl", "get them with: sevila checkpoint fetch flant5xl"),
        ("datasets.nextqa.build_info.annotations.train.storage={tmp}/bad.json", "bad.json"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_weights_and_annotations_are_looked_at_before_anything_is_written(
    command: str,
    option: str,
    message: str,
    data: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEVILA_CHECKPOINTS", str(tmp_path / "none"))
    (tmp_path / "bad.json").write_text("[{}]")
    small = options("finetune", data=data, model=model_folder, output=tmp_path / "run", test_splits="[train]")
    changed = option.format(tmp=tmp_path)
    assert main([command, "--cfg-path", str(recipe("finetune")), "--options", *small, changed]) == 2
    assert message.format(tmp=tmp_path) in last_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["nextqa", "nextgqa", "star", "how2qa", "tvqa", "vlep", "qvh"])
def test_each_benchmark_names_the_command_that_prepares_it(
    name: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    file = configs_dir() / "sevila" / "inference" / f"{name}.yaml"
    small = [f"model.model_type={model_folder}", "model.finetuned=null", f"run.output_dir={tmp_path}/run"]
    assert main(["evaluate", "--cfg-path", str(file), "--options", *small]) == 2
    line = last_line(capsys)
    assert f"no annotations at {tmp_path}/data/{name}/" in line
    assert f"make them with: sevila prepare {name} --raw DOWNLOADS, or say where" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folder", ["checkpoints/step_00000004", "best"])
def test_a_run_begins_with_the_weights_of_a_checkpoint_or_of_the_best(
    folder: str, data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    assert train(model_folder, first, data=data, max_epoch=1) == 0
    begun: list[dict[str, torch.Tensor]] = []

    def record(self: Runner) -> dict[str, dict[str, float]]:
        begun.append({name: value.detach().clone() for name, value in self._model.trainable_parameters()})
        return {}

    monkeypatch.setattr(Runner, "run", record)
    for number, changes in enumerate([(f"model.finetuned={first / folder}",), ()]):
        assert train(model_folder, tmp_path / f"second{number}", data=data, changes=changes) == 0
    trained = load_file(first / "best" / "model.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in begun[0].items())
    assert not all(torch.equal(value, trained[name]) for name, value in begun[1].items())

"""Selectors that train: through the runner as every stage, from the run's folder into every way to answer."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lavis
from lavis.cli.main import main
from lavis.common.distributed import World
from lavis.common.files import configs_dir
from lavis.models.chain import build_selector
from lavis.models.checkpoints.weights_io import read_metadata
from lavis.models.sevila.model import SeViLA
from lavis.selection.policies.trained import PART, Learning
from tests.architecture.source import ROOT
from tests.faults.playing import outcome
from tests.integration.training import gradients
from tests.integration.training.test_going_on import stop, train
from tests.integration.training.tiny_run import options, recipe, torchrun
from tests.unit.models.tiny import CONFIG

POLICIES = ["atp", "differentiable_top_k"]
STEADY = "model.selector={policy: {name: atp, straight_through: false, dropout: 0.0}}"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    SeViLA.untrained(CONFIG).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=POLICIES)
def trained(request: pytest.FixtureRequest, data: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A policy, and the folder of the run that trained it."""
    output = tmp_path_factory.mktemp("trained") / "run"
    splits = {"valid_splits": "[val]", "test_splits": "[val]", "resume": "never"}
    assert train(small, output, data=data, stage=request.param, **splits) == 0
    return request.param, output


def evaluate(policy: Any, output: Path, *, data: Path, small: Path, **run: object) -> int:
    settings = {"test_splits": "[val]", **run}
    few = options("finetune", data=data, model=small, output=output, **settings)
    path = configs_dir() / "sevila" / "inference" / "nextqa.yaml"
    return main(["evaluate", "--cfg-path", str(path), "--options", *few, f"model.selector={policy}"])


def test_only_the_selector_trains_and_its_best_weights_have_a_file_of_their_own(trained: Any, small: Path) -> None:
    policy, output = trained
    assert load_file(output / "best" / "model.safetensors") == {}
    learned = load_file(output / "best" / "selector.safetensors")
    assert json.loads(read_metadata(output / "best" / "selector.safetensors")["selector"])["policy"] == policy
    from_scratch = SeViLA.from_pretrained(small)
    from_scratch.add_module(PART, Learning())
    build_selector(policy, from_scratch, prompt="multiple_choice")
    before = dict(from_scratch.selector.network.named_parameters())
    assert learned.keys() == before.keys()
    assert any(not torch.equal(learned[name], before[name]) for name in before)


def test_an_evaluation_reads_what_training_measured(
    trained: Any, data: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, run = trained
    spec = f"{{policy: {{name: {policy}, weights: {run / 'best'}}}}}"
    assert evaluate(spec, tmp_path / "out", data=data, small=small) == 0
    measured = json.loads((run / "metrics" / "val_best.json").read_text())
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["accuracy"]["overall"]["percent"] == pytest.approx(measured["accuracy"])
    assert found["frames"]["selector"] == policy
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    assert all(len(row["frame_scores"]) == 4 and len(row["keyframe_idx"]) == 2 for row in rows)

    other = tmp_path / "other.safetensors"
    file = run / "best" / "selector.safetensors"
    moved = {name: value + 0.1 for name, value in load_file(file).items()}
    save_file(moved, other, metadata={"selector": read_metadata(file)["selector"]})
    capsys.readouterr()
    changed = f"{{policy: {{name: {policy}, weights: {other}}}}}"
    assert evaluate(changed, tmp_path / "out", data=data, small=small) == 2
    assert "made with other scorer._selector.policy.fingerprint" in capsys.readouterr().err


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_not_trained_answers_nothing(
    policy: str, data: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(policy, tmp_path / "out", data=data, small=small) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: the policy {policy} is not trained here; train it with model.task=learn_selector")
    assert not (tmp_path / "out" / "predictions.jsonl").exists()
    video, asked = data / "nextqa" / "videos" / "v0.mp4", ["What is it", "-o", "red", "-o", "green"]
    assert main(["answer", str(video), *asked, "--model", str(small), "--selector", policy]) == 2
    assert f"the policy {policy} is not trained here" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_and_python_take_the_folder(
    trained: Any, data: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, run = trained
    video = data / "nextqa" / "videos" / "v0.mp4"
    spec = f"{{policy: {{name: {policy}, weights: {run / 'best'}}}, k: 2}}"
    asked = ["What is it", "-o", "red", "-o", "green", "--num-frames", "4", "--num-keyframes", "2", "--json"]
    capsys.readouterr()
    assert main(["answer", str(video), *asked, "--model", str(small), "--selector", spec]) == 0
    said = json.loads(capsys.readouterr().out)
    model = lavis.load_model("sevila", str(small), device="cpu")
    selector = {"policy": {"name": policy, "weights": str(run / "best")}}
    answer = model.watch(video, num_frames=4).ask("What is it", ["red", "green"], num_keyframes=2, selector=selector)
    assert answer.text in json.dumps(said)
    assert len(answer.keyframes) == 2


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    data: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"data": data, "stage": "atp", "valid_splits": "[val]", "ema_decay": 0.9}
    assert train(small, tmp_path / "whole", **settings) == 0
    stop(small, tmp_path / "stopped", monkeypatch=monkeypatch, **settings)
    assert train(small, tmp_path / "stopped", **settings) == 0
    whole, stopped = (outcome(tmp_path / name) for name in ("whole", "stopped"))
    assert whole == stopped
    best = [(tmp_path / name / "best" / "selector.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert best[0] == best[1]


@pytest.mark.parametrize("mode", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_gradients_of_two_processes_are_those_of_one(mode: str, data: Path, small: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": data, "model": small, "output": tmp_path / "run"}
    # Noise is each process's own, as dropout is; so frames are mixed without it.
    alone = [*options("atp", **settings, batch_size_train=4), STEADY]
    gradients.write_gradients(tmp_path / "one.safetensors", recipe("atp"), alone, World())
    shared = [*options("atp", **settings, batch_size_train=2, distributed=mode), STEADY]
    command = [*torchrun(2), "-m", gradients.__name__, str(tmp_path / "all.safetensors"), str(recipe("atp"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *shared], cwd=ROOT, env=environment, check=True, timeout=1200)
    one, together = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "all.safetensors")
    assert one.keys() == together.keys()
    assert {name.partition(".")[0] for name in one} == {"selector"}
    whole = float(torch.cat([value.flatten() for value in one.values()]).norm())
    assert whole > 0
    for name, value in one.items():
        # Small beside the loss that they come of, in float32.
        assert float((value - together[name]).norm()) <= 1e-2 * float(value.norm()) + 2e-3 * whole, name


def test_a_selector_and_the_answerer_train_together_and_the_next_stage_begins_with_both(
    data: Path, small: Path, tmp_path: Path
) -> None:
    changes = ("model.task=learn_selector_and_answerer",)
    run: dict[str, Any] = {"amp": "true", "accum_grad_iters": 2, "ema_decay": 0.5, "valid_splits": "[val]"}
    assert train(small, tmp_path / "both", data=data, stage="differentiable_top_k", changes=changes, **run) == 0
    best = tmp_path / "both" / "best"
    assert {name.partition(".")[0] for name in load_file(best / "model.safetensors")} == {"answerer"}
    model = SeViLA.from_pretrained(small)
    assert model.load_partial(best) == ["answerer"]
    policy = {"name": "differentiable_top_k", "weights": str(best)}
    further = (f"model.finetuned={best}", f"model.selector={{policy: {json.dumps(policy)}}}")
    assert train(small, tmp_path / "next", data=data, stage="differentiable_top_k", changes=further, max_iters=2) == 0
    from_checkpoint = (f"model.finetuned={max((tmp_path / 'both' / 'checkpoints').glob('step_*'))}",)
    assert train(small, tmp_path / "last", data=data, changes=from_checkpoint, max_iters=1) == 0


def test_a_dry_run_counts_the_selector(data: Path, small: Path, tmp_path: Path, capsys: Any) -> None:
    few = options("atp", data=data, model=small, output=tmp_path / "run")
    assert main(["train", "--cfg-path", str(recipe("atp")), "--dry-run", "--options", *few]) == 0
    (line,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("selector")]
    assert line[1] == line[2] != "0"
    assert not (tmp_path / "run").exists()


def test_the_commands_of_the_documentation_do_what_they_say(
    data: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").symlink_to(configs_dir())
    (tmp_path / "clip.mp4").symlink_to(data / "nextqa" / "videos" / "v0.mp4")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "selection.md").read_text().split("## Policies that are trained")[1].split("\n## ")[0]
    commands = [
        shlex.split(line.removeprefix("$ sevila ")) for line in page.splitlines() if line.startswith("$ sevila")
    ]
    assert [command[0] for command in commands] == ["train", "evaluate", "answer"]
    few = options("finetune", data=data, model=small, test_splits="[val]", max_iters=2)
    added = {"train": ["--options", *few], "evaluate": few, "answer": ["--model", str(small), "--num-frames", "4"]}
    for command in commands:
        # What the command says counts after what makes it small.
        assert main([*command, *added[command[0]]]) == 0, capsys.readouterr().err

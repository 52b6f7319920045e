"""People's own videos and questions: what `sevila prepare custom` writes, every other command takes."""

import json
import shlex
from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.common.files import configs_dir
from tests.integration.training.tiny_run import write_tiny_model
from tests.videos import write_video

QUESTIONS = """video,question,a0,a1,a2,answer
first,What is it?,a dog,a boat,,a dog
day 1/second.mkv,What is it?,a dog,a boat,a boy,C
first,Where is it?,here,there,,1
"""


@pytest.fixture
def places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The settings that the command says to use."""
    videos = tmp_path / "my videos"
    (videos / "day 1").mkdir(parents=True)
    write_video(videos / "first.mp4", num_frames=30)
    write_video(videos / "day 1" / "second.mkv", num_frames=30)
    (tmp_path / "mine").mkdir()
    for split in ("train", "val"):
        (tmp_path / "mine" / f"{split}.csv").write_text(QUESTIONS)
    command = ["prepare", "custom", "--raw", str(tmp_path / "mine"), "--videos", str(videos)]
    assert main([*command, "--out", str(tmp_path / "data")]) == 0
    start, *settings = capsys.readouterr().out.splitlines()[-1].partition("--options ")
    assert start == "to use them: "
    return shlex.split(settings[-1])


def test_own_questions_are_checked_packed_evaluated_and_learned_from(places: list[str], tmp_path: Path) -> None:
    check = ["check", "custom", "--workers", "0", "--out", str(tmp_path / "check"), "--options", *places]
    assert main(check) == 0
    assert json.loads((tmp_path / "check" / "check.json").read_text())["lost"] == 0
    shards = tmp_path / "shards"
    pack = ["prepare", "shards", "--dataset", "custom", "--out", str(shards), "--splits", "val", "--options", *places]
    assert main(pack) == 0

    model = f"model.model_type={write_tiny_model(tmp_path / 'model')}"
    small = [model, "run.device=cpu", "run.num_workers=0", "datasets.custom.vis_processor.eval.n_frms=4"]
    evaluate = ["evaluate", "--cfg-path", str(configs_dir() / "sevila" / "inference" / "custom.yaml"), "--options"]
    packed = f"datasets.custom.build_info.videos.storage={shards}"
    for output, storage in (("files", []), ("shards", [packed])):
        assert main([*evaluate, *small, *places, *storage, f"run.output_dir={tmp_path / output}"]) == 0
    files, from_shards = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("files", "shards"))
    assert (files["questions"], files["unreadable"], files["dataset"]) == (3, 0, "custom")
    assert from_shards["accuracy"] == files["accuracy"]

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("datasets: {custom: {}}\nmodel: {frame_num: 2}\nrun: {max_iters: 1, test_splits: [val]}\n")
    train = ["train", "--cfg-path", str(recipe), "--options", *small, *places, f"run.output_dir={tmp_path / 'trained'}"]
    assert main(train) == 0
    assert json.loads((tmp_path / "trained" / "metrics" / "val_best.json").read_text())["questions"] == 3


def test_a_video_that_is_gone_is_told_of_once_in_training_and_its_questions_are_left_out(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my videos" / "first.mp4").unlink()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "datasets: {custom: {}}\nrun: {max_epoch: 2, max_unreadable: 1, valid_splits: [], test_splits: []}\n"
    )
    small = [f"model.model_type={write_tiny_model(tmp_path / 'model')}", "run.device=cpu", "run.num_workers=0"]
    train = ["train", "--cfg-path", str(recipe), "--options", *small, *places, f"run.output_dir={tmp_path / 'trained'}"]
    assert main(train) == 0
    assert capsys.readouterr().err.count("skipped: no video 'first'") == 1

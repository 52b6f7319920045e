"""Training from shards as people start it: packed by `sevila prepare shards`, read by several processes and workers."""

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lavis.cli.main import main
from tests.architecture.source import ROOT
from tests.integration.training.tiny_run import options, recipe, torchrun, write_tiny_data, write_tiny_model

MISSING = 2
_PADDING = 1024 * 1024
_COMPARED = ("kind", "iteration", "epoch", "loss", "accuracy", "lr")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos large enough that shards of one MiB hold one each, and questions about one that is missing."""
    folder = write_tiny_data(tmp_path_factory.mktemp("data"))
    for video in (folder / "nextqa" / "videos").iterdir():
        free = struct.pack(">I4s", _PADDING, b"free") + bytes(_PADDING - 8)
        video.write_bytes(video.read_bytes() + free)
    train = folder / "nextqa" / "train.json"
    rows = json.loads(train.read_text())
    train.write_text(json.dumps([*rows, *({**rows[0], "video": "gone", "qid": f"CW_gone{n}"} for n in range(MISSING))]))
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def train(settings: list[str]) -> None:
    command = [*torchrun(2), str(ROOT / "train.py"), "--cfg-path", str(recipe("finetune")), "--options"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, *settings], check=True, env=environment, timeout=1800)


def logged(folder: Path) -> list[dict[str, Any]]:
    """What was learned and measured, without what differs from run to run: how long it took."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in _COMPARED if key in row} for row in rows]


def test_processes_and_workers_learn_from_shards_what_they_learn_from_files(
    data: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tmp_path / "shards"
    settings = options("finetune", data=data, model=model_folder, max_epoch=1, num_workers=2, max_unreadable=1)
    settings += ["run.valid_splits=[]", "run.test_splits=[]"]
    places = [setting for setting in settings if "build_info" in setting]
    pack = ["prepare", "shards", "--dataset", "nextqa", "--out", str(shards), "--shard-mib", "1", "--skip-bad"]
    assert main([*pack, "--splits", "train", "--options", *places]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "nextqa train: 9 questions in 4 shards"
    packed = said[-1].removeprefix("to use them: --options ").split()
    for output, storage in (("files", []), ("shards", packed)):
        train([*settings, *storage, f"run.output_dir={tmp_path / output}"])
    files, from_shards = logged(tmp_path / "files"), logged(tmp_path / "shards")
    assert from_shards == files
    # Nine questions in steps of four.
    assert [row["kind"] for row in files] == ["train"] * 3

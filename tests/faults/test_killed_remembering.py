"""A killed run that remembers verdicts goes on with those that an undisturbed one knows, on each of its processes."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.playing import harm, outcome, play, start


@pytest.mark.parametrize(
    ("stage", "death"),
    [
        # In the first epoch what is new is each process's own; in the second all of it is shared.
        ("refine", harm("step", 4, rank=1)),
        ("finetune", harm("step", 7, when="after", rank=0)),
    ],
    ids=["unshared", "shared"],
)
def test_a_killed_run_knows_what_it_knew(
    stage: str, death: dict[str, Any], data: Path, model_folder: Path, tmp_path: Path
) -> None:
    def begin(name: str, **options: Any) -> dict[str, Any]:
        settings = {"data": data, "model": model_folder, "processes": 2, "frozen_verdicts": "remembered"}
        begun = start(stage, tmp_path / name, **settings, **options)
        begun["options"].append("datasets.nextqa.vis_processor.train.name=blip_video_eval")
        return begun

    first, killed, again = play([begin("whole"), begin("killed", harm=death), begin("killed")], tmp_path)
    assert (set(first), sorted(killed), killed[death["rank"]], set(again)) == ({0}, [-9, 1], -9, {0})
    whole = outcome(tmp_path / "whole")
    assert outcome(tmp_path / "killed") == whole
    reused = [row["reused"] for row in whole["log"] if row["kind"] == "train"]
    assert reused == [0.0] * 4 + [1.0] * 4

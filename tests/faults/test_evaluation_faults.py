"""An evaluation that ends early says so in one line, and goes on to the same figures, every question counted once."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from lavis.common.logging import read_json_lines
from tests.faults.playing import harm, play, said
from tests.integration.evaluation.benchmarks import recipe
from tests.integration.evaluation.questions import NUM_QUESTIONS, settings, write_questions

_GO_ON = "go on from what is saved with run.resume=auto"
FAULTS = {
    "sigterm": (harm("score", 3, kind="terminate"), 143, "terminated: asked to end (SIGTERM); go on with"),
    "kill": (harm("score", 4, when="after"), -9, None),
    "out of memory": (harm("score", 2, kind="memory"), 1, "error: out of memory: use a smaller run.batch_size_eval"),
    "disk full": (
        harm("score", 3, kind=str(errno.ENOSPC)),
        1,
        "error: cannot use somewhere: the disk is full (No space left on device); mend it, then " + _GO_ON,
    ),
}


def evaluation(output: Path, data: Path, model: Path, harm: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "command": "evaluate",
        "recipe": str(recipe("nextqa")),
        "options": settings(data, model=model, output=output),
        "processes": 1,
        "harm": harm,
        "out": f"{output}.out",
    }


def predictions(output: Path) -> list[dict[str, Any]]:
    rows = read_json_lines(output / "predictions.jsonl")
    return [{name: value for name, value in row.items() if name not in ("seconds", "cost")} for row in rows]


@pytest.fixture(scope="module")
def played(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[list[int]]]]:
    folder = tmp_path_factory.mktemp("faults")
    data = write_questions(folder / "data")
    starts = [evaluation(folder / "whole", data, model_folder)]
    for name, (fault, _, _) in FAULTS.items():
        starts += [evaluation(folder / name, data, model_folder, fault), evaluation(folder / name, data, model_folder)]
    codes = play(starts, folder)
    assert codes[0] == [0]
    return folder, {name: codes[1 + 2 * number : 3 + 2 * number] for number, name in enumerate(FAULTS)}


@pytest.mark.parametrize("name", FAULTS)
def test_an_evaluation_that_ended_early_goes_on_to_the_same_figures(
    name: str, played: tuple[Path, dict[str, list[list[int]]]]
) -> None:
    folder, codes = played
    _, code, line = FAULTS[name]
    assert codes[name] == [[code], [0]]
    assert [text.startswith(line or "") for text in said(folder / name)] == ([True] if line else [])
    assert predictions(folder / name) == predictions(folder / "whole")
    assert len(predictions(folder / name)) == NUM_QUESTIONS
    metrics = [json.loads((folder / run / "metrics.json").read_text()) for run in (name, "whole")]
    assert metrics[0] == metrics[1]


def test_an_output_folder_holds_what_repeats_the_run(played: tuple[Path, dict[str, list[list[int]]]]) -> None:
    folder, _ = played
    facts = json.loads((folder / "kill" / "run.json").read_text())
    assert {
        "command",
        "seed",
        "commit",
        "clean",
        "plugins",
        "versions",
        "processes",
        "started",
        "platform",
    } <= facts.keys()
    assert len(facts["earlier_starts"]) == 1
    assert (folder / "kill" / "config.yaml").is_file()

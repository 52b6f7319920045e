"""A model that cannot spell every text says so at every door: Python, the commands, the page's API, an evaluation."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client

import lavis
from lavis.cli.main import main
from lavis.common.files import checkpoints_dir
from lavis.demo.serve import serving
from lavis.demo.settings import Settings
from lavis.models.sevila.known_files import read_config
from lavis.models.sevila.model import SeViLA
from tests.integration.evaluation.benchmarks import recipe
from tests.integration.evaluation.questions import settings, write_questions

CLIP = checkpoints_dir() / "clips" / "test_0000.mp4"
QUESTION, OPTIONS = "What does 什么 mean?", ["a box", "the 箱 box"]
TOLD = "the model cannot spell '什么', '箱' in the question or its options, and reads an unknown word there"
TOLD_OF_QUERY = "the model cannot spell '什么' in the question or its options, and reads an unknown word there"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads like the embedded one, but spells nothing byte by byte, as Flan-T5."""
    place = tmp_path_factory.mktemp("spelling")
    shutil.copytree(checkpoints_dir() / "sevila_tiny" / "tokenizer", place / "tokenizer")
    file = place / "tokenizer" / "tokenizer.json"
    spelling = json.loads(file.read_text(encoding="utf-8"))
    spelling["model"]["byte_fallback"] = False
    file.write_text(json.dumps(spelling), encoding="utf-8")
    config = read_config("tiny")
    language = dataclasses.replace(config.language, tokenizer=str(place / "tokenizer"))
    SeViLA.untrained(dataclasses.replace(config, language=language)).save_pretrained(place / "model")
    return place / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return lavis.load_model("sevila", str(folder), device="cpu")


def test_python_says_so_once_for_question_and_options(model: Any) -> None:
    video = model.watch(CLIP, num_frames=4)
    assert video.ask(QUESTION, OPTIONS).caveats[-1] == TOLD
    assert video.find("a 什么").caveats[-1] == TOLD_OF_QUERY
    assert not [caveat for caveat in video.ask("What is it?", ["a", "b"]).caveats if "spell" in caveat]


def test_the_commands_say_so_in_print_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [text for option in OPTIONS for text in ("--option", option)]
    asked = [str(CLIP), QUESTION, *options, "--model", str(folder), "--num-frames", "4", "--no-cache"]
    assert main(["answer", *asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["caveats"][-1] == TOLD
    assert main(["answer", *asked]) == 0
    assert f"! {TOLD}" in " ".join(capsys.readouterr().out.split())
    sought = [str(CLIP), "a 什么", "--model", str(folder), "--num-frames", "4", "--no-cache", "--json"]
    assert main(["find", *sought]) == 0
    assert json.loads(capsys.readouterr().out)["caveats"][-1] == TOLD_OF_QUERY


def test_the_page_s_functions_say_so(model: Any) -> None:
    with serving(model, model_name="small", port=None, settings=Settings()) as served:
        client = Client(served.url, verbose=False)
        answered = client.predict({"clip": CLIP.name}, QUESTION, OPTIONS, 4, 2, api_name="/answer")
        found = client.predict({"clip": CLIP.name}, "a 什么", 4, 2, api_name="/find")
    assert (answered["caveats"][-1], found["caveats"][-1]) == (TOLD, TOLD_OF_QUERY)


def test_an_evaluation_counts_such_questions_and_names_their_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_questions(tmp_path / "data")
    rows = json.loads((data / "val.json").read_text())
    rows[0]["question"], rows[1]["a1"] = "什么", "箱 箱"
    (data / "val.json").write_text(json.dumps(rows))
    output = tmp_path / "run"
    chosen = settings(data, model=folder, output=output)
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *chosen]) == 0
    assert "\n2 questions hold text that the model cannot spell, named in" in capsys.readouterr().out
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    unspelt = {line["id"]: line["unspelt"] for line in lines if line["unspelt"]}
    readable = [row for row in rows[:2] if row["video"] != "gone"]
    assert unspelt == {row["qid"]: ["什么"] if row is rows[0] else ["箱"] for row in readable}
    assert json.loads((output / "metrics.json").read_text())["unspelt"] == len(readable) == 2
    assert (output / "report.md").read_text().count("with text that the model cannot spell 2") == 1

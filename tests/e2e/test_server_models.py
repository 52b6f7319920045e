"""Commands with a model on a server: what people see, save and evaluate, with scores and without."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.cli.main import main
from tests.integration.evaluation.benchmarks import read_lines, recipe
from tests.integration.evaluation.questions import NUM_QUESTIONS, settings, write_questions
from tests.unit.models.api.chat_server import Reply, chat_server, completion, picture_of
from tests.videos import shown_numbers

KEY = "sk-never-to-be-seen-0123456789"
OPTIONS = ["-o", "a cat", "-o", "a dog"]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_API_KEY", KEY)


def both_roles(request: dict[str, Any]) -> dict[str, Any]:
    """Say yes to later frames, and choose B."""
    content = request["messages"][0]["content"]
    if "yes or no only" not in content[-1]["text"]:
        return completion("B", [("B", -0.1), ("A", -2.5)])
    (number,) = shown_numbers(np.asarray(picture_of(content[0]))[None])
    return completion("yes", [("yes", -5 + number / 25), ("no", -4.0)])


def everything_written(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode("latin-1") for path in files)


def test_an_answer_with_scores_is_shown_saved_and_exported(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server(both_roles) as server:
        model = f"openai:{server.url}#qwen3-vl:4b"
        command = ["answer", str(clip), "What is it?", *OPTIONS, "--num-frames", "8", "--model", model]
        assert main([*command, "--save", str(tmp_path / "saved")]) == 0
        shown = capsys.readouterr().out
        assert main([*command, "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert main(["find", str(clip), "A cat", "--num-frames", "8", "--model", model, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    name = f"qwen3-vl:4b on {server.url}"
    assert f"8 frames watched by {name}" in shown
    assert f"! answered by {name}, of whose weights nothing is known here" in shown
    assert "B  a dog" in shown
    assert "92%" in shown
    assert (tmp_path / "saved" / "scores.png").is_file()
    assert [one["score"] for one in record["option_scores"]] == [-2.5, -0.1]
    assert (record["answer"], record["model"], len(record["frame_scores"])) == ("a dog", name, 8)
    # The margin passes 0 where yes is likelier than no, from the second second on.
    assert [one["score"] > 0 for one in found["frame_scores"]] == [one["time_s"] > 1 for one in found["frame_scores"]]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in shown + json.dumps([record, found]) + everything_written(tmp_path)


def test_an_answer_without_scores_is_shown_saved_and_exported(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server([completion("B")]) as server:
        command = ["answer", str(clip), "What is it?", *OPTIONS, "--model", f"openai:{server.url}#m"]
        assert main([*command, "--selector", "uniform", "--save", str(tmp_path / "saved")]) == 0
        shown = capsys.readouterr().out
        assert main([*command, "--selector", "uniform", "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert main(command) == 2
        told = capsys.readouterr().err
    assert "4 of 32 frames watched by m on" in shown
    assert "! the server gives no log-probabilities: only the choice is known" in shown
    assert "B  a dog" in shown
    assert "%" not in shown
    assert (record["answer"], record["answer_index"], record["option_scores"]) == ("a dog", 1, [])
    assert told.count("\n") == 1
    assert "gives no log-probabilities, by which frames are scored; choose frames another way" in told


def test_only_the_answerer_may_be_on_a_server(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chat_server([completion("A", [("A", -0.1), ("B", -1.0)])]) as server:
        chain = ["--model", "tiny", "--answerer", f"openai:{server.url}#m"]
        assert main(["answer", str(clip), "What is it?", *OPTIONS, "--num-frames", "8", *chain, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["answer"], record["model"]) == ("a cat", f"sevila_tiny + m on {server.url}")
    assert len(record["frame_scores"]) == 8
    (body,) = server.bodies
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url"] * 4 + ["text"]


def test_a_server_that_fails_is_one_line(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chat_server([Reply({"error": {"message": f"bad key {KEY}"}}, status=401)]) as server:
        assert main(["answer", str(clip), "What?", *OPTIONS, "--model", f"openai:{server.url}#m"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), KEY in err) == ("", 1, False)
    assert err.startswith(f"error: {server.url} does not accept the key (error 401)")
    with chat_server([Reply(status=500)]) as server:
        model = f"{{name: openai, url: '{server.url}', model: m, retries: 0}}"
        assert main(["answer", str(clip), "What?", *OPTIONS, "--model", model]) == 1
    assert capsys.readouterr().err.startswith(f"error: {server.url}: error 500, tried 1 time; see whether")


def evaluate(answering: Callable[[dict[str, Any]], Any], data: Path, output: Path, *more: str) -> list[dict[str, Any]]:
    with chat_server(answering) as server:
        options = settings(data, model=Path("MODEL"), output=output)
        options = [*(one.replace("MODEL", f"openai:{server.url}#m") for one in options), *more]
        command = ["evaluate", "--cache", "--cfg-path", str(recipe("nextqa")), "--options", *options]
        assert main(command) == 0
        asked = len(server.bodies)
        # What is there is not asked again.
        assert main(command) == 0
        assert len(server.bodies) == asked
    assert json.loads((output / "metrics.json").read_text())["model"] == f"m on {server.url}"
    return read_lines(output / "predictions.jsonl")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("data"))


def test_an_evaluation_counts_every_question_and_guesses_none(data: Path, tmp_path: Path) -> None:
    def answering(request: dict[str, Any]) -> dict[str, Any]:
        content = request["messages"][0]["content"]
        if "yes or no only" in content[-1]["text"]:
            return completion("yes", [("yes", -1.0), ("no", -2.0)])
        # One question of a clip that has several gets nonsense.
        if content[-1]["text"].startswith("Question: What is near the boat\n"):
            return completion("I see a boat.", [("I", -0.1), ("B", -3.0)])
        return completion("B", [("B", -0.1), ("A", -2.5)])

    rows = evaluate(answering, data, tmp_path / "out")
    assert len(rows) == NUM_QUESTIONS
    read = [row for row in rows if not row["unreadable"]]
    reasons = [row["unreadable"] for row in rows if row["unreadable"] and row["video"] != "gone"]
    assert reasons == ["question 'TN_0': the model said 'I see a boat.', which is none of the options A to C"]
    assert len(read) == NUM_QUESTIONS - 1 - 3
    assert {row["choice"] for row in read} == {1}
    assert {tuple(row["option_scores"]) for row in read} == {(-2.5, -0.1, -2.5)}
    assert "none of the options A to C" in (tmp_path / "out" / "report.md").read_text()
    assert KEY not in everything_written(tmp_path)


def test_an_evaluation_without_scores_is_measured_and_resumed(data: Path, tmp_path: Path) -> None:
    rows = evaluate(lambda _: completion("C"), data, tmp_path / "out", "model.selector=uniform")
    assert [row["option_scores"] for row in rows] == [[]] * NUM_QUESTIONS
    assert {row["choice"] for row in rows if not row["unreadable"]} == {2}


def test_it_cannot_be_trained(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = settings(data, model=Path("MODEL"), output=tmp_path / "out")
    options = [one.replace("MODEL", "openai:http://127.0.0.1:9/v1#m") for one in options]
    recipe_file = str(recipe("nextqa", "refine"))
    train = f"datasets.nextqa.build_info.annotations.train.storage={data}/val.json"
    assert main(["train", "--cfg-path", recipe_file, "--options", *options, train]) == 2
    assert "m on http://127.0.0.1:9/v1 runs on a server and cannot be trained here" in capsys.readouterr().err

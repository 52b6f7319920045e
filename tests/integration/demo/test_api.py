"""`/answer` and `/find` give what the command line and Python give."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lavis.cli.main import main
from lavis.demo.serve import Served, serving
from lavis.demo.videos import Example, read_examples
from lavis.export.records import answer_record, moments_record
from tests.unit.demo.conftest import BrightnessModel

Record = dict[str, Any]


@pytest.fixture(scope="session")
def example() -> Example:
    return read_examples()[0]


@pytest.fixture(scope="session")
def client(served: Served) -> Client:
    return Client(served.url, verbose=False)


def comparable(record: Record) -> Record:
    """The record without what differs from run to run: where the video lies, and what it took."""
    video = {field: value for field, value in record["video"].items() if field not in ("path", "name")}
    both = {field: value for field, value in record.items() if field != "frames_remembered"}  # the command's cache
    return {**both, "video": video, "timings_s": None, "cost": None}


def command_line(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Record:
    assert main([*map(str, arguments), "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_answer_is_the_command_line_s_and_python_s(
    client: Client, example: Example, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = example.questions[0]
    options = [text for option in asked.options for text in ("--option", option)]
    printed = command_line(capsys, "answer", example.clip, asked.text, *options)
    video = model.watch(example.clip)
    answer = video.ask(asked.text, asked.options)
    python = answer_record(answer, video=video.info, model=model.config.name, timings_s={})
    served = client.predict({"clip": example.clip.name}, asked.text, list(asked.options), 32, 4, api_name="/answer")
    assert comparable(served) == comparable(printed) == comparable(python)
    assert served["answer_index"] == asked.answer
    assert served["video"]["name"] == example.clip.name


def test_an_upload_gives_the_same_as_the_shipped_clip(client: Client, example: Example) -> None:
    asked = example.questions[1]
    uploaded = client.predict(
        handle_file(str(example.clip)), asked.text, list(asked.options), 16, 2, api_name="/answer"
    )
    shipped = client.predict({"clip": example.clip.name}, asked.text, list(asked.options), 16, 2, api_name="/answer")
    assert comparable(uploaded) == comparable(shipped)
    assert len(uploaded["keyframes"]) == 2


def test_an_open_answer_needs_no_options(client: Client, example: Example, model: Any) -> None:
    served = client.predict({"clip": example.clip.name}, "What is it?", api_name="/answer")
    assert served["answer"] == model.watch(example.clip).ask("What is it?").text
    assert served["answer_index"] is None


def test_moments_are_the_command_line_s_and_python_s(
    client: Client, example: Example, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    query = example.questions[0].text
    printed = command_line(capsys, "find", example.clip, query, "--max-moments", "5")
    video = model.watch(example.clip)
    found = video.find(query, max_moments=5)
    python = moments_record(found, video=video.info, model=model.config.name, timings_s={})
    served = client.predict({"clip": example.clip.name}, query, 32, 5, api_name="/find")
    assert comparable(served) == comparable(printed) == comparable(python)


def test_a_part_is_that_of_the_command_line(
    client: Client, example: Example, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, video = example.questions[0], {"clip": example.clip.name}
    options = [text for option in asked.options for text in ("--option", option)]
    printed = command_line(capsys, "answer", example.clip, asked.text, *options, "--clip", "0:20-0:34.5")
    part = {"start": "0:20", "end": 34.5}
    served = client.predict(video, asked.text, list(asked.options), **part, api_name="/answer")
    assert served["clip"] == {"start_s": 20.0, "end_s": 34.5}
    assert comparable(served) == comparable(printed)
    found = client.predict(video, asked.text, start=20, api_name="/find")
    assert found["clip"] == {"start_s": 20.0, "end_s": model.watch(example.clip).info.duration_s}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": "soon"}, "'soon' is no time; give seconds, mm:ss or hh:mm:ss"),
        ({"end": []}, "[] is no time"),
        ({"start": 5, "end": 5}, "There is no part from"),
        ({"start": 1e6}, "The part starts at 1e+06 s, but the video lasts"),
        ({"model": "another"}, "There is no model 'another'; known: sevila_tiny"),
        ({"model": 1}, "1 is not text"),
    ],
)
@pytest.mark.parametrize("function", ["/answer", "/find"])
def test_no_such_part_and_no_such_model(
    client: Client, example: Example, given: dict[str, Any], message: str, function: str
) -> None:
    with pytest.raises(AppError) as refused:
        client.predict({"clip": example.clip.name}, "What is it?", **given, api_name=function)
    assert message in str(refused.value)


def test_a_program_says_which_model_is_asked(example: Example) -> None:
    first = BrightnessModel()
    with serving(first, model_name="first", port=None, other_models={"second": BrightnessModel}) as two:
        client = Client(two.url, verbose=False)
        for name, asked in (("", "first"), ("first", "first"), ("second", "second")):
            for function in ("/answer", "/find"):
                record = client.predict({"clip": example.clip.name}, "What is it?", model=name, api_name=function)
                assert record["model"] == asked


@pytest.mark.parametrize("num_given", [3, 5, 8])
def test_plain_http_does_as_well(http: httpx.Client, example: Example, num_given: int) -> None:
    asked = example.questions[0]
    data = [{"clip": example.clip.name}, asked.text, list(asked.options), 32, 4, None, None, ""][:num_given]
    called = http.post("gradio_api/call/answer", json={"data": data}).json()
    streamed = http.get(f"gradio_api/call/answer/{called['event_id']}").text
    assert streamed.splitlines()[0] == "event: complete"
    (record,) = json.loads(streamed.splitlines()[1].removeprefix("data: "))
    assert record["answer"] == asked.options[asked.answer]


def test_only_both_functions_are_offered_and_their_inputs_described(http: httpx.Client) -> None:
    endpoints = http.get("gradio_api/info").json()["named_endpoints"]
    names = {name: [one["parameter_name"] for one in about["parameters"]] for name, about in endpoints.items()}
    assert names == {
        "/answer": ["video", "question", "options", "num_frames", "num_keyframes", "start", "end", "model"],
        "/find": ["video", "query", "num_frames", "max_moments", "start", "end", "model"],
    }
    for name, parameters in names.items():
        assert [word for word in parameters if f"{word}: " not in endpoints[name]["description"]] == []

"""The plugin of lmms-eval against a small stand-in of what it uses; tests/harness runs it inside lmms-eval."""

import copy
import importlib
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lavis.selection.frames_file import ChosenFrames, write_frames
from tests.architecture.source import ROOT
from tests.videos import shown_numbers, write_video

PLUGIN = ROOT / "integrations" / "lmms_eval"
TASK, SPLIT = "quiz", "test"
SETTINGS = {"until": ["\n"]}


class Lmms:
    """What lmms-eval's base class gives to every model."""

    is_simple = True

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1
        self.task_dict: dict[str, Any] = {}

    rank = property(lambda self: self._rank)
    world_size = property(lambda self: self._world_size)

    def clean(self) -> None:
        self.is_clean = True


class Request:
    """What of lmms-eval's `Instance` is used."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    args = property(lambda self: self.arguments)


class Simple(Lmms):
    """Asks the first request's function about all documents, as models do that take several at once."""

    batch_size = 7

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings, self.received, self._rank, self._world_size = settings, [], 1, 2

    def generate_until(self, requests: list[Request]) -> list[str]:
        contexts, options, functions, ids, tasks, splits = zip(*(request.args for request in requests), strict=True)
        self.received = list(zip(contexts, options, ids, tasks, splits, strict=True))
        self.shown = [functions[0](self.task_dict[tasks[0]][splits[0]][doc_id]) for doc_id in ids]
        return [f"answer {doc_id}" for doc_id in ids]

    def loglikelihood(self, requests: list[Request]) -> list[tuple[float, bool]]:
        self.shown = [one.args[2](self.task_dict[one.args[4]][one.args[5]][one.args[3]]) for one in requests[:2]]
        self.received = [request.args for request in requests[2:]]
        return [(0.0, False)] * len(requests)


class Chat(Simple):
    is_simple = False

    def generate_until(self, requests: list[Request]) -> list[str]:
        self.shown = [
            doc_to_messages(self.task_dict[task][split][doc_id])
            for _, doc_to_messages, _, doc_id, task, split in (request.args for request in requests)
        ]
        self.received = [(one.args[0], *one.args[2:]) for one in requests]
        return ["A"] * len(requests)


class Swallowing(Simple):
    """Answers nothing where it meets an error."""

    def generate_until(self, requests: list[Request]) -> list[str]:
        try:
            return super().generate_until(requests)
        except Exception:  # noqa: BLE001
            return [""] * len(requests)


@pytest.fixture
def wrapper(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin's module, over the stand-in."""
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models")
    modules = {name: ModuleType(name) for name in names}
    models = {"simple": Simple, "chat": Chat, "swallowing": Swallowing}
    vars(modules["lmms_eval.api.model"])["lmms"] = Lmms
    vars(modules["lmms_eval.models"])["get_model"] = lambda name, force_simple: models[
        "simple" if force_simple else name
    ]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(PLUGIN)
    for name in [name for name in sys.modules if name.startswith("sevila_lmms_eval")]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("sevila_lmms_eval.wrapper")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        write_video(tmp_path / f"v{number}.mp4", num_frames=30)
    rows = [
        ChosenFrames(task=TASK, question_id=f"q{number}", frame_idx=frames)
        for number, frames in enumerate([(2, 5), (7,), (1, 20, 28)])
    ]
    write_frames(tmp_path / "frames.jsonl", rows)
    return tmp_path


def documents(folder: Path) -> dict[str, Any]:
    rows = [{"question_id": f"q{number}", "video": str(folder / f"v{number % 2}.mp4")} for number in range(3)]
    return {SPLIT: rows}


def doc_to_visual(document: dict[str, Any]) -> list[Any]:
    return [document["video"]]


def doc_to_messages(document: dict[str, Any]) -> list[dict[str, Any]]:
    video, text = {"type": "video", "url": document["video"]}, {"type": "text", "text": "What?"}
    return [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [video, text]},
    ]


def requests_of(function: Callable[..., Any], *, is_simple: bool, count: int = 3) -> list[Request]:
    """Requests as lmms-eval 0.7.3 makes them."""
    return [
        Request(f"ctx {number}", *((SETTINGS, function) if is_simple else (function, SETTINGS)), number, TASK, SPLIT)
        for number in range(count)
    ]


def made(wrapper: Any, folder: Path, answerer: str = "simple", **arguments: Any) -> Any:
    model = wrapper.SevilaFrames(answerer, frames=str(folder / "frames.jsonl"), **arguments)
    model.task_dict[TASK] = documents(folder)  # as the harness does, after the model is made
    return model


def numbers(pictures: list[Any]) -> list[int]:
    return shown_numbers(np.stack([np.asarray(picture) for picture in pictures]))


def test_a_simple_model_that_takes_several_at_once_is_shown_each_questions_frames(wrapper: Any, folder: Path) -> None:
    model = made(wrapper, folder, pretrained="x", batch_size=3)
    requests = requests_of(doc_to_visual, is_simple=True)
    before = copy.copy([request.args for request in requests])
    assert model.generate_until(requests) == ["answer 0", "answer 1", "answer 2"]
    assert [numbers(pictures) for pictures in model.shown] == [[2, 5], [7], [1, 20, 28]]
    assert model.received == [(f"ctx {number}", SETTINGS, number, TASK, SPLIT) for number in range(3)]
    assert [request.args for request in requests] == before
    assert model.settings == {"pretrained": "x", "batch_size": 3}


def test_a_chat_model_is_shown_pictures_where_the_video_stood(wrapper: Any, folder: Path) -> None:
    model = made(wrapper, folder, "chat")
    assert model.is_simple is False
    model.generate_until(requests_of(doc_to_messages, is_simple=False))
    system, user = model.shown[2]
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert user["content"][-1] == {"type": "text", "text": "What?"}
    assert [part["type"] for part in user["content"]] == ["image"] * 3 + ["text"]
    assert numbers([part["url"] for part in user["content"][:-1]]) == [1, 20, 28]
    assert model.received == [(f"ctx {number}", SETTINGS, number, TASK, SPLIT) for number in range(3)]


def test_an_answerer_of_two_classes_may_be_asked_as_the_simple_one(wrapper: Any, folder: Path) -> None:
    assert made(wrapper, folder, "chat", force_simple=True).is_simple is True


def test_likelihoods_are_of_the_frames_and_text_alone_stays(wrapper: Any, folder: Path) -> None:
    model = made(wrapper, folder)
    requests = [Request("ctx", f" {letter}", doc_to_visual, 2, TASK, SPLIT) for letter in "AB"]
    model.loglikelihood([*requests, Request("", " A")])
    assert [numbers(pictures) for pictures in model.shown] == [[1, 20, 28]] * 2
    assert model.received == [("", " A")]


def test_what_the_harness_asks_of_a_model_is_the_answerers(wrapper: Any, folder: Path) -> None:
    model = made(wrapper, folder)
    assert (model.rank, model.world_size, model.batch_size) == (1, 2, 7)
    with pytest.raises(AttributeError, match="no_such"):
        _ = model.no_such
    answerer = model._answerer
    model.clean()
    assert (model.is_clean, answerer.is_clean) == (True, True)


def test_how_many_were_shown_is_said(wrapper: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(wrapper, folder).generate_until(requests_of(doc_to_visual, is_simple=True))
    assert capsys.readouterr().err == "sevila_frames: 3 of 3 questions were shown 6 frames\n"


def test_a_missing_row_ends_the_process_before_anything_is_asked(
    wrapper: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made(wrapper, folder)
    model.task_dict[TASK][SPLIT][2]["question_id"] = "q9"
    with pytest.raises(SystemExit) as ended:
        model.generate_until(requests_of(doc_to_visual, is_simple=True))
    assert ended.value.code == 2
    assert "has no frames for question 'q9' of 'quiz'; it has 3 rows" in capsys.readouterr().err
    assert model.received == []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda document: [document["video"]] * 2, "'quiz' shows 2 video files in document 0; one is needed"),
        (lambda document: [], "'quiz' shows 0 video files in document 0; one is needed"),
        (lambda document: ["no.mp4"], "no.mp4: no such file"),
    ],
)
@pytest.mark.parametrize("answerer", ["simple", "swallowing"])
def test_a_mistake_ends_the_process_even_where_a_model_goes_on_after_it(
    function: Any, message: str, answerer: str, wrapper: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        made(wrapper, folder, answerer).generate_until(requests_of(function, is_simple=True))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_several_rounds_and_arguments_that_cannot_be_end_the_process(wrapper: Any, folder: Path) -> None:
    with pytest.raises(SystemExit):
        made(wrapper, folder).generate_until_multi_round([])
    with pytest.raises(SystemExit):
        wrapper.SevilaFrames("simple")


def test_a_selector_may_choose(wrapper: Any, folder: Path) -> None:
    model = wrapper.SevilaFrames("simple", selector="uniform", k=2, num_watched=10, question_field="question_id")
    model.task_dict[TASK] = documents(folder)
    model.generate_until(requests_of(doc_to_visual, is_simple=True))
    assert [len(pictures) for pictures in model.shown] == [2, 2, 2]


def test_the_entry_point_names_the_class() -> None:
    declared = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points."lmms_eval.models"]\nsevila_frames = "sevila_lmms_eval:manifest"\n' in declared


def test_the_documentation_tells_every_argument(wrapper: Any) -> None:
    names = set(inspect.signature(wrapper.SevilaFrames).parameters) - {"settings"}
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "harnesses.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert names == {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def launcher_ends(folder: Path, monkeypatch: pytest.MonkeyPatch, *, code: str) -> int:
    """Run the launcher over an `lmms_eval` that does what `code` says; its exit status."""
    (folder / "lmms_eval").mkdir()
    (folder / "lmms_eval" / "__main__.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(PLUGIN)
    main = importlib.import_module("sevila_lmms_eval.__main__")
    arguments = ["--model", "sevila_frames", "--tasks", "a,b", "--output_path", str(folder / "out")]
    monkeypatch.setattr(sys, "argv", ["sevila_lmms_eval", *arguments])
    return int(main.main())


WRITE = """
import json, pathlib, sys
assert sys.argv[1:3] == ["--model", "sevila_frames"]
folder = pathlib.Path(sys.argv[-1]) / "model"
folder.mkdir(parents=True)
(folder / "1_results.json").write_text(json.dumps({"results": dict.fromkeys(%s)}))
"""


@pytest.mark.parametrize(
    ("code", "status"),
    [(WRITE % ["a", "b"], 0), (WRITE % ["a"], 1), ("", 1), ("raise SystemExit(2)", 2)],
)
def test_the_launcher_fails_where_a_task_has_no_results(
    code: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launcher_ends(tmp_path, monkeypatch, code=code) == status


def test_the_launcher_takes_no_results_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "out" / "1_results.json"
    old.parent.mkdir()
    old.write_text(json.dumps({"results": {"a": {}, "b": {}}}))
    os.utime(old, (time.time() - 60,) * 2)
    assert launcher_ends(tmp_path, monkeypatch, code="") == 1

"""Limits that make no sense are refused, examples are read, and problems keep their field."""

import json
import shutil
from pathlib import Path

import pytest

from lavis.common.errors import ConfigError, MissingExtraError, QuestionError
from lavis.demo import serve
from lavis.demo.problems import DefectsLogged, FieldError, JobError, shown_beside
from lavis.demo.settings import Settings
from lavis.demo.videos import read_examples


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_frames": 0}, "max_frames is 0; it must be 1 or more"),
        ({"max_options": 1}, "max_options is 1; a choice needs 2 or more"),
        ({"keep_s": 3601}, "keep_s is 3601; visitors are promised that files go after 3600 s"),
    ],
)
def test_limits_are_checked(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings(**settings)
    assert str(raised.value) == message


def test_every_shipped_question_can_be_shown() -> None:
    examples = read_examples()
    assert len(examples) == 3
    for example in examples:
        assert example.clip.is_file()
        assert example.poster.startswith("data:image/jpeg;base64,")
        assert all(0 <= asked.answer < len(asked.options) <= Settings().max_options for asked in example.questions)


def test_without_clips_there_are_no_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == ()


def test_an_example_is_as_its_list_says(tmp_path: Path, video: Path) -> None:
    shutil.copy(video, tmp_path / "a.mp4")
    asked = {"question": "What?", "options": ["x", "y"], "answer": 1, "window": [1.0, 2.0]}
    (tmp_path / "questions.json").write_text(json.dumps([{"video": "a.mp4", "questions": [asked]}]))
    (example,) = read_examples(tmp_path)
    assert (example.clip.name, example.duration_s) == ("a.mp4", 4.0)
    assert (example.questions[0].text, example.questions[0].options) == ("What?", ("x", "y"))


def test_a_mistake_gets_the_field_of_the_block_unless_it_has_one() -> None:
    with pytest.raises(FieldError, match=r"^empty$") as raised, shown_beside("question"):
        raise QuestionError("empty")
    assert raised.value.field == "question"
    with pytest.raises(FieldError) as inner, shown_beside("question"):
        raise FieldError("video", "none")
    assert inner.value.field == "video"
    with pytest.raises(JobError), shown_beside("question"):
        raise JobError("Cancelled.")


def test_mistakes_are_no_defects(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(QuestionError, match=r"^empty$"), DefectsLogged():
        raise QuestionError("empty")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("value", "auth"), [("ada:secret", ("ada", "secret")), ("ada:se:cret", ("ada", "se:cret")), ("", None)]
)
def test_user_and_password_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, auth: tuple[str, str] | None
) -> None:
    monkeypatch.setenv("SEVILA_DEMO_AUTH", value)
    assert serve.auth_from_environment() == auth


@pytest.mark.parametrize("value", ["ada", ":secret", "ada:"])
def test_half_a_password_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SEVILA_DEMO_AUTH", value)
    with pytest.raises(ConfigError, match=r"^SEVILA_DEMO_AUTH must be user:password$"):
        serve.auth_from_environment()


@pytest.mark.parametrize(
    ("host", "auth", "is_open"),
    [("127.0.0.1", None, False), ("0.0.0.0", None, True), ("0.0.0.0", ("ada", "secret"), False)],
)
def test_a_page_is_open_to_others_only_without_loopback_and_password(
    host: str, auth: tuple[str, str] | None, is_open: bool
) -> None:
    assert serve.is_public(host, auth) is is_open


def test_without_gradio_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(MissingExtraError) as raised, serve.serving(None, model_name="none"):
        pytest.fail("it was served")
    assert str(raised.value) == "gradio is not installed; install it with: pip install 'sevila[demo]'"

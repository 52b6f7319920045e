"""`sevila demo`: its options, and what it says before anything is loaded."""

from pathlib import Path

import pytest

from lavis.cli.demo import _loaders
from lavis.cli.main import build_parser, main
from lavis.common.errors import ConfigError


def test_the_page_is_for_this_machine_alone_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    args = build_parser().parse_args(["demo"])
    assert (args.host, args.port, args.model) == ("127.0.0.1", 7860, None)


def test_hosting_services_say_where_they_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8080")
    args = build_parser().parse_args(["demo"])
    assert (args.host, args.port) == ("0.0.0.0", 8080)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-frames", "0"], "error: max_frames is 0; it must be 1 or more\n"),
        (["--keep-s", "9999"], "error: keep_s is 9999; visitors are promised that files go after 3600 s\n"),
        (["--port", "99999"], "error: there is no port 99999; choose a --port from 1 to 65535\n"),
        (["--prot", "1"], "error: unknown option '--prot'; did you mean '--port'?"),
    ],
)
def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["demo", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_models_are_named_without_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    models = ["flant5xl", str(tmp_path / "mine"), "openai:http://127.0.0.1:9/v1#large"]
    assert list(_loaders(models, {}, taken="tiny")) == ["flant5xl", "mine", "large"]
    with pytest.raises(ConfigError, match="another model is called mine too"):
        _loaders([*models, str(tmp_path / "mine")], {}, taken="tiny")


def test_several_models_are_given_by_the_option_again() -> None:
    assert build_parser().parse_args(["demo", "--model", "a", "--model", "b"]).model == ["a", "b"]

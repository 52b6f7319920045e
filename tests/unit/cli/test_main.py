"""The frame around all subcommands: help, names, exit codes."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lavis import __version__
from lavis.cli.main import EXIT_BROKEN_PIPE, MODULES, build_parser, main
from lavis.common.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = [
    "quickstart",
    "answer",
    "find",
    "demo",
    "cache",
    "models",
    "checkpoint",
    "verify",
    "prepare",
    "check",
    "recipes",
    "train",
    "evaluate",
    "report",
    "select",
    "frames",
    "compare-selectors",
]
HEAVY = ("torch", "transformers", "av", "numpy", "PIL", "rich", "omegaconf", "pydantic")


@pytest.mark.parametrize("arguments", [["--help"], ["answer", "--help"], ["find", "--help"], ["models", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lavis.cli.main import main\n"
        f"try:\n    main({arguments})\n"
        f"except SystemExit:\n    print('imported:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("    ") and line[4] != " "]
    assert listed == COMMANDS


@pytest.mark.parametrize(
    ("words", "same_as"), [([], ["--help"]), (["help"], ["--help"]), (["help", "answer"], ["answer", "--help"])]
)
def test_help_is_also_a_word_and_what_a_bare_command_shows(
    words: list[str], same_as: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for given in (words, same_as):
        with pytest.raises(SystemExit) as stopped:
            main(given)
        assert stopped.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != ""


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"sevila {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anwser"], "argument COMMAND: unknown 'anwser'; did you mean 'answer'? known: "),
        (["models", "--jsn"], "unknown option '--jsn'; did you mean '--json'? known: --help, --json; see: "),
        (["models", "--js=1"], "unknown option '--js'; did you mean '--json'? "),
        (["models", "tiny"], "unexpected argument 'tiny'; see: sevila models --help"),
        (
            ["answer", "a.mp4", "What?", "--num-fraems", "3"],
            "unknown option '--num-fraems'; did you mean",
        ),
        (["answer", "a.mp4", "What?", "--num-frames", "many"], "argument --num-frames: invalid int value: 'many'; see"),
        (["find", "a.mp4"], "no query; give QUERY, or several with --queries FILE"),
    ],
)
def test_mistake_on_the_command_line_is_one_line_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1


def commands(parser: argparse.ArgumentParser) -> list[str]:
    (action,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return list(action.choices)


@pytest.mark.parametrize("module", MODULES)
def test_a_command_s_parser_is_built_with_those_of_its_own_module_alone(module: str) -> None:
    assert {tuple(commands(build_parser(command))) for command in MODULES[module]} == {MODULES[module]}


@pytest.mark.parametrize("word", [None, "--help", "anwser"])
def test_all_parsers_are_built_for_whatever_is_no_command(word: str | None) -> None:
    assert commands(build_parser(word)) == [command for commands in MODULES.values() for command in commands]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Makes `sevila only` run a function."""

    def install(run: Callable[[], int]) -> None:
        def add_parser(subparsers: argparse._SubParsersAction) -> None:
            subparsers.add_parser("only").set_defaults(run=lambda args: run())

        module = SimpleNamespace(add_parser=add_parser)
        monkeypatch.setattr("lavis.cli.main.MODULES", {"the_module": ("only",)})
        monkeypatch.setattr("lavis.cli.main.importlib", SimpleNamespace(import_module=lambda name: module))

    return install


def failing(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


def test_exit_code_is_the_subcommand_s(command: Callable[[Callable[[], int]], None]) -> None:
    command(lambda: 1)
    assert main(["only"]) == 1


def test_user_error_of_several_lines_is_shown_as_one(
    command: Callable[[Callable[[], int]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(UserError("no file 'a\nb'")))
    assert main(["only"]) == 2
    assert capsys.readouterr().err == "error: no file 'a b'\n"


def test_interruption_gives_130(
    command: Callable[[Callable[[], int]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(failing(KeyboardInterrupt()))
    assert main(["only"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_defect_keeps_its_traceback(command: Callable[[Callable[[], int]], None]) -> None:
    command(failing(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["only"])


def test_every_subcommand_keeps_its_contract() -> None:
    commands = next(action for action in build_parser()._actions if action.dest == "command").choices
    assert isinstance(commands, dict)
    assert [name for name in COMMANDS if not callable(commands[name].get_default("run"))] == []


def test_a_reader_that_has_left_ends_the_command_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "import sys\nfrom lavis.cli.main import reported\nsys.exit(reported(lambda: print('x' * 100_000) or 0))"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (EXIT_BROKEN_PIPE, "")


@pytest.mark.parametrize("command", [["--help"], ["help", "find"], ["models"], ["recipes"]])
def test_output_that_nobody_reads_is_no_defect(command: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    run = [sys.executable, "-m", "lavis", *command]
    left = subprocess.run(run, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    os.close(write_end)
    assert left.returncode in (0, EXIT_BROKEN_PIPE)  # 0 where argparse prints: it passes over what it cannot write
    assert left.stderr == ""
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *run], stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
    )
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full disk to write to")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        run = [sys.executable, "-m", "lavis", "models"]
        done = subprocess.run(run, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "error: the output cannot be written: No space left on device\n")

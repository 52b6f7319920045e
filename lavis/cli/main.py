"""The `sevila` command: find the subcommand, run it, and turn mistakes into one line.

A module of subcommands has `add_parser(subparsers)`, which sets `run(args) -> int` of each as a default. It imports
what is heavy (torch, av, rich) where it runs, so that help appears at once.
"""

import argparse
import errno
import importlib
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import lavis.common.processes  # noqa: F401  # notes who started this process
from lavis.common.defaults import VERSION
from lavis.common.errors import (
    EXIT_FAILURE,
    EXIT_TERMINATED,
    EXIT_USER_ERROR,
    OUT_OF_MEMORY,
    ConfigError,
    FaultError,
    TerminatedError,
    UserError,
    did_you_mean,
    is_out_of_memory,
)
from lavis.common.logging import visible
from lavis.common.registry import registry
from lavis.common.times import split_clip

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
# Each module with the subcommands that it adds, in the order of the help text.
MODULES = {
    "quickstart": ("quickstart",),
    "answer": ("answer", "find"),
    "demo": ("demo",),
    "stores": ("cache", "models", "checkpoint"),
    "verify": ("verify",),
    "datasets": ("prepare", "check"),
    "runs": ("recipes", "train", "evaluate", "report"),
    "frames": ("select", "frames"),
    "selectors": ("compare-selectors",),
}
# Those that use parts chosen by name.
_WITH_PARTS = ("answer", "find", "demo", "check", "train", "evaluate", "select", "compare-selectors")


class CommandParser(argparse.ArgumentParser):
    """Raises `ConfigError` instead of printing the usage and leaving; subparsers are of this class too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would turn a misspelt option into another one, and break when options are added.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        # Before Python 3.14, numbers such as -1e9 are taken for options.
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.]*(e[+-]?\d+)?$", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ConfigError(f"{message}; see: {self.prog} --help")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left over here: only this parser knows which options it has."""
        parsed, rest = super().parse_known_args(args, namespace)
        for word in rest:
            if word.startswith("-"):
                option = word.partition("=")[0]
                known = [name for name in self._option_string_actions if name.startswith("--")]
                self.error(f"unknown option {option!r}; {did_you_mean(option, known)}")
        rest = self._placed(parsed, rest)
        if rest:
            quotes = "; put the question in quotes, and each option after an -o of its own"
            self.error(f"unexpected argument {rest[0]!r}{quotes if hasattr(parsed, 'question') else ''}")
        return parsed, rest

    def _placed(self, parsed: Any, rest: list[str]) -> list[str]:
        """Take words behind options as the last positional, which argparse ends at the first option; return others."""
        last = self._get_positional_actions()[-1] if self._get_positional_actions() else None
        if last is not None and last.nargs == "*":
            setattr(parsed, last.dest, [*getattr(parsed, last.dest), *rest])
            return []
        if last is not None and last.nargs == "?" and rest and getattr(parsed, last.dest) is None:
            setattr(parsed, last.dest, rest[0])
            return rest[1:]
        return rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Python suggests the nearest choice by itself only from 3.14 on.
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"unknown {value!r}; {did_you_mean(str(value), known)}")


def build_parser(wanted: str | None = None) -> CommandParser:
    """Return the parser of the command line: what the module of this subcommand adds, or all where none has it."""
    parser = CommandParser(prog="sevila", description="Ask questions about videos: keyframes and answers (SeViLA).")
    parser.add_argument("--version", action="version", version=f"sevila {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in [name for name, commands in MODULES.items() if wanted in commands] or MODULES:
        importlib.import_module(f"lavis.cli.{name}").add_parser(subparsers)
    for name, command in subparsers.choices.items():
        if name in _WITH_PARTS:
            help_text = "Python module that adds parts, in this folder or installed; may be given several times"
            command.add_argument("--import", dest="imports", action="append", metavar="MODULE", help=help_text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sevila` with the given arguments (default: those of the process) and return its exit code."""
    return reported(lambda: _run(argv))


def reported(run: Callable[[], int]) -> int:
    """Run something and return its exit code.

    It is 2 for a `UserError`, 1 for a `FaultError` and 143 after SIGTERM, each printed as one line. Any other
    exception is a defect and is raised. One of several processes does not return: it ends.
    """
    if _has_peers():
        sys.excepthook = _end_with_traceback
    try:
        _open_streams()
        code = run()
        sys.stdout.flush()
        return _ended(code)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _ended(EXIT_BROKEN_PIPE)
    except UserError as error:
        return _ended(EXIT_USER_ERROR, f"error: {_one_line(error)}")
    except FaultError as error:
        return _ended(EXIT_FAILURE, f"error: {_one_line(error)}")
    except TerminatedError as error:
        return _ended(EXIT_TERMINATED, f"terminated: {_one_line(error)}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _ended(EXIT_FAILURE, f"error: {OUT_OF_MEMORY}")
    except OSError as error:
        return _ended(*_system_refusal(error))
    except KeyboardInterrupt:
        return _ended(EXIT_INTERRUPTED, "interrupted")


def _open_streams() -> None:
    """Give a process whose standard output or error was closed before it started somewhere to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _system_refusal(error: OSError) -> tuple[int, str]:
    """Return exit code and message of what the system refuses where nothing expects it; raise any other again."""
    if error.errno == errno.ENAMETOOLONG:
        return EXIT_USER_ERROR, f"error: {visible(str(error.filename)[:80])}...: {error.strerror}"
    if error.errno == errno.ENOSPC and error.filename is None:
        return EXIT_FAILURE, f"error: the output cannot be written: {error.strerror}"
    raise error


def _ended(code: int, text: str = "") -> int:
    """Say why, and return the exit code; one of several processes ends here.

    It must not let go of an exception, which holds the model and with it torch's process group: that waits for its
    threads when it is freed, which may wait for a process that is gone or, where DDP frees it, for the interpreter's
    lock that the waiting thread holds (gloo, torch 2.13), for ever. Nothing is left to do: what has to be closed was
    closed by with-statements, and locks and connections go with the process.
    """
    try:
        if text:
            sys.stderr.write(f"{text}\n")  # in one piece: the other processes may be saying theirs
        if _has_peers():
            sys.stdout.flush()
    finally:
        if _has_peers():
            os._exit(code)
    return code


def _end_with_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End one of several processes where a defect, which nothing has caught, would end a process alone."""
    _ended(EXIT_FAILURE, "".join(traceback.format_exception(kind, error, trace)).rstrip())


def _has_peers() -> bool:
    """Whether this is one of several processes, as torchrun starts them."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _with_clips_split(words: Sequence[str]) -> list[str]:
    """Return the words with "--clip 0:30-0:35" and "--clip=0:30-0:35" as "--clip 0:30 0:35"."""
    split: list[str] = []
    for word in words:
        if word.startswith("--clip="):
            split += ["--clip", *split_clip(word.removeprefix("--clip="))]
        else:
            split += split_clip(word) if split and split[-1] == "--clip" else [word]
    return split


def _one_line(error: Exception) -> str:
    return visible(" ".join(str(error).splitlines()))


def _run(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal shows what it cannot write as \u....
            stream.reconfigure(errors="backslashreplace")
    # Libraries report on themselves; whoever wants to read that can still ask for it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        words = list(sys.argv[1:] if argv is None else argv)
        if not words or words[0] == "help":
            words = [*words[1:], "--help"]
        args = build_parser(words[0]).parse_args(_with_clips_split(words))
        registry.import_modules(getattr(args, "imports", None) or (), place="--import")
        return int(args.run(args))

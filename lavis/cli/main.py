"""The `sevila` command: find the subcommand, run it, and turn mistakes into one line.

A subcommand is a module with `add_parser(subparsers)`, which sets `run(args) -> int` as a default.
It imports what is heavy (torch, av, rich) inside `run`, so that help appears at once.
"""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from lavis import __version__
from lavis.cli.parser import CommandParser
from lavis.common.errors import (
    EXIT_FAILURE,
    EXIT_TERMINATED,
    EXIT_USER_ERROR,
    FaultError,
    TerminatedError,
    UserError,
)

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# Every subcommand, in the order of the help text.
COMMANDS = {
    "answer": "lavis.cli.answer",
    "find": "lavis.cli.find",
    "demo": "lavis.cli.demo",
    "cache": "lavis.cli.cache",
    "models": "lavis.cli.models",
    "checkpoint": "lavis.cli.checkpoint",
    "verify": "lavis.cli.verify",
    "prepare": "lavis.cli.prepare",
    "check": "lavis.cli.check",
    "report": "lavis.cli.report",
    "train": "lavis.cli.train",
    "evaluate": "lavis.cli.evaluate",
}


def build_parser() -> CommandParser:
    """Return the parser of the whole command line."""
    parser = CommandParser(prog="sevila", description="Ask questions about videos: keyframes and answers (SeViLA).")
    parser.add_argument("--version", action="version", version=f"sevila {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        importlib.import_module(module).add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sevila` with the given arguments (default: those of the process) and return its exit code."""
    return reported(lambda: _run(argv))


def reported(run: Callable[[], int]) -> int:
    """Run something and return its exit code.

    It is 2 for a `UserError`, 1 for a `FaultError` and 143 after SIGTERM, each printed as one line. Any other
    exception is a defect and is raised.
    """
    try:
        code = run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except UserError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return EXIT_USER_ERROR
    except FaultError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return EXIT_FAILURE
    except TerminatedError as error:
        print("terminated:", " ".join(str(error).splitlines()), file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal shows what it cannot write as \u....
            stream.reconfigure(errors="backslashreplace")
    # Libraries report on themselves; whoever wants to read that can still ask for it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        args = build_parser().parse_args(argv)
        return int(args.run(args))

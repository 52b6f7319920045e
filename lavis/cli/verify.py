"""`sevila verify DIR`: compare the model with figures measured from the published implementation."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from lavis.cli.common import add_command, make_console
from lavis.common.errors import EXIT_FAILURE, UserError
from lavis.common.files import configs_dir

_DESCRIPTION = """\
Build the model from a directory of golden figures (sizes, weights, tokenizer, inputs and what the
published implementation made of them), run every case in float64 and compare every figure. Figures
measured in float64 are equal to 1e-10 of their scale on any processor, 1e-8 after optimizer steps;
figures measured in fp32 can only be compared as closely as their own rounding allows.
Exit code 1 if a figure differs by more than the tolerance or a case cannot be run.
Works in a checkout, which holds the figures too (tests/parity/golden); not part of the installed package."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    what = "compare the model with figures measured from the published code"
    parser = add_command(subparsers, "verify", run, help=what, description=_DESCRIPTION)
    parser.add_argument("directory", type=Path, metavar="DIR", help="a directory of golden figures")
    parser.add_argument("--all", action="store_true", help="print every quantity, not only the worst of each case")


def run(args: argparse.Namespace) -> int:
    """Verify, print the table, and return the exit code.

    Raises:
        UserError: the package is not run from a checkout, or `parity.verify.verify_directory`'s reasons.
    """
    checkout = configs_dir().parent  # in a wheel this is the package itself, which holds no such folder
    if not (checkout / "parity" / "verify.py").is_file():
        raise UserError(
            "sevila verify needs a checkout, and this is an installed package; clone the repository and run there: "
            "pip install -e . && sevila verify tests/parity/golden"
        )
    sys.path.insert(0, str(checkout))  # an editable install makes `lavis` known, not what lies beside it
    import torch

    from parity.verify import print_verification, verify_directory

    torch.set_num_threads(1)  # the cases are tiny: a second thread costs more than it computes
    logging.getLogger("lavis").setLevel(logging.ERROR)  # some cases truncate prompts on purpose
    with make_console(stderr=True).status("reading") as status:
        verification = verify_directory(args.directory, progress=lambda name: status.update(f"running {name}"))
    print_verification(verification, every=args.all)
    return 0 if verification.passed else EXIT_FAILURE

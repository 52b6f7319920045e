"""`sevila verify DIR`: compare the model with figures measured from the published implementation."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.show import say
from lavis.common.errors import EXIT_FAILURE

if TYPE_CHECKING:
    from lavis.parity.checks import Precision
    from lavis.parity.verify import Report

_DESCRIPTION = """\
Build the model from a directory of golden figures (sizes, weights, tokenizer, inputs and what the
published implementation made of them), run every case in float64 and compare every figure. Figures
measured in float64 are equal to 1e-10 of their scale on any processor, 1e-8 after optimizer steps;
figures measured in fp32 can only be compared as closely as their own rounding allows.
Exit code 1 if a figure differs by more than the tolerance or a case cannot be run."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "verify",
        help="compare the model with figures measured from the published code",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="a directory of golden figures")
    parser.add_argument("--all", action="store_true", help="print every quantity, not only the worst of each case")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify, print the table, and return the exit code."""
    import torch
    from rich.console import Console

    from lavis.parity.verify import verify_directory

    # The cases are tiny: a second thread costs more than it computes. Cut prompts are part of them.
    torch.set_num_threads(1)
    logging.getLogger("lavis").setLevel(logging.ERROR)
    with Console(stderr=True).status("reading") as status:
        report = verify_directory(args.directory, progress=lambda name: status.update(f"running {name}"))
    _print(report, every=args.all)
    return 0 if report.passed else EXIT_FAILURE


def _basis(precision: "Precision") -> str:
    """Say what the comparison can tell."""
    if precision.is_exact:
        loop = f"to {precision.loop:g} after optimizer steps"
        return f"computed in float64, as the figures were: compared to {precision.case:g} of their scale, {loop}"
    return (
        "computed in float64; the figures were measured in fp32, and their own rounding bounds the agreement: compared "
        f"to {precision.case:g} of their scale, and as far as such rounding in the weights carries them"
    )


def _print(report: "Report", *, every: bool) -> None:
    """Print one line per case, or per figure where one differs or all are wanted."""
    say(f"{'case':<48} {'quantity':<44} {'error':>9} {'allowed':>9}  verdict")
    for case, checks in report.by_case().items():
        failed = [check for check in checks if not check.passed]
        worst = max(checks, key=lambda check: check.error / (check.allowed or 1.0))
        for check in checks if every else failed or [worst]:
            verdict = "equal" if check.passed else "DIFFERS"
            of_many = "" if every or failed else f" (worst of {len(checks)})"
            row = f"{case:<48} {check.quantity + of_many:<44} {check.error:>9.2g} {check.allowed:>9.2g}  {verdict}"
            say(f"{row} {check.note}".rstrip())
    say(_basis(report.precision))
    counted = f"{len(report.checks)} figures in {len(report.by_case())} cases"
    if report.passed:
        say(f"all {counted} are equal within tolerance")
    else:
        say(f"{len(report.failures)} of {counted} differ")

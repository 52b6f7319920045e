"""`sevila models`: which sizes there are, and where their weights are."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "models",
        help="list the model sizes, and where their weights are",
        description="List the model sizes with their numbers of parameters, and where their weights are.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    return 0

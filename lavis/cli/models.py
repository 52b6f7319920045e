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
    """Print one row per size."""
    from lavis.export import to_json
    from lavis.models.loading import describe, model_zoo

    rows = [describe(size, name=name) for name, sizes in model_zoo for size in sizes]
    if args.json:
        print(to_json(rows))
    else:
        _show(rows)
    return 0


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from lavis.cli.show import make_console

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("size")
    table.add_column("parameters", justify="right")
    table.add_column("weights", overflow="fold")
    for row in rows:
        table.add_row(row["name"], _in_words(row["parameters"]), Text(_where(row)))
    make_console().print(table)


def _where(row: dict[str, Any]) -> str:
    note = f" ({row['note']})" if row["note"] else ""
    if row["weights"]:
        return f"{row['weights']}{note}"
    if row["status"] == "untrained":
        return f"made at random when loaded{note}"
    return f"not here; get them with: sevila checkpoint fetch {row['name']}{note}"


def _in_words(number: int) -> str:
    return f"{number / 1e9:.1f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"

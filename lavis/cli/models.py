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
    from lavis.models.sevila.config import size_names

    rows = [describe_size(name) for name in size_names()]
    if args.json:
        print(to_json(rows))
    else:
        _show(rows)
    return 0


def describe_size(name: str) -> dict[str, Any]:
    """Return name, number of parameters, folder of the weights (None: not here) and what is known of them."""
    from lavis.models.sevila.config import read_saved, read_size
    from lavis.models.sevila.loading import find_model

    folder = find_model(name)
    config = read_saved(folder) if folder else read_size(name)
    return {
        "name": name,
        "parameters": _count_parameters(name),
        "weights": str(folder) if folder else None,
        "status": config.weights.status,
        "note": config.weights.note,
    }


def _count_parameters(name: str) -> int:
    import torch

    from lavis.common.paths import checkpoints_dir
    from lavis.models.language.tokenizer import load_tokenizer
    from lavis.models.sevila.build import build_sevila
    from lavis.models.sevila.config import read_size

    # Any tokenizer does for counting, and the embedded one is always here.
    tokenizer = load_tokenizer(checkpoints_dir() / "sevila_tiny" / "tokenizer")
    with torch.device("meta"):
        model = build_sevila(read_size(name), tokenizer=tokenizer)
    return sum(parameter.numel() for parameter in model.parameters())


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

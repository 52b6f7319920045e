"""Showing a benchmark's figures and writing them down."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from lavis.common.files import write_text


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table: the first column to the left, figures to the right."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    print(_line(headings, widths))
    print("|" + "|".join([f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]) + "|")
    for row in rows:
        print(_line(row, widths))


def show_machine(device: torch.device) -> None:
    """Print what the figures were measured on."""
    facts = describe(device)
    versions = facts["versions"]
    print(
        f"{facts['cpu']} ({facts['cores']} cores, {facts['threads']} threads used, load {facts['load_average']:.1f}), "
        f"device {facts['device']}, torch {versions['torch']}, transformers {versions['transformers']}, "
        f"commit {(facts['commit'] or 'unknown')[:9]}"
    )


def write_figures(path: Path, figures: dict[str, Any], *, device: torch.device) -> None:
    """Write figures with machine, versions and commit as JSON."""
    write_text(path, json.dumps({"machine": describe(device), **figures}, indent=2) + "\n")
    print(f"figures: {path}")


def seconds(value: float) -> str:
    """Word a time with three significant digits."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"

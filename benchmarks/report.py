"""Tables of results, and the JSON file of results with the machine, versions and commit that they are from."""

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lavis import __version__
from lavis.common.files import write_text
from lavis.runners.provenance import run_facts

_PACKAGES = ("torch", "transformers", "numpy", "av")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table: the first column to the left, figures to the right."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    print(_line(headings, widths))
    print("|" + "|".join([f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]) + "|")
    for row in rows:
        print(_line(row, widths))


def show_machine(device: torch.device) -> None:
    """Print what the figures were measured on."""
    facts = _machine(device)
    versions = facts["versions"]
    print(
        f"{facts['cpu']} ({facts['cores']} cores, {facts['threads']} threads used, load {facts['load_average']:.1f}), "
        f"device {facts['device']}, torch {versions['torch']}, transformers {versions['transformers']}, "
        f"commit {(facts['commit'] or 'unknown')[:9]}"
    )


def write_figures(path: Path, figures: dict[str, Any], *, device: torch.device) -> None:
    """Write figures with machine, versions and commit as JSON."""
    write_text(path, json.dumps({"machine": _machine(device), **figures}, indent=2) + "\n")
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


def _machine(device: torch.device) -> dict[str, Any]:
    """Return machine, versions, commit and command, fit for JSON."""
    facts = run_facts(seed=0, processes=1)
    return {
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "commit": facts["commit"],
        "cpu": _cpu_model(),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in _cpu_info("flags").split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "platform": platform.system(),
        "versions": {
            "sevila": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def _cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""

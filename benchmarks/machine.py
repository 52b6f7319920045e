"""The machine a benchmark runs on: what it is, how busy it is, and how fast it multiplies matrices."""

import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lavis import __version__
from lavis.runners.provenance import run_facts

_PACKAGES = ("torch", "transformers", "numpy", "av")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_RATE_ROWS, _RATE_WIDTH = 2048, 2048


def set_threads(threads: int | None) -> None:
    """Let torch compute with this many threads; None leaves its own choice."""
    if threads:
        torch.set_num_threads(threads)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device) -> dict[str, Any]:
    """Return machine, versions, commit and command, fit for JSON."""
    facts = json.loads(run_facts(seed=0, processes=1))
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


class MatrixRate:
    """Multiplies two matrices over and over, to see how many operations a second the machine can do.

    Args:
        repeats: multiplications per call.
    """

    def __init__(self, *, device: torch.device, dtype: torch.dtype, repeats: int = 2) -> None:
        self._left = torch.randn(_RATE_ROWS, _RATE_WIDTH, device=device, dtype=dtype)
        self._right = torch.randn(_RATE_WIDTH, _RATE_WIDTH, device=device, dtype=dtype)
        self._repeats = repeats
        self.flops = 2 * _RATE_ROWS * _RATE_WIDTH * _RATE_WIDTH * repeats

    def __call__(self) -> None:
        """Multiply."""
        for _ in range(self._repeats):
            torch.nn.functional.linear(self._left, self._right)


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

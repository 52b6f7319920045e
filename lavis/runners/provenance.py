"""What has to be known to repeat a run."""

import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from lavis import __version__

_PACKAGES = ("torch", "transformers", "numpy", "av", "safetensors")


def run_facts(*, seed: int, processes: int) -> str:
    """Return command, versions, commit, seed and number of processes, as JSON."""
    facts = {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "processes": processes,
        "commit": _commit(),
        "versions": {
            "sevila": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "platform": platform.platform(),
    }
    return json.dumps(facts, indent=2) + "\n"


def _commit() -> str | None:
    """Return the commit of the checkout that runs, or None where it is no checkout."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None

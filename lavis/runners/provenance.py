"""What has to be known to repeat a run."""

import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lavis import __version__
from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.files import write_text
from lavis.runners.config import TrainConfig
from lavis.runners.manifest import read_json

_FACTS = "run.json"
_PACKAGES = ("torch", "transformers", "numpy", "av", "safetensors")


def check_output(folder: Path, *, resume: str) -> None:
    """Refuse to mix a new run with an earlier one.

    Raises:
        ConfigError: the folder holds a run, and this one is not to continue it.
    """
    if resume != "auto" and (folder / "log.jsonl").exists():
        raise ConfigError(f"{folder} holds an earlier run; continue it with run.resume=auto, or name another folder")


def record(config: TrainConfig, folder: Path, world: World) -> None:
    """Write down what makes a run repeatable: the resolved configuration, versions, command and seed."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config.resolved))))
    earlier = read_json(folder / _FACTS)
    facts: dict[str, Any] = json.loads(run_facts(seed=config.run.seed, processes=world.size))
    if earlier is not None:
        # A run may go on elsewhere, with other versions: every start counts.
        facts["earlier_starts"] = [*earlier.pop("earlier_starts", []), earlier]
    write_text(folder / _FACTS, json.dumps(facts, indent=2) + "\n")


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

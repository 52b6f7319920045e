"""What has to be known to repeat a run."""

import importlib.metadata
import json
import logging
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lavis import __version__
from lavis.common.config import load_yaml
from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.files import write_text
from lavis.common.logging import read_json_lines
from lavis.common.paths import configs_dir
from lavis.runners.config import TrainConfig
from lavis.runners.inputs import Inputs, changed_inputs
from lavis.runners.manifest import read_json
from lavis.runners.parts import flattened

logger = logging.getLogger(__name__)

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
_FACTS, _INPUTS = "run.json", "inputs.json"
# Settings that may change while a run goes on; every other one makes it another run, also those yet to come. Data and
# weights may lie elsewhere: they are known by their content.
_FREE = frozenset(
    {
        *("model.model_type", "model.finetuned", "model.checkpointing", "run.output_dir", "run.resume"),
        *("run.resume_changed", "run.recipe", "run.task", "run.device", "run.num_workers", "run.batch_size_train"),
        *("run.batch_size_eval", "run.distributed", "run.distributed_timeout_s", "run.data_timeout_s"),
        *("run.frame_cache", "run.frame_cache_gib", "run.keep_last", "run.save_freq", "run.log_freq"),
        *("run.max_unreadable", "run.iterations", "run.evaluate", "run.test_splits"),
    }
)
_SILENT = frozenset({"run.resume", "run.resume_changed"})
_PACKAGES = ("torch", "transformers", "numpy", "av", "safetensors")


def holds_training(folder: Path) -> bool:
    """Say whether a folder holds steps of a training run; one that failed before its first step left none."""
    if any((folder / CHECKPOINTS).glob("step_*")):
        return True
    return any(row.get("kind") == "train" for row in read_json_lines(folder / "log.jsonl"))


def check_output(folder: Path, *, resume: str) -> None:
    """Refuse to mix a new run with an earlier one.

    Raises:
        ConfigError: the folder holds a run, and this one is not to continue it.
    """
    if resume != "auto" and holds_training(folder):
        raise ConfigError(f"{folder} holds an earlier run; continue it with run.resume=auto, or name another folder")


def record(config: TrainConfig, folder: Path, world: World, *, inputs: Inputs | None = None) -> None:
    """Write down what makes a run repeatable: the resolved configuration, versions, command and seed.

    Every start stays on record, with its own settings.

    Args:
        inputs: digests of what is read, to be compared when the run goes on.
    """
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config.resolved))))
    if inputs is not None:
        write_text(folder / _INPUTS, json.dumps(inputs, indent=2) + "\n")
    earlier = read_json(folder / _FACTS)
    facts: dict[str, Any] = json.loads(run_facts(seed=config.run.seed, processes=world.size))
    facts["settings"] = dict(config.resolved)
    if earlier is not None:
        # A run may go on elsewhere, with other versions: every start counts.
        facts["earlier_starts"] = [*earlier.pop("earlier_starts", []), earlier]
    write_text(folder / _FACTS, json.dumps(facts, indent=2) + "\n")


def check_unchanged(config: TrainConfig, folder: Path, inputs: Inputs) -> None:
    """Compare with the start before: list what differs, and refuse what makes another run unless that is asked for.

    Raises:
        ConfigError: see above.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    # A setting that an earlier version did not have had what is its default now.
    defaults = flattened(load_yaml(configs_dir() / "default.yaml"))
    before, now = {**defaults, **flattened(load_yaml(file))}, flattened(config.resolved)
    differing = [key for key in now if before.get(key) != now[key] and not key.startswith("moments.")]
    listed = {key: f"{key} {before.get(key)!r}, now {now[key]!r}" for key in differing}
    another = [text for key, text in listed.items() if not _is_free(key)]
    another += changed_inputs(read_json(folder / _INPUTS) or {}, inputs)
    if another and not config.run.resume_changed:
        raise ConfigError(
            f"{folder} was begun with {'; '.join(another)}; that would make another run: go on with what it was, "
            "name another run.output_dir, or go on all the same with run.resume_changed=true"
        )
    for text in (*another, *(text for key, text in listed.items() if _is_free(key) and key not in _SILENT)):
        logger.warning("going on with a change: begun with %s", text)


def _is_free(key: str) -> bool:
    of_dataset = key.split(".", 2)[2] if key.startswith("datasets.") else ""
    return key in _FREE or of_dataset.startswith(("build_info.annotations", "build_info.videos.storage"))


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

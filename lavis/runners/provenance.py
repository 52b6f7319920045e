"""What has to be known to repeat a run, and what it reads: whether that is there, and whether it has changed."""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lavis.common import defaults
from lavis.common.config import load_yaml
from lavis.common.defaults import VERSION
from lavis.common.distributed import World
from lavis.common.errors import AnnotationError, ConfigError, VideoError
from lavis.common.files import configs_dir, read_object, write_text
from lavis.common.logging import read_json_lines
from lavis.common.registry import registry
from lavis.datasets.builder import builder_of, video_storage
from lavis.datasets.videos import VideoFolders, holds_shards
from lavis.models.base import TrainableModel
from lavis.models.fingerprint import weights_digest
from lavis.models.loading import check_weights
from lavis.runners.config import TrainConfig, affected_by, flattened, weight_paths

logger = logging.getLogger(__name__)

Inputs = dict[str, Any]

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
_FACTS, _INPUTS = "run.json", "inputs.json"
# Settings that say how a run is resumed.
_SILENT = frozenset({"run.resume", "run.resume_changed"})
_PACKAGES = ("torch", "transformers", "numpy", "av", "safetensors")
_SAMPLE_BYTES = 2**16
# NExT-QA's questions with windows, which have a converter and files of their own.
_PREPARED_APART = frozenset({"nextgqa"})


def check_inputs(config: TrainConfig, *, splits: Collection[str]) -> None:
    """Make sure that all files are there that a run which trains on or measures these splits begins with.

    Raises:
        AnnotationError: annotations are missing or damaged.
        CheckpointError: weights are missing.
        ConfigError: no folder of videos is there.
    """
    arch = config.model.arch if config.model.arch in registry.models else defaults.ARCH
    check_weights(config.model.model_type, name=arch, partial=weight_paths(config.model.finetuned))
    for name, split, file in _annotation_files(config, splits):
        place = f"datasets.{name}.build_info.annotations.{split}.storage"
        if not file.is_file():
            prepared = file.parent.name if file.parent.name in _PREPARED_APART else name
            made = (
                f"make them with: sevila prepare {prepared} --raw DOWNLOADS, or " if name in registry.builders else ""
            )
            raise AnnotationError(f"no annotations at {file}; {made}{_where(place)}")
        builder_of(name, config.datasets[name]).read(file)
    for name, dataset in config.datasets.items():
        place = f"datasets.{name}.build_info.videos.storage"
        videos = video_storage(dataset.build_info.videos.storage, place=place)
        if isinstance(videos, VideoFolders) and not any(root.is_dir() for root in videos.roots):
            looked = ", ".join(map(str, videos.roots))
            raise ConfigError(f"no folder of videos at {looked}; put the videos there, or {_where(place)}")


def inputs_of(config: TrainConfig, model: TrainableModel, *, splits: Collection[str]) -> Inputs:
    """Return digests of all that a run reads; of each video, what is cheap to read of it."""
    return {
        "weights": weights_digest(model),
        "model": model.make_digest(),
        "annotations": {
            f"{name}.{split}": file_digest(file) for name, split, file in _annotation_files(config, splits)
        },
        "videos": video_samples(config, splits=splits),
    }


def file_digest(file: Path) -> str:
    """Return the SHA-256 of an annotation file.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise AnnotationError(f"cannot read {file}: {error.strerror}") from error


def video_samples(config: TrainConfig, *, splits: Collection[str]) -> dict[str, str | None]:
    """Return a digest of each video's size and parts of its content; None for one that is missing."""
    found: dict[str, str | None] = {}
    for name, dataset in config.datasets.items():
        storage = dataset.build_info.videos.storage
        if isinstance(storage, str) and holds_shards(Path(storage)):
            shards = (file for file in Path(storage).iterdir() if file.is_file())
            found.update({f"{name}/{file.name}": _sampled(file) for file in shards})
            continue
        videos = VideoFolders.from_storage(storage, place=f"datasets.{name}.build_info.videos.storage")
        for file in (file for of, _, file in _annotation_files(config, splits) if of == name):
            for row in builder_of(name, dataset).read(file).rows:
                key = "/".join([name, *([row.source] if row.source else []), row.question.video or ""])
                if key not in found:
                    found[key] = _sample(videos, row.question.video or "", row.source)
    return found


def changed_inputs(earlier: Inputs, now: Inputs) -> list[str]:
    """Say what is not as it was, in words; what an earlier version did not note counts as unchanged."""
    changed = [
        words
        for key, words in (("weights", "other weights to begin with"), ("model", "a model that is made otherwise"))
        if key in earlier and earlier[key] != now[key]
    ]
    for key, words in (("annotations", "other annotations"), ("videos", "other videos")):
        before = earlier.get(key, {})
        others = [name for name, value in now[key].items() if name in before and before[name] != value]
        if others:
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            changed.append(f"{words} ({', '.join(others[:3])}{more})")
    return changed


def _annotation_files(config: TrainConfig, splits: Collection[str]) -> list[tuple[str, str, Path]]:
    """Return dataset, split and file; splits that a dataset does not have are left to its builder."""
    return [
        (name, split, file)
        for name, dataset in config.datasets.items()
        for split, file in sorted(dataset.annotations.items())
        if split in splits
    ]


def _where(option: str) -> str:
    variable = os.environ.get("SEVILA_DATA")
    now = f"now {variable}" if variable else "not set, so sevila_data here"
    return f"say where they are by SEVILA_DATA ({now}) or the option {option}"


def _sample(videos: VideoFolders, name: str, source: str | None) -> str | None:
    try:
        return _sampled(videos.find(name, source=source))
    except (VideoError, OSError):
        return None


def _sampled(path: Path) -> str:
    """Return a digest of a file's size, beginning, middle and end; of a folder, of all sizes and three files."""
    digest = hashlib.sha256()
    if path.is_dir():
        files = sorted((entry for entry in os.scandir(path) if entry.is_file()), key=lambda entry: entry.name)
        for entry in files:
            digest.update(f"{entry.name} {entry.stat().st_size}\n".encode(errors="surrogateescape"))
        for place in sorted({0, len(files) // 2, len(files) - 1} if files else ()):
            digest.update(_sampled(Path(files[place].path)).encode())
        return digest.hexdigest()
    size = path.stat().st_size
    digest.update(f"{size}\n".encode())
    with path.open("rb") as file:
        for start in (0, size // 2 - _SAMPLE_BYTES // 2, size - _SAMPLE_BYTES):
            file.seek(max(0, start))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def check_output(folder: Path, *, resume: str) -> None:
    """Refuse to mix a new run with an earlier one; one that failed before its first step does not count.

    Raises:
        ConfigError: the folder holds a run, and this one is not to continue it.
    """
    if resume == "auto":
        return
    logged = any(row.get("kind") == "train" for row in read_json_lines(folder / "log.jsonl"))
    if logged or any((folder / CHECKPOINTS).glob("step_*")):
        raise ConfigError(f"{folder} holds an earlier run; continue it with run.resume=auto, or name another folder")


def record(config: TrainConfig, folder: Path, world: World, *, inputs: Inputs | None = None) -> None:
    """Write down what makes a run repeatable: the resolved configuration, versions, command and seed.

    Every start stays on record, with its own settings; `inputs` are compared when the run is resumed.
    """
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config.resolved))))
    if inputs is not None:
        write_text(folder / _INPUTS, json.dumps(inputs, indent=2) + "\n")
    earlier = read_object(folder / _FACTS)
    facts = {**run_facts(seed=config.run.seed, processes=world.size), "settings": dict(config.resolved)}
    if earlier is not None:
        # A run may be resumed elsewhere, with other versions: every start counts.
        facts["earlier_starts"] = [*earlier.pop("earlier_starts", []), earlier]
    write_text(folder / _FACTS, json.dumps(facts, indent=2) + "\n")


def check_unchanged(config: TrainConfig, folder: Path, inputs: Inputs) -> None:
    """Compare with the start before: list what differs; what makes another run, unasked, is a ConfigError."""
    file = folder / CONFIG
    if not file.is_file():
        return
    # A setting that an earlier version did not have had what is its default now.
    defaults = flattened(load_yaml(configs_dir() / "default.yaml"))
    before, now = {**defaults, **flattened(load_yaml(file))}, flattened(config.resolved)
    differing = [key for key in now if before.get(key) != now[key] and not key.startswith("moments.")]
    listed = {key: f"{key} {before.get(key)!r}, now {now[key]!r}" for key in differing}
    free = {key for key in differing if affected_by(key) == "nothing"}
    another = [text for key, text in listed.items() if key not in free]
    another += changed_inputs(read_object(folder / _INPUTS) or {}, inputs)
    if another and not config.run.resume_changed:
        raise ConfigError(
            f"{folder} was begun with {'; '.join(another)}; that would make another run: go on with what it was, "
            "name another run.output_dir, or go on all the same with run.resume_changed=true"
        )
    for text in (*another, *(listed[key] for key in differing if key in free - _SILENT)):
        logger.warning("going on with a change: begun with %s", text)


def run_facts(*, seed: int, processes: int) -> dict[str, Any]:
    """Return what else a run depends on, as JSON values.

    "commit" and "clean" are of the checkout that runs, None where it is none; it is clean where no file was changed or
    added. "plugins" are the modules that were imported for their parts, with their versions.
    """
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "processes": processes,
        "commit": _git("rev-parse", "HEAD"),
        "clean": None if (changes := _git("status", "--porcelain")) is None else not changes,
        "plugins": registry.plugin_versions(),
        "versions": {
            "sevila": VERSION,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "platform": platform.platform(),
    }


def _git(*arguments: str) -> str | None:
    """Return what git says of the checkout that runs, or None where it is no checkout."""
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return said.stdout.strip() if said.returncode == 0 else None

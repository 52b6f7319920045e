"""What a run reads: whether it is there, before anything is written, and digests that tell when it has changed."""

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lavis.common.errors import AnnotationError, ConfigError, VideoError
from lavis.datasets.annotations import read_annotations
from lavis.datasets.shards import holds_shards, video_storage
from lavis.datasets.videos import VideoFolders
from lavis.models.sevila.identity import make_digest, weights_digest
from lavis.models.sevila.loading import require_weights
from lavis.models.sevila.model import SeViLA
from lavis.runners.config import TrainConfig
from lavis.runners.evaluation.fingerprint import file_digest
from lavis.runners.weights import check_there, weight_paths

Inputs = dict[str, Any]

_SAMPLE_BYTES = 2**16
# NExT-QA's questions with windows, which have a converter and files of their own.
_PREPARED_APART = frozenset({"nextgqa"})


def check_inputs(config: TrainConfig, *, splits: Collection[str]) -> None:
    """Make sure that all files are there that a run begins with.

    Args:
        splits: those that are trained on or measured.

    Raises:
        AnnotationError: annotations are missing or damaged.
        CheckpointError: weights are missing.
        ConfigError: no folder of videos is there.
    """
    require_weights(config.model.model_type)
    for path in weight_paths(config.model.finetuned):
        check_there(path)
    for name, split, file in _annotation_files(config, splits):
        place = f"datasets.{name}.build_info.annotations.{split}.storage"
        if not file.is_file():
            prepared = file.parent.name if file.parent.name in _PREPARED_APART else name
            made = f"make them with: sevila prepare {prepared} --raw DOWNLOADS"
            raise AnnotationError(f"no annotations at {file}; {made}, or {_where(place)}")
        read_annotations(file)
    for name, dataset in config.datasets.items():
        place = f"datasets.{name}.build_info.videos.storage"
        videos = video_storage(dataset.build_info.videos.storage, place=place)
        if isinstance(videos, VideoFolders) and not any(root.is_dir() for root in videos.roots):
            looked = ", ".join(map(str, videos.roots))
            raise ConfigError(f"no folder of videos at {looked}; put the videos there, or {_where(place)}")


def inputs_of(config: TrainConfig, model: SeViLA, *, splits: Collection[str]) -> Inputs:
    """Return digests of all that a run reads; of each video, what is cheap to read of it."""
    annotations = {f"{name}.{split}": file_digest(file) for name, split, file in _annotation_files(config, splits)}
    return {
        "weights": weights_digest(model),
        "model": make_digest(model),
        "annotations": annotations,
        "videos": video_samples(config, splits=splits),
    }


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
        for _, _, file in _annotation_files(config, splits, only=name):
            for row in read_annotations(file).rows:
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


def _annotation_files(
    config: TrainConfig, splits: Collection[str], *, only: str | None = None
) -> Iterator[tuple[str, str, Path]]:
    """Yield dataset, split and file; splits that a dataset does not have are left to its builder."""
    for name, dataset in config.datasets.items():
        for split in sorted(set(splits)):
            file = getattr(dataset.build_info.annotations, split, None)
            if file is not None and only in (None, name):
                yield name, split, Path(file.storage)


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

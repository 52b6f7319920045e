"""What `sevila checkpoint` does with SeViLA's weights: looking at files and checking them here, the rest by import."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lavis.common.errors import CheckpointError, UserError
from lavis.models.checkpoints.weight_files import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    manifest_problems,
    read_manifest,
    read_tokenizer_files,
    weight_files,
)
from lavis.models.checkpoints.weights_io import Shapes, first_few
from lavis.models.sevila.config import checkpoint_store, read_config, read_saved
from lavis.models.sevila.convert import PARTS, convert, export_published, merge
from lavis.models.sevila.known_files import (
    Source,
    check_source,
    expected_shapes,
    fitting_sizes,
    open_source,
    shapes_of_size,
)
from lavis.models.sevila.names import GROUPS, group_of, short_groups
from lavis.models.sevila.published import FILES, RECIPES, fetch_file, fetch_model, find_recipe

__all__ = [
    "FILES",
    "PARTS",
    "RECIPES",
    "checkpoint_store",
    "convert",
    "export_published",
    "fetch_file",
    "fetch_model",
    "find_recipe",
    "inspect",
    "merge",
    "verify",
]


@dataclass(frozen=True)
class PartReport:
    """What a file holds of one part of the model."""

    name: str
    num_tensors: int
    num_parameters: int
    num_bytes: int
    dtypes: dict[str, int]


@dataclass(frozen=True)
class Inspection:
    """What a weight file is.

    Attributes:
        sizes: models it fits.
        num_tensors: as the file counts them, with aliases and what is of no use.
        missing: parts that a whole model has besides.
        origins: where each part came from, if a manifest says so.
    """

    path: str
    kind: str
    sizes: tuple[str, ...]
    num_bytes: int
    num_tensors: int
    parts: tuple[PartReport, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    origins: dict[str, str]


def inspect(path: str | Path) -> Inspection:
    """Say what a weight file or folder is, from its content.

    Raises:
        CheckpointError: nothing there, damaged, or of no known kind.
    """
    source = open_source(path)
    manifest = read_manifest(source.path) if source.path.is_dir() else None
    # Such files hold two biases where we have one.
    halved = source.scheme.name in ("published", "eva")
    halves = sum(name.endswith("qkv.bias") for name in source.weights) if halved else 0
    fitting = tuple(f"sevila_{size}" for size in fitting_sizes(source.telling_shapes))
    return Inspection(
        path=str(path),
        kind=source.kind,
        sizes=(read_saved(source.path).name,) if _is_model_folder(source) else fitting,
        num_bytes=sum(file.stat().st_size for file in source.files),
        num_tensors=len(source.weights) + halves + len(source.aliases) + len(source.left_out),
        parts=tuple(_part_report(part, source.weights) for part in short_groups(source.groups)),
        left_out=source.left_out,
        missing=tuple(short_groups(set(GROUPS) - source.groups)),
        origins=manifest.origins if manifest else {},
    )


@dataclass(frozen=True)
class Verdict:
    """Whether weights are sound: `checks` says what was looked at, `problems` what is wrong."""

    checks: tuple[str, ...]
    problems: tuple[str, ...]


def verify(path: str | Path, *, size: str | None = None) -> Verdict:
    """Check a model folder or a weight file: hashes, completeness, shapes, and that every number is finite.

    Args:
        size: the model a file is for, as in `read_config`; None tells it from the weights, or from the
            folder's own configuration.

    Raises:
        CheckpointError: there is nothing, or the manifest is damaged.
    """
    place = Path(path)
    weight_files(place)
    manifest = read_manifest(place) if place.is_dir() else None
    problems = manifest_problems(place, manifest) if manifest else []
    compared = f"{len(manifest.files)} files compared with their sha256" if manifest else ""
    checks = [compared or "no manifest: nothing to compare sha256 with"]
    try:
        source = open_source(place)
        model, expected = _model_of(source, size)
        found = check_source(source, expected, name=model)
    except UserError as error:
        return Verdict(tuple(checks), (*problems, str(error)))
    if _is_model_folder(source):
        problems += _tokenizer_problems(place)
    checks.append(f"{len(found.weights)} weights of {', '.join(short_groups(found.groups))} fit {model}")
    if missing := short_groups(set(GROUPS) - found.groups):
        checks.append(f"not a whole model: {', '.join(missing)} must come from elsewhere")
    if broken := [name for name, value in found.weights.items() if not bool(torch.isfinite(value).all())]:
        problems.append(f"{len(broken)} weights hold numbers that are not finite ({first_few(broken)})")
    else:
        checks.append("every number is finite")
    return Verdict(tuple(checks), tuple(problems))


def _tokenizer_problems(folder: Path) -> list[str]:
    place = folder / TOKENIZER_FOLDER
    if not read_tokenizer_files(place):
        return [f"{TOKENIZER_FOLDER}/tokenizer.json is missing"]
    try:
        expected_shapes(read_saved(folder), tokenizer=place)
    except UserError as error:
        return [str(error)]
    return []


def _model_of(source: Source, size: str | None) -> tuple[str, Shapes]:
    """Return the name and the shapes of the model that is asked for, that a folder says it is, or that a file fits."""
    if size is not None or _is_model_folder(source):
        config = read_config(size) if size is not None else read_saved(source.path)
        return config.name, expected_shapes(config)
    sizes = fitting_sizes(source.telling_shapes)
    if not sizes:
        raise CheckpointError(f"{source.path} ({source.kind}) fits no known size; say which model is meant with --size")
    return f"sevila_{sizes[0]}", shapes_of_size(sizes[0])


def _is_model_folder(source: Source) -> bool:
    return source.scheme.name == "sevila" and (source.path / CONFIG_FILE).is_file()


def _part_report(part: str, weights: Mapping[str, torch.Tensor]) -> PartReport:
    own = [value for name, value in weights.items() if part in (group_of(name), name.partition(".")[0])]
    dtypes = Counter(str(value.dtype).removeprefix("torch.") for value in own)
    return PartReport(
        name=part,
        num_tensors=len(own),
        num_parameters=sum(value.numel() for value in own),
        num_bytes=sum(value.nbytes for value in own),
        dtypes=dict(dtypes.most_common()),
    )

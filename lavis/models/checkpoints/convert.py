"""Files to a model folder, parts over a model folder, and a model folder to the published names."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from lavis.common.config import from_mapping, load_yaml
from lavis.common.errors import CheckpointError, ConfigError, UserError
from lavis.common.files import written_whole
from lavis.common.naming import did_you_mean
from lavis.models.checkpoints.assemble import Assembled, assemble, published_precision
from lavis.models.checkpoints.folder import TOKENIZER_FOLDER, read_tokenizer_files, write_folder
from lavis.models.checkpoints.manifest import read_manifest
from lavis.models.checkpoints.names import buffers_and_aliases, to_published
from lavis.models.checkpoints.safe import stream_weights
from lavis.models.checkpoints.sizes import Shapes, detect_size, expected_shapes
from lavis.models.checkpoints.sources import Source, open_source
from lavis.models.sevila.build import tokenizer_source
from lavis.models.sevila.config import SeViLAConfig, WeightsConfig, read_config_file, read_saved, read_size, size_names

PARTS = ("vision", "localizer", "answerer", "language")
LANGUAGE_DTYPES = ("bf16", "keep")


def convert(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    size: str | None = None,
    over: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    language_dtype: str = "bf16",
) -> Assembled:
    """Assemble a model folder from weight files of any known kind.

    Every file is mapped, not read: beside the mapped files, one tensor at a time is in memory.

    Args:
        paths: files or folders that complete each other.
        size: a configured size, or a configuration file; None tells it from the weights.
        over: files whose parts win over those in `paths`.
        tokenizer: folder with `tokenizer.json`; None looks in the given folders, then where the
            configuration says.
        image_size: side of the frames in pixels; the position table is resized to it.
        language_dtype: "bf16" stores the language model as published code runs it, "keep" as it comes.

    Raises:
        CheckpointError: see `assemble`; no tokenizer is at hand, or it does not go with the model.
        ConfigError: an unknown size or precision.
    """
    if language_dtype not in LANGUAGE_DTYPES:
        raise ConfigError(f"unknown precision {language_dtype!r}; {did_you_mean(language_dtype, LANGUAGE_DTYPES)}")
    given, winning = [open_source(path) for path in paths], [open_source(path) for path in over]
    config = read_config(size) if size else read_size(_detected([*given, *winning]))
    config = dataclasses.replace(config, weights=WeightsConfig())
    if image_size is not None:
        config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=image_size))
    place = _find_tokenizer(tokenizer, [source.path for source in (*given, *winning)], config)
    expected_shapes(config, tokenizer=place)
    assembled = assemble(given, config=config, over=winning)
    dtypes = published_precision(assembled.weights) if language_dtype == "bf16" else None
    _write(Path(out), assembled, read_tokenizer_files(place), dtypes)
    return assembled


def merge(base: str | Path, parts: Sequence[str | Path], out: str | Path) -> Assembled:
    """Lay parts over the model folder `base`: a later one wins over an earlier one.

    Raises:
        CheckpointError: the base is not a whole model, or a part does not fit it.
    """
    folder = Path(base)
    config, tokenizer = read_saved(folder), read_tokenizer_files(folder / TOKENIZER_FOLDER)
    assembled = assemble([open_source(folder)], config=config, over=[open_source(part) for part in parts])
    manifest = read_manifest(folder)
    # What the base was made of is still true of the parts that stay.
    older = manifest.origins if manifest else {}
    kept = {part: older.get(part, origin) for part, origin in assembled.origins.items() if origin == str(folder)}
    assembled = dataclasses.replace(assembled, origins={**assembled.origins, **kept})
    _write(Path(out), assembled, tokenizer, None)
    return assembled


def export_published(source: str | Path, out: str | Path, *, parts: Sequence[str] = PARTS) -> int:
    """Write parts of a model under the published names, with the buffers and aliases published code saves.

    Args:
        out: a `.pth` file, as published code reads it, or a `.safetensors` file.

    Returns:
        The number of entries written.

    Raises:
        CheckpointError: the source lacks a part, or holds what the published format has no place for.
        ConfigError: an unknown part, or another kind of file.
    """
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"no part {part!r} to export; {did_you_mean(part, PARTS)}")
    target = Path(out)
    if target.suffix not in (".pth", ".safetensors"):
        raise ConfigError(f"cannot export to {target}: its name must end in .pth or .safetensors")
    found = open_source(source)
    lacking = [part for part in parts if not any(group.partition(".")[0] == part for group in found.groups)]
    if lacking:
        raise CheckpointError(f"{source} holds no {', '.join(lacking)}")
    published = to_published({name: value for name, value in found.weights.items() if name.partition(".")[0] in parts})
    published |= buffers_and_aliases(published)
    try:
        with written_whole(target) as temporary, temporary.open("wb") as file:
            if target.suffix == ".pth":
                torch.save({"model": {name: _own_storage(value) for name, value in published.items()}}, file)
            else:
                stream_weights(file, published, metadata={"format": "pt"})
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {target}: {str(error).splitlines()[0]}") from error
    return len(published)


def read_config(size: str) -> SeViLAConfig:
    """Read the configuration of a size, or a configuration file.

    Raises:
        ConfigError: neither.
    """
    if size in size_names():
        return read_size(size)
    file = Path(size)
    if file.suffix == ".json" and file.is_file():
        return read_config_file(file)
    if file.is_file():
        return from_mapping(SeViLAConfig, load_yaml(file), place=size)
    raise ConfigError(f"no size or configuration file {size!r}; {did_you_mean(size, size_names())}")


def _detected(sources: Sequence[Source]) -> str:
    shapes: dict[str, torch.Size] = {}
    for source in sources:
        telling: Shapes = source.telling_shapes
        shapes.update(telling)
    return detect_size(shapes, place=", ".join(str(source.path) for source in sources))


def _find_tokenizer(chosen: str | Path | None, places: Sequence[Path], config: SeViLAConfig) -> Path:
    configured = Path(tokenizer_source(config.language))
    candidates = [Path(chosen)] if chosen else [*places, *(place / TOKENIZER_FOLDER for place in places), configured]
    for place in candidates:
        if read_tokenizer_files(place):
            return place
    where = chosen or "any of the given folders"
    raise CheckpointError(f"no tokenizer.json in {where}; give --tokenizer FOLDER with that of {configured}")


def _write(out: Path, assembled: Assembled, tokenizer: dict[str, bytes], dtypes: dict[str, torch.dtype] | None) -> None:
    write_folder(
        out, assembled.weights, config=assembled.config, tokenizer=tokenizer, origins=assembled.origins, dtypes=dtypes
    )


def _own_storage(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor mapped from a file may be a view of all of it, and all of it would be saved."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()

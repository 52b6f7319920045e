"""What a check needs of a configuration, without building a model or a dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lavis.common.config import from_mapping, load_yaml, merged, parsed_options, section_of
from lavis.common.errors import AnnotationError, ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.paths import configs_dir
from lavis.common.published_settings import translated
from lavis.common.registry import registry
from lavis.datasets.annotations import Annotations, read_annotations
from lavis.datasets.builder import SPLITS, DatasetConfig
from lavis.datasets.shards_unpacking import holds_shards
from lavis.datasets.videos import VideoFolders


def load_dataset_config(name: str, *, recipe: Path | None = None, options: Sequence[str] = ()) -> DatasetConfig:
    """Read a dataset's configuration: its own file, a recipe over it, dotted options over both.

    Args:
        recipe: its `datasets` section counts, the others are not looked at.
        options: dotted options such as "datasets.nextqa.build_info.videos.storage=videos".

    Raises:
        ConfigError: an unknown dataset, a recipe that does not name it, or a setting that cannot be.
    """
    registry.builders.get(name)
    layers: list[dict[str, Any]] = [{"datasets": {name: load_yaml(configs_dir() / "datasets" / f"{name}.yaml")}}]
    if recipe is not None:
        content, _ = translated(load_yaml(recipe), place=str(recipe))
        datasets = section_of(content, "datasets", place=str(recipe))
        if name not in datasets:
            raise ConfigError(f"{recipe} has no datasets.{name}; {did_you_mean(name, datasets)}")
        layers.append({"datasets": {name: datasets[name]}})
    resolved = merged([*layers, translated(parsed_options(options), place="--options")[0]])
    for section in resolved:
        if section != "datasets":
            raise ConfigError(f"--options: only datasets.{name}. can be set here, not {section!r}")
    for other in resolved["datasets"]:
        if other != name:
            raise ConfigError(f"--options: datasets.{other} is not checked; {did_you_mean(str(other), [name])}")
    return from_mapping(DatasetConfig, resolved["datasets"][name], place=f"datasets.{name}")


def read_splits(
    name: str, config: DatasetConfig, *, splits: Sequence[str] | None = None, skip_bad: bool = False
) -> dict[str, Annotations]:
    """Read annotations.

    Args:
        splits: None takes every split whose file is there.
        skip_bad: leave rows out that are no questions, and list them.

    Raises:
        ConfigError: an unknown split, or one that the configuration gives no file for.
        AnnotationError: a file cannot be read, or none is there.
    """
    files: dict[str, Path] = {}
    for split in SPLITS:
        entry = getattr(config.build_info.annotations, split)
        if entry is not None:
            files[split] = Path(entry.storage)
    for split in splits or ():
        if split not in files:
            raise ConfigError(f"datasets.{name} has no split {split!r}; {did_you_mean(split, files)}")
    chosen = list(splits) if splits else [split for split, path in files.items() if path.is_file()]
    if not chosen:
        places = ", ".join(map(str, files.values()))
        raise AnnotationError(f"no annotations of {name} at {places}; make them with: sevila prepare {name} --raw DIR")
    return {split: read_annotations(files[split], skip_bad=skip_bad) for split in chosen}


def storage_of(name: str, config: DatasetConfig) -> VideoFolders:
    """Return the dataset's video folders.

    Raises:
        ConfigError: one of them is not there.
    """
    place = f"datasets.{name}.build_info.videos.storage"
    folders = VideoFolders.from_storage(config.build_info.videos.storage, place=place)
    for root in folders.roots:
        if not root.is_dir():
            raise ConfigError(
                f"{place}: there is no folder {root}; name the folder of videos with --options {place}=DIR"
            )
        if holds_shards(root):
            raise ConfigError(f"{place}: {root} holds shards; check the videos that they were made from")
    return folders

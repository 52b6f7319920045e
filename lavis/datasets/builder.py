"""Building datasets from configurations; every benchmark is this builder over its own YAML file."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from lavis.common.config import (
    Count,
    NoEffect,
    Positive,
    Text,
    TrainingOnly,
    from_mapping,
    import_plugins,
    load_yaml,
    merged,
    parsed_options,
    registered,
    section_of,
)
from lavis.common.errors import AnnotationError, ConfigError, did_you_mean
from lavis.common.files import configs_dir
from lavis.common.published_settings import translated
from lavis.common.registry import registry
from lavis.datasets.annotations import Annotation, Annotations, read_annotations
from lavis.datasets.dataset import JoinedDataset, MixedDataset, VideoQuestionDataset, mixed_counts
from lavis.datasets.shards import ShardedVideos, VideoFinder
from lavis.datasets.videos import VideoFolders, holds_shards

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ProcessorConfig:
    """How frames are read.

    Attributes:
        name: in `registry.processors`.
        n_frms: T.
        sample_fps: in place of T, frames for each second of the clip; `n_frms` must be null then.
    """

    name: Annotated[str, registered(registry.processors)]
    n_frms: Count | None = 32
    sample_fps: Positive | None = None

    @property
    def amount(self) -> dict[str, Any]:
        """How many frames are read, as arguments for the processor."""
        return {"num_frames": self.n_frms} if self.sample_fps is None else {"sample_fps": self.sample_fps}


@dataclass(frozen=True)
class ProcessorsConfig:
    """Processors for training and for evaluation."""

    train: TrainingOnly[ProcessorConfig]
    eval: ProcessorConfig


@dataclass(frozen=True)
class AnnotationFile:
    """Where a split's annotations are."""

    storage: Text


@dataclass(frozen=True)
class AnnotationFiles:
    """Annotation files of the splits there are."""

    train: AnnotationFile | None = None
    val: AnnotationFile | None = None
    test: AnnotationFile | None = None


@dataclass(frozen=True)
class VideosConfig:
    """Where videos are, and how they are read.

    Attributes:
        storage: a folder, a list of folders, a mapping from source to folder, or a folder of shards.
        reader: a name in `registry.video_readers`.
        fps: frames per second of folders of frames.
    """

    storage: NoEffect[Any]
    reader: Annotated[str, registered(registry.video_readers)] = "pyav"
    fps: Positive | None = None


@dataclass(frozen=True)
class BuildInfo:
    """What a dataset is read from; annotations and videos are known by their content, wherever they lie."""

    videos: VideosConfig
    annotations: NoEffect[AnnotationFiles] = field(default_factory=AnnotationFiles)


@dataclass(frozen=True)
class DatasetConfig:
    """One benchmark.

    Attributes:
        prompt: how its questions are worded, a name in `registry.prompts`.
        type: what builds it, a name in `registry.builders`; None is the dataset's own name, or "custom".
        subtitles: whether the Answerer is told what is said while its frames are shown.
    """

    prompt: Annotated[str, registered(registry.prompts)]
    vis_processor: ProcessorsConfig
    build_info: BuildInfo
    type: Annotated[str, registered(registry.builders)] | None = None
    subtitles: bool = False

    @property
    def annotations(self) -> dict[str, Path]:
        """The annotation file of each split that has one."""
        files = {split: getattr(self.build_info.annotations, split) for split in SPLITS}
        return {split: Path(file.storage) for split, file in files.items() if file is not None}


def dataset_defaults(name: str, *layers: Any) -> dict[str, Any]:
    """Return the settings under those of a recipe: the file of the dataset's builder, or none if the recipe defines it.

    Args:
        layers: the recipe's settings of this dataset, and options over them.

    Raises:
        ConfigError: no builder has this name or the one of `type`, and the settings do not say where its data are.
    """
    settings = {key: value for layer in layers if isinstance(layer, Mapping) for key, value in layer.items()}
    kind = settings.get("type") or name
    if kind not in registry.builders and "build_info" in settings:
        return {}
    registry.builders.get(kind)
    file = configs_dir() / "datasets" / f"{kind}.yaml"
    return load_yaml(file) if file.is_file() else {}


def builder_of(name: str, config: DatasetConfig) -> "type[DatasetBuilder]":
    """Return the class that builds a dataset; what a recipe defines needs none of its own."""
    return registry.builders.get(config.type or (name if name in registry.builders else "custom"))


def video_storage(storage: Any, *, place: str) -> VideoFinder:
    """Return where `storage` says that videos are: a folder of shards, or what `VideoFolders` takes.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(storage, str) and holds_shards(Path(storage)):
        return ShardedVideos(Path(storage))
    return VideoFolders.from_storage(storage, place=place)


class DatasetBuilder:
    """Builds the splits of one benchmark; override `read` for another format of annotation files.

    Args:
        image_size: side of the square frames the model watches; None for one that takes pictures of the videos' own
            aspects, and decodes them itself in evaluation.
        max_side: longer side of those pictures in training, at most.
        mean, std: of the channels, for the model's normalisation.
        seed: decides frames and crops in training.
    """

    def __init__(
        self,
        name: str,
        config: DatasetConfig,
        *,
        image_size: int | None,
        max_side: int | None = None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int = 0,
    ) -> None:
        self._place, self._config, self._seed = f"datasets.{name}", config, seed
        self._training_args: dict[str, Any] = {} if image_size else {"max_side": max_side}
        self._frame_args: dict[str, Any] = {"image_size": image_size, "mean": mean, "std": std}

    @staticmethod
    def read(path: Path, *, skip_bad: bool = False) -> Annotations:
        """Read an annotation file; see `read_annotations`."""
        return read_annotations(path, skip_bad=skip_bad)

    def build_training(self, split: str) -> VideoQuestionDataset:
        """Build a split for training: random frames and crops."""
        return self._build(split, self._config.vis_processor.train, **self._training_args)

    def build_evaluation(self, split: str) -> VideoQuestionDataset:
        """Build a split for evaluation: uniform frames."""
        return self._build(split, self._config.vis_processor.eval)

    def has_split(self, split: str) -> bool:
        """Say whether the configuration names annotations of this split."""
        return split in self._config.annotations

    def _build(self, split: str, processor: ProcessorConfig, **more: Any) -> VideoQuestionDataset:
        place, videos = f"{self._place}.build_info", self._config.build_info.videos
        if not self.has_split(split):
            raise ConfigError(f"{self._place} has no split {split!r}; set {place}.annotations.{split}.storage")
        kind = registry.processors.get(processor.name)
        if lacking := more.keys() - inspect.signature(kind).parameters.keys():
            raise ConfigError(
                f"the processor {processor.name!r} takes no {min(lacking)}, and the model is trained on pictures of "
                "the videos' own aspects; use blip2_video_train"
            )
        return VideoQuestionDataset(
            self._rows(split),
            videos=video_storage(videos.storage, place=f"{place}.videos.storage"),
            processor=kind(**processor.amount, **self._frame_args, **more),
            reader=videos.reader,
            fps=videos.fps,
            seed=self._seed,
        )

    def _rows(self, split: str) -> tuple[Annotation, ...]:
        rows = self.read(self._config.annotations[split]).rows
        if not self._config.subtitles:
            return tuple(
                replace(row, question=replace(row.question, subtitles=())) if row.question.subtitles else row
                for row in rows
            )
        if not any(row.question.subtitles for row in rows):
            raise ConfigError(
                f"{self._place}.subtitles is on, and {self._config.annotations[split]} holds none; "
                "prepare it again with the folder of subtitles in --raw"
            )
        return rows


def checked_mix(mix: Any, names: Sequence[str]) -> dict[str, float] | None:
    """Read `run.mix`: nothing, or a ratio for every dataset.

    Raises:
        ConfigError: it is something else, or a ratio is missing, unknown or not above zero.
    """
    if mix is None:
        return None
    if not isinstance(mix, Mapping):
        raise ConfigError(f"run.mix is {mix!r}; give a ratio for each dataset, such as {{nextqa: 2, star: 1}}")
    for name, ratio in mix.items():
        if name not in names:
            raise ConfigError(f"run.mix: no dataset {name!r} in datasets; {did_you_mean(str(name), names)}")
        is_number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
        if not is_number or not (ratio > 0 and math.isfinite(ratio)):
            raise ConfigError(f"run.mix.{name} is {ratio!r}; it must be a number above 0")
    missing = [name for name in names if name not in mix]
    if missing:
        raise ConfigError(f"run.mix has no ratio for {', '.join(missing)}; give one for each of: {', '.join(names)}")
    return {name: float(mix[name]) for name in names}


class MixedBuilder:
    """Builds several datasets, by their names, as one.

    Args:
        mix: a ratio for each dataset; None trains on one after the other, in random order.
    """

    def __init__(
        self, builders: Mapping[str, DatasetBuilder], *, mix: Mapping[str, float] | None = None, seed: int = 0
    ) -> None:
        self._builders, self._mix, self._seed = builders, mix, seed

    def build_training(self, split: str) -> JoinedDataset:
        """Build a split of all datasets for training.

        Raises:
            ConfigError: a ratio is so small that its dataset would never be seen.
        """
        parts = [builder.build_training(split) for builder in self._builders.values()]
        if self._mix is None:
            return JoinedDataset(parts)
        ratios = [self._mix[name] for name in self._builders]
        counts = mixed_counts([len(part) for part in parts], ratios)
        for name, count in zip(self._builders, counts, strict=True):
            if not count:
                raise ConfigError(f"run.mix.{name} is {self._mix[name]:g}: less than one sample an epoch; raise it")
        return MixedDataset(parts, counts=counts, seed=self._seed)

    def build_evaluation(self, split: str) -> JoinedDataset:
        """Build a split of all datasets that have it, every sample once.

        Raises:
            ConfigError: none of them has it.
        """
        having = [builder for builder in self._builders.values() if builder.has_split(split)]
        if not having:
            raise ConfigError(f"none of the datasets {', '.join(self._builders)} has a split {split!r}")
        return JoinedDataset([builder.build_evaluation(split) for builder in having])


def load_dataset_config(name: str, *, recipe: Path | None = None, options: Sequence[str] = ()) -> DatasetConfig:
    """Read a dataset's configuration: its own file, a recipe over it, dotted options over both.

    Args:
        recipe: its `datasets` section counts, the others are not looked at.
        options: dotted options such as "datasets.nextqa.build_info.videos.storage=videos".

    Raises:
        ConfigError: an unknown dataset, a recipe that does not name it, or a setting that cannot be.
    """
    layers: list[dict[str, Any]] = []
    if recipe is not None:
        content = load_yaml(recipe)
        import_plugins(content)
        datasets = section_of(translated(content, place=str(recipe))[0], "datasets", place=str(recipe))
        if name not in datasets:
            raise ConfigError(f"{recipe} has no datasets.{name}; {did_you_mean(name, datasets)}")
        layers.append({"datasets": {name: datasets[name]}})
    layers.append(translated(parsed_options(options), place="--options")[0])
    own = [section_of(layer, "datasets", place="--options").get(name) for layer in layers]
    resolved = merged([{"datasets": {name: dataset_defaults(name, *own)}}, *layers])
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
    files = config.annotations
    for split in splits or ():
        if split not in files:
            raise ConfigError(f"datasets.{name} has no split {split!r}; {did_you_mean(split, files)}")
    chosen = splits or [split for split, path in files.items() if path.is_file()]
    if not chosen:
        places = ", ".join(map(str, files.values()))
        named = f"name them in datasets.{name}.build_info.annotations"
        way_out = f"make them with: sevila prepare {name} --raw DIR" if name in registry.builders else named
        raise AnnotationError(f"no annotations of {name} at {places}; {way_out}")
    read = builder_of(name, config).read
    return {split: read(files[split], skip_bad=skip_bad) for split in chosen}


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

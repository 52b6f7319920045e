"""Building datasets from configurations; every benchmark is this builder over its own YAML file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import lavis.processors.prompts
import lavis.video  # noqa: F401  # declares the video readers
from lavis.common.config import Count, OneOf, Positive, Text
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.datasets.annotations import read_annotations
from lavis.datasets.dataset import VideoQuestionDataset
from lavis.datasets.shards_unpacking import video_storage

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ProcessorConfig:
    """How frames are read: a name in `registry.processors`, and T."""

    name: Annotated[str, OneOf(registry.processors.names)]
    n_frms: Count = 32


@dataclass(frozen=True)
class ProcessorsConfig:
    """Processors for training and for evaluation."""

    train: ProcessorConfig
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

    storage: Any
    reader: Annotated[str, OneOf(registry.video_readers.names)] = "pyav"
    fps: Positive | None = None


@dataclass(frozen=True)
class BuildInfo:
    """What a dataset is read from."""

    videos: VideosConfig
    annotations: AnnotationFiles = field(default_factory=AnnotationFiles)


@dataclass(frozen=True)
class DatasetConfig:
    """One benchmark.

    Attributes:
        prompt: how its questions are worded, a name in `registry.prompts`.
    """

    prompt: Annotated[str, OneOf(registry.prompts.names)]
    vis_processor: ProcessorsConfig
    build_info: BuildInfo


class DatasetBuilder:
    """Builds the splits of one benchmark.

    Args:
        image_size: side of the square frames the model watches.
        mean: channel means of the model's normalisation.
        std: channel deviations of the model's normalisation.
        seed: decides frames and crops in training.
    """

    def __init__(
        self,
        name: str,
        config: DatasetConfig,
        *,
        image_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int = 0,
    ) -> None:
        self._name, self._config, self._seed = name, config, seed
        self._frame_args: dict[str, Any] = {"image_size": image_size, "mean": mean, "std": std}

    def build_training(self, split: str) -> VideoQuestionDataset:
        """Build a split for training: random frames and crops."""
        return self._build(split, self._config.vis_processor.train)

    def build_evaluation(self, split: str) -> VideoQuestionDataset:
        """Build a split for evaluation: uniform frames."""
        return self._build(split, self._config.vis_processor.eval)

    def has_split(self, split: str) -> bool:
        """Say whether the configuration names annotations of this split."""
        return split in SPLITS and getattr(self._config.build_info.annotations, split) is not None

    def _build(self, split: str, processor: ProcessorConfig) -> VideoQuestionDataset:
        place = f"datasets.{self._name}"
        if not self.has_split(split):
            raise ConfigError(f"{place} has no split {split!r}; set {place}.build_info.annotations.{split}.storage")
        info = self._config.build_info
        rows = read_annotations(Path(getattr(info.annotations, split).storage)).rows
        kind = registry.processors.get(processor.name)
        return VideoQuestionDataset(
            rows,
            videos=video_storage(info.videos.storage, place=f"{place}.build_info.videos.storage"),
            processor=kind(num_frames=processor.n_frms, **self._frame_args),
            reader=info.videos.reader,
            fps=info.videos.fps,
            seed=self._seed,
        )

"""What a SeViLA model is made of: sizes, tokenizer, preprocessing and where its weights came from.

The same dataclasses are read from `configs/models/*.yaml` and from the `config.json` of a saved
model. Modules take flat arguments; these objects stop at the builder.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from lavis.common.config import Finite, Positive, between, from_mapping, load_yaml, one_of
from lavis.common.errors import CheckpointError
from lavis.common.files import read_json
from lavis.common.paths import configs_dir
from lavis.models.sevila.sizes import Line, Pixels
from lavis.processors.transforms import CLIP_MEAN, CLIP_STD


@dataclass(frozen=True)
class VisionConfig:
    """A vision tower: `name` in the registry ("timm:MODEL" for timm), the rest are its arguments.

    What `args` may hold is in `lavis.models.sevila.sizes`, as for `prompter` and `language.sizes`.
    """

    name: Line = "blip2_vit_g"
    image_size: Pixels = 224
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LanguageConfig:
    """A language model: T5 sizes as transformers names them, or a model by name or folder.

    Attributes:
        sizes: fields of transformers' `T5Config`; ignored when `pretrained` is given.
        pretrained: a T5-like model on the hub or in a folder, loaded with its weights.
        tokenizer: folder with `tokenizer.json`, relative to the embedded checkpoints, or a hub name; None is
            the tokenizer of `pretrained`.
        max_text_length: tokens a prompt may have (published: 77).
    """

    sizes: dict[str, Any] = field(default_factory=dict)
    pretrained: Line | None = None
    tokenizer: Line | None = None
    max_text_length: Annotated[int, between(1, 65_536)] = 77


@dataclass(frozen=True)
class WeightsConfig:
    """Where weights come from, and what a person must know of them.

    Attributes:
        status: "trained", or "untrained" for random weights.
        note: one sentence that goes with every answer, such as what data the weights know.
        seed: seed of random weights.
    """

    status: Annotated[str, one_of("trained", "untrained")] = "trained"
    note: Line = ""
    seed: Annotated[int, between(0, 2**63 - 1)] = 0


@dataclass(frozen=True)
class SeViLAConfig:
    """The whole model."""

    name: Line
    vision: VisionConfig = field(default_factory=VisionConfig)
    prompter: dict[str, Any] = field(default_factory=dict)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    image_mean: tuple[Finite, Finite, Finite] = CLIP_MEAN
    image_std: tuple[Positive, Positive, Positive] = CLIP_STD

    def as_json(self) -> str:
        """Return the text of a saved model's `config.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def size_names() -> list[str]:
    """Return the model sizes that have a configuration, such as "tiny" and "flant5xl"."""
    return sorted(path.stem.removeprefix("sevila_") for path in (configs_dir() / "models").glob("sevila_*.yaml"))


def read_size(name: str) -> SeViLAConfig:
    """Read `configs/models/sevila_{name}.yaml`."""
    return from_mapping(SeViLAConfig, load_yaml(configs_dir() / "models" / f"sevila_{name}.yaml"), place=name)


def read_saved(folder: Path) -> SeViLAConfig:
    """Read the configuration of a saved model.

    Raises:
        CheckpointError: the folder holds no `config.json`, or one that is damaged.
        ConfigError: it says what no model can be.
    """
    try:
        return read_config_file(folder / "config.json")
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a saved model: it holds no config.json") from error


def read_config_file(file: Path) -> SeViLAConfig:
    """Read a configuration that was written as JSON.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged.
        ConfigError: it says what no model can be.
    """
    try:
        mapping = read_json(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    return from_mapping(SeViLAConfig, mapping, place=str(file))

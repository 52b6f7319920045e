"""What a SeViLA model is made of: sizes, tokenizer, preprocessing, and where its weights lie.

The same dataclasses are read from `configs/models/*.yaml`, from configuration files of one's own, and from the
`config.json` of a saved model, which may come from a stranger: whatever is not on the allow-lists here is refused
before anything is built of it. Modules take flat arguments; these objects stop at the builder.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from lavis.common.config import Decay, Finite, NotNegative, Positive, between, from_mapping, limit, load_yaml, one_of
from lavis.common.errors import CheckpointError, ConfigError, did_you_mean
from lavis.common.files import checkpoints_dir, configs_dir, read_json
from lavis.models.checkpoints.weights_io import CONFIG_FILE, WEIGHTS_FILE
from lavis.processors.transforms import CLIP_MEAN, CLIP_STD


def _is_line(text: str) -> bool:
    return len(text) <= 2000 and all(sign.isprintable() or sign == "\u00a0" for sign in text)


# What is said of a model reaches terminals: nothing there can move their cursor.
Line = Annotated[str, limit("one line of up to 2000 printable characters", _is_line)]
Layers = Annotated[int, between(1, 512)]
Heads = Annotated[int, between(1, 1024)]
Width = Annotated[int, between(1, 65_536)]
Pixels = Annotated[int, between(1, 4096)]

_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
_ACTIVATIONS = ("relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "swish")


@dataclass(frozen=True)
class Blip2VisionSizes:
    """`vision.args` of the tower blip2_vit_g; the values here stand for those that are left out."""

    patch_size: Pixels = 14
    width: Width = 1408
    depth: Layers = 39
    num_heads: Heads = 16
    intermediate_size: Width = 6144


@dataclass(frozen=True)
class TimmVisionArgs:
    """`vision.args` of a timm tower."""

    pretrained: bool = False


@dataclass(frozen=True)
class PrompterSizes:
    """`prompter`."""

    num_queries: Width = 32
    width: Width = 768
    depth: Layers = 12
    num_heads: Heads = 12
    intermediate_size: Width = 3072
    cross_attention_frequency: Layers = 2
    dropout: Decay = 0.1


@dataclass(frozen=True)
class LanguageSizes:
    """`language.sizes`, as transformers' `T5Config` names them."""

    vocab_size: Annotated[int, between(1, 4_000_000)] = 32128
    d_model: Width = 512
    d_kv: Width = 64
    d_ff: Width = 2048
    num_layers: Layers = 6
    num_decoder_layers: Layers | None = None
    num_heads: Heads = 8
    relative_attention_num_buckets: Annotated[int, between(4, 4096)] = 32
    relative_attention_max_distance: Annotated[int, between(4, 65_536)] = 128
    dropout_rate: Decay = 0.1
    classifier_dropout: Decay = 0.0
    layer_norm_epsilon: Positive = 1e-6
    initializer_factor: NotNegative = 1.0
    feed_forward_proj: Annotated[str, one_of(*_ACTIVATIONS, *(f"gated-{name}" for name in _ACTIVATIONS))] = "gated-gelu"
    dense_act_fn: Annotated[str, one_of(*_ACTIVATIONS)] = "gelu"
    pad_token_id: Annotated[int, between(0, 4_000_000)] | None = 0
    eos_token_id: Annotated[int, between(0, 4_000_000)] | None = 1
    decoder_start_token_id: Annotated[int, between(0, 4_000_000)] | None = 0


@dataclass(frozen=True)
class HubLanguageSizes(LanguageSizes):
    """What is read of the `config.json` of a T5 of transformers."""

    is_gated_act: bool = True
    tie_word_embeddings: bool = False
    scale_decoder_outputs: bool = False


@dataclass(frozen=True)
class VisionConfig:
    """A vision tower: `name` in the registry ("timm:MODEL" for timm), the rest are its arguments.

    `args` may hold `Blip2VisionSizes` or `TimmVisionArgs`.
    """

    name: Line = "blip2_vit_g"
    image_size: Pixels = 224
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LanguageConfig:
    """A language model: T5 sizes as transformers names them, or a model by name or folder.

    Attributes:
        sizes: `LanguageSizes`; ignored when `pretrained` is given.
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
    """The whole model; `prompter` may hold `PrompterSizes`."""

    name: Line
    vision: VisionConfig = field(default_factory=VisionConfig)
    prompter: dict[str, Any] = field(default_factory=dict)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    image_mean: tuple[Finite, Finite, Finite] = CLIP_MEAN
    image_std: tuple[Positive, Positive, Positive] = CLIP_STD

    @property
    def watching(self) -> list[Any]:
        """What is seen of frames depends on, beside weights."""
        return [dataclasses.asdict(self.vision), self.prompter, self.image_mean, self.image_std]

    def as_json(self) -> str:
        """Return the text of a saved model's `config.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def size_names() -> list[str]:
    """Return the model sizes that have a configuration, such as "tiny" and "flant5xl"."""
    return sorted(path.stem.removeprefix("sevila_") for path in (configs_dir() / "models").glob("sevila_*.yaml"))


def read_config(source: str | Path) -> SeViLAConfig:
    """Read the configuration of a size, or a configuration file (YAML, or JSON as in a model's folder).

    Raises:
        ConfigError: neither, or it says what no model can be.
        CheckpointError: a damaged file of JSON.
    """
    name, file = str(source), Path(source)
    if name in size_names():
        file = configs_dir() / "models" / f"sevila_{name}.yaml"
    elif not file.is_file():
        raise ConfigError(f"no size or configuration file {name!r}; {did_you_mean(name, size_names())}")
    if file.suffix != ".json":
        return from_mapping(SeViLAConfig, load_yaml(file), place=name)
    try:
        mapping = read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    return from_mapping(SeViLAConfig, mapping, place=name)


def read_saved(folder: Path) -> SeViLAConfig:
    """Read the configuration of a saved model.

    Raises:
        CheckpointError: the folder holds no `config.json`, or one that is damaged.
        ConfigError: it says what no model can be.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} is not a saved model: it holds no {CONFIG_FILE}")
    return read_config(folder / CONFIG_FILE)


def checkpoint_store() -> Path:
    """Return the folder where fetched and assembled models lie."""
    return Path(os.environ.get("SEVILA_CHECKPOINTS") or Path.home() / ".cache" / "sevila")


def find_model(source: str | Path) -> Path | None:
    """Return the folder of a saved model, or None for a configuration file or a size that has no weights yet.

    Raises:
        CheckpointError: neither a folder, a configuration file nor a known size.
    """
    name, place = str(source), Path(source)
    # A folder that happens to be called like a size is meant by "./tiny".
    is_size = isinstance(source, str) and name in size_names()
    if place.is_dir() and not is_size:
        return place
    if place.is_file() and not is_size:
        if place.suffix in _CONFIG_SUFFIXES:
            return None
        raise CheckpointError(f"{name} is a file, not a model folder; make one with: sevila checkpoint convert {name}")
    if name not in size_names():
        raise CheckpointError(f"no model folder or size {name!r}; {did_you_mean(name, size_names())}")
    for parent in (checkpoints_dir(), checkpoint_store()):
        folder = parent / f"sevila_{name}"
        if (folder / WEIGHTS_FILE).is_file():
            return folder
    return None


def require_weights(source: str | Path) -> Path | None:
    """Return the folder of a saved model, or None for a model that is configured as untrained.

    Raises:
        CheckpointError: neither; the message says how to get the weights.
        ConfigError: a configuration file says what no model can be.
    """
    folder = find_model(source)
    if folder is None and read_config(source).weights.status != "untrained":
        if Path(source).is_file():
            raise CheckpointError(
                f"{source} is the configuration of a trained model, without its weights; set weights.status to "
                f"untrained, or give the folder made by: sevila checkpoint convert FILES --size {source} --out FOLDER"
            )
        raise CheckpointError(
            f"no weights for {source} in {checkpoint_store()}; get them with: sevila checkpoint fetch {source}"
        )
    return folder


def tokenizer_source(config: LanguageConfig) -> str | Path:
    """Return the embedded tokenizer's folder where there is one of that name, else the name itself.

    Raises:
        ConfigError: neither a tokenizer nor a pretrained model is named.
    """
    name = config.tokenizer or config.pretrained
    if not name:
        raise ConfigError("the language model has no tokenizer; give language.tokenizer a folder or name")
    embedded = checkpoints_dir() / name
    return embedded if embedded.is_dir() else name

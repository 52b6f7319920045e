"""Building the parts of a SeViLA from its configuration, with initial weights or on the meta device."""

from dataclasses import fields
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)
from transformers.utils import cached_file

from lavis.common.config import from_mapping
from lavis.common.errors import CheckpointError, ConfigError, UserError, did_you_mean, first_line
from lavis.common.files import read_json
from lavis.common.registry import registry
from lavis.models.language.t5 import T5LanguageModel, t5_config
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.config import (
    Blip2VisionSizes,
    HubLanguageSizes,
    LanguageConfig,
    LanguageSizes,
    PrompterSizes,
    SeViLAConfig,
    TimmVisionArgs,
    VisionConfig,
    tokenizer_source,
)
from lavis.models.vision.blip2 import VisualPrompter

# What transformers raises for files of a model that are damaged, or carry code.
_DAMAGED = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError),  # RecursionError is one of these
    *(UnpicklingError, SafetensorError),
)
_VISION_ARGS: dict[str, type] = {"blip2_vit_g": Blip2VisionSizes, "timm": TimmVisionArgs}
# transformers' models that are built like T5.
_LANGUAGE_MODELS: dict[str, tuple[type[PretrainedConfig], type[Any]]] = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
    "umt5": (UMT5Config, UMT5ForConditionalGeneration),
}


def build_parts(config: SeViLAConfig, *, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, nn.Module]:
    """Build the four parts with initial weights, on the default device; a tokenizer replaces the configured one.

    Raises:
        ConfigError: an unknown vision tower or language model, or sizes a part does not take.
        CheckpointError: no tokenizer, or one that does not fit.
    """
    # What a part is built of is checked first: a configuration may come from a stranger.
    check_parts(config)
    language = _build_language(config.language, tokenizer)
    vision = _build_vision(config.vision)
    widths = {"vision_width": int(vision.width), "language_width": language.width}

    def prompter() -> VisualPrompter:
        return _construct(VisualPrompter, {**widths, **config.prompter}, place=f"{config.name}: prompter")

    return {"vision": vision, "localizer": prompter(), "answerer": prompter(), "language": language}


def build_on_meta(config: SeViLAConfig, *, tokenizer: PreTrainedTokenizerBase | None = None) -> nn.Module:
    """Build the parts without weights, to see shapes, with a tokenizer that must fit or one that always does."""
    words = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "yes": 3, "no": 4}, unk_token="<unk>"))
    smallest = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    with torch.device("meta"):
        return nn.ModuleDict(build_parts(config, tokenizer=tokenizer or smallest))


def check_parts(config: SeViLAConfig) -> None:
    """Refuse by a ConfigError arguments that are not on the allow-lists of `lavis.models.sevila.config`.

    Towers that others have registered check their own.
    """
    kind = _VISION_ARGS.get(config.vision.name.partition(":")[0])
    if kind is not None:
        from_mapping(kind, config.vision.args, place=f"{config.name}: vision: args")
    from_mapping(PrompterSizes, config.prompter, place=f"{config.name}: prompter")
    from_mapping(LanguageSizes, config.language.sizes, place=f"{config.name}: language: sizes")


def _build_vision(config: VisionConfig) -> Any:
    kind, has_variant, variant = config.name.partition(":")
    arguments = {"image_size": config.image_size, **config.args}
    if has_variant:
        arguments["model_name"] = variant
    return _construct(registry.vision_towers.get(kind), arguments, place=f"vision tower {config.name}")


def _build_language(config: LanguageConfig, tokenizer: PreTrainedTokenizerBase | None) -> T5LanguageModel:
    if config.pretrained:
        model = _load_language(config.pretrained)
    else:
        model = T5ForConditionalGeneration(t5_config(**config.sizes))
    return T5LanguageModel(
        model=model,
        tokenizer=tokenizer if tokenizer is not None else load_tokenizer(tokenizer_source(config)),
        max_text_length=config.max_text_length,
    )


def _load_language(source: str) -> Any:
    """Load a model of transformers without running, or asking to run, anything of its folder.

    Of its configuration only the sizes of T5 are read: others could name code, such as the kernel of its attention.
    """
    try:
        content = read_json(str(cached_file(source, "config.json")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"no language model at {source}: {first_line(error)}") from error
    name = content.get("model_type") if isinstance(content, dict) else None
    if name not in _LANGUAGE_MODELS:
        known = did_you_mean(str(name), _LANGUAGE_MODELS)
        raise ConfigError(f"no language model at {source}: {name!r} is not built like T5; {known}")
    config_kind, kind = _LANGUAGE_MODELS[name]
    sizes = {field.name: content[field.name] for field in fields(HubLanguageSizes) if field.name in content}
    from_mapping(HubLanguageSizes, sizes, place=f"{source}: config.json")
    try:
        return kind.from_pretrained(source, config=config_kind(**sizes), trust_remote_code=False)
    except _DAMAGED as error:
        raise CheckpointError(f"the language model at {source} cannot be loaded: {first_line(error)}") from error


def _construct(part: type[nn.Module], arguments: dict[str, Any], *, place: str) -> Any:
    try:
        return part(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place}: {error}") from error

"""Building a SeViLA model from its configuration, with or without weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase, T5ForConditionalGeneration

import lavis.models.vision  # noqa: F401  # declares the vision towers
from lavis.common.errors import ConfigError, UserError
from lavis.common.paths import checkpoints_dir
from lavis.common.registry import registry
from lavis.models.language.t5 import T5LanguageModel, t5_config
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.prompter import VisualPrompter
from lavis.models.sevila.config import LanguageConfig, SeViLAConfig, VisionConfig
from lavis.models.sevila.model import SeViLA


def build_sevila(
    config: SeViLAConfig, *, tokenizer: PreTrainedTokenizerBase | None = None, attn_implementation: str = "sdpa"
) -> SeViLA:
    """Build the module tree with initial weights, on the current default device.

    Under `torch.device("meta")` nothing is allocated; `load_state_dict(assign=True)` then brings the
    weights without a second copy.

    Args:
        tokenizer: used instead of the one the configuration names.
        attn_implementation: transformers' name of the attention kernel; models of other libraries choose
            their own.

    Raises:
        ConfigError: an unknown vision tower or language model, or sizes a part does not take.
        CheckpointError: no tokenizer, or one that does not fit.
    """
    language = _build_language(config.language, tokenizer, attn_implementation)
    vision = _build_vision(config.vision, attn_implementation)
    width = int(vision.width)

    def prompter() -> VisualPrompter:
        sizes = {"vision_width": width, "language_width": language.width, "attn_implementation": attn_implementation}
        return _construct(VisualPrompter, {**sizes, **config.prompter}, place=f"{config.name}: prompter")

    return SeViLA(vision=vision, localizer=prompter(), answerer=prompter(), language=language, config=config)


def build_untrained(config: SeViLAConfig) -> SeViLA:
    """Build with random weights that are the same on every machine for the configured seed."""
    with torch.random.fork_rng(devices=[]):
        # Weights are drawn on the CPU; `torch.manual_seed` would also reseed every GPU, for good.
        torch.default_generator.manual_seed(config.weights.seed)
        return build_sevila(config).eval()


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


def _build_vision(config: VisionConfig, attn_implementation: str) -> Any:
    kind, has_variant, variant = config.name.partition(":")
    arguments = {"image_size": config.image_size, **config.args}
    if has_variant:
        arguments["model_name"] = variant
    else:
        arguments["attn_implementation"] = attn_implementation
    return _construct(registry.vision_towers.get(kind), arguments, place=f"vision tower {config.name}")


def _build_language(
    config: LanguageConfig, tokenizer: PreTrainedTokenizerBase | None, attn_implementation: str
) -> T5LanguageModel:
    if config.pretrained:
        model = _load_language(config.pretrained)
    else:
        sizes = t5_config(**config.sizes)
        sizes._attn_implementation = attn_implementation  # noqa: SLF001  # transformers' documented way round the hub
        model = T5ForConditionalGeneration(sizes)
    return T5LanguageModel(
        model=model,
        tokenizer=tokenizer if tokenizer is not None else load_tokenizer(tokenizer_source(config)),
        max_text_length=config.max_text_length,
    )


def _load_language(source: str) -> Any:
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no language model at {source}: {str(error).splitlines()[0]}") from error
    if not all(hasattr(model, part) for part in ("shared", "encoder", "decoder")):
        raise ConfigError(f"{source} is a {type(model).__name__}; the language model must be built like T5")
    return model


def _construct(part: type[nn.Module], arguments: dict[str, Any], *, place: str) -> Any:
    try:
        return part(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place}: {error}") from error

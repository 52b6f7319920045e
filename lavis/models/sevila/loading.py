"""Building, saving and loading SeViLA models; loading is strict.

A saved model is a folder with `config.json`, `model.safetensors` (our names), `tokenizer/` and
`manifest.json`. Loading compares weights with the checksum they carry; `sevila checkpoint verify` looks at all files.
"""

import dataclasses
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

from lavis.common.errors import CheckpointError, ConfigError, did_you_mean
from lavis.models.checkpoints.weights_io import (
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    misfits,
    read_weights,
    shapes_of,
    state_of,
    write_folder,
)
from lavis.models.fingerprint import digest
from lavis.models.language.t5 import T5LanguageModel
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.precision import dtype_named, quantize_parts
from lavis.models.sevila import published
from lavis.models.sevila.build import build_on_meta, build_parts
from lavis.models.sevila.config import (
    LanguageSizes,
    SeViLAConfig,
    find_model,
    read_config,
    read_saved,
    require_weights,
    size_names,
)
from lavis.models.sevila.known_files import check_aliases, open_source, size_hint
from lavis.models.sevila.names import EMBEDDING, PUBLISHED, group_of, short_groups
from lavis.models.vision.blip2 import VisualPrompter

if TYPE_CHECKING:
    from typing_extensions import Self

# What transformers keeps of a configuration that answers do not depend on.
_WITHOUT_EFFECT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


class PretrainedSeViLA(nn.Module):
    """What SeViLA inherits: how it is built, loaded, saved, and told from other models."""

    config: SeViLAConfig
    vision: nn.Module
    localizer: VisualPrompter
    answerer: VisualPrompter
    language: T5LanguageModel

    @classmethod
    def from_config(cls, config: SeViLAConfig, *, tokenizer: PreTrainedTokenizerBase | None = None) -> "Self":
        """Build with initial weights, on the current default device; arguments and errors as for `build_parts`.

        Under `torch.device("meta")` nothing is allocated; `load_state_dict(assign=True)` then brings the
        weights without a second copy.
        """
        return cls(**build_parts(config, tokenizer=tokenizer), config=config)

    @classmethod
    def untrained(cls, config: SeViLAConfig) -> "Self":
        """Build with random weights that are the same on every machine for the configured seed."""
        with torch.random.fork_rng(devices=[]):
            # Weights are drawn on the CPU; `torch.manual_seed` would also reseed every GPU, for good.
            torch.default_generator.manual_seed(config.weights.seed)
            return cls.from_config(config).eval()

    @classmethod
    def from_pretrained(cls, source: str | Path = "tiny", *, dtype: str = "fp32", device: str = "cpu") -> "Self":
        """Load a model in eval mode: from a folder, by size, or by a configuration file; `dtype` as in `set_precision`.

        Sizes are looked for among the embedded checkpoints, then in the folder `SEVILA_CHECKPOINTS`
        (default `~/.cache/sevila`), where `sevila checkpoint` puts them. What is configured as
        untrained is built with random weights, and says so with every answer.

        Raises:
            CheckpointError: nothing there, damaged, or weights that do not fit.
            ConfigError: a configuration says what no model can be.
        """
        folder = require_weights(source)
        model = cls.untrained(read_config(source)) if folder is None else cls._from_folder(folder)
        set_precision(model, dtype)
        return model.to(device)

    @classmethod
    def _from_folder(cls, folder: Path) -> "Self":
        config = read_saved(folder)
        tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
        file = folder / WEIGHTS_FILE
        weights = read_weights(file)
        if config.language.pretrained is None:
            with torch.device("meta"):
                model = cls.from_config(config, tokenizer=tokenizer)
            load_weights(model, weights, place=str(file))
            if not any(buffer.is_meta for buffer in model.buffers()):
                return model.eval()
        # Computed buffers are not saved, and transformers brings hub models only to a real device.
        model = cls.from_config(config, tokenizer=tokenizer)
        load_weights(model, weights, place=str(file))
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, parts: Sequence[str] | None = None) -> None:
        """Save weights, configuration and tokenizer.

        Args:
            parts: names of the parts to save, such as ["localizer"]; None saves everything. A folder with
                only some parts cannot be loaded alone; it is merged over a whole model.

        Raises:
            ConfigError: there is no such part.
            CheckpointError: the folder holds other parts than these, which would be lost.
            UserError: the folder cannot be written to.
        """
        known = [name for name, _ in self.named_children()]
        for part in parts or ():
            if part not in known:
                raise ConfigError(f"no part {part!r} to save; {did_you_mean(part, known)}")
        wanted = tuple(f"{part}." for part in (parts or known))
        with tempfile.TemporaryDirectory() as name:
            self.language.tokenizer.save_pretrained(name)
            tokenizer = {file.name: file.read_bytes() for file in sorted(Path(name).iterdir()) if file.is_file()}
        write_folder(
            Path(folder),
            {name: value for name, value in state_of(self).items() if name.startswith(wanted)},
            name=self.config.name,
            config=_self_contained(self.config, self.language.model).as_json(),
            tokenizer=tokenizer,
        )

    def save_trained(self, folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
        """Write nothing: other programs read the weights themselves."""

    def load_partial(self, path: str | Path) -> list[str]:
        """Put weights of any known kind of file or folder over those of the model; return the parts that were there.

        A file may hold any of the model's weights: fine-tuning saves what it trained. Precision and device stay.

        Raises:
            CheckpointError: nothing there, damaged, or weights that the model has no place for.
        """
        _check_there(Path(path))
        found = open_source(path)
        check_aliases(found, found.weights.get(EMBEDDING))
        return self.load_weights(found.weights, place=path)

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, torch.Tensor], *, place: str | Path) -> list[str]:
        """Put weights over those of the model, by name; returns and raises as `load_partial`."""
        own = state_of(self)
        wanted = {name: own[name].shape for name in weights if name in own}
        if problems := misfits(shapes_of(weights), wanted):
            raise CheckpointError(f"{place} does not fit the model {self.config.name}: {'; '.join(problems)}")
        for name, value in weights.items():
            own[name].copy_(value)
        return sorted({name.partition(".")[0] for name in weights})

    @abstractmethod
    def set_trainable(self, roles: Sequence[str]) -> None:
        """Let the visual prompters of these roles train, and freeze everything else."""

    def quantize(self, name: str) -> None:
        """Replace the weights of vision tower and language model by whole numbers; see `quantize_parts`."""
        quantize_parts([self.vision, self.language.model], name)

    @classmethod
    def sizes(cls) -> list[str]:
        """Return the names of the sizes that can be loaded."""
        return size_names()

    @classmethod
    def describe(cls, source: str | Path) -> dict[str, Any]:
        """Say what a source holds, without loading it; see `lavis.models.loading.describe`."""
        folder = find_model(source)
        config = read_saved(folder) if folder else read_config(source)
        return {
            "name": str(source),
            "parameters": sum(parameter.numel() for parameter in build_on_meta(config).parameters()),
            "weights": str(folder) if folder else None,
            "status": config.weights.status,
            "note": config.weights.note,
        }

    @classmethod
    def check_weights(cls, source: str | Path, *, partial: Sequence[Path] = ()) -> None:
        """Make sure that there are weights to load, and others to lay over; see `models.loading.check_weights`."""
        require_weights(source)
        for path in partial:
            _check_there(path)

    @classmethod
    def weight_tools(cls) -> Any:
        """Return what `sevila checkpoint` does with files of weights, as functions."""
        return published

    def published_names(self) -> dict[str, str]:
        """Return the names in published files of those parameters that have one."""
        names = {name: PUBLISHED.theirs(name) for name, _ in self.named_parameters()}
        return {ours: theirs for ours, theirs in names.items() if theirs}

    def make_digest(self) -> str:
        """Return a digest of all that answers depend on beside weights, precision and device."""
        language = self.language
        made = {name: value for name, value in language.model.config.to_dict().items() if name not in _WITHOUT_EFFECT}
        tokenizer = language.tokenizer
        words = [tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, language.max_text_length]
        return digest({"vision": self.config.watching, "language": made, "words": words})


def load_weights(model: PretrainedSeViLA, weights: Mapping[str, torch.Tensor], *, place: str) -> None:
    """Put weights (our names) into a model, in place of its own tensors.

    A model that was built on the meta device takes the tensors themselves, without a second copy; one that lives on a
    device keeps it, its precision, and what refers to its parameters.

    Raises:
        CheckpointError: weights are missing, unknown or of another shape; all are counted and the
            first of each kind is named.
    """
    shapes = shapes_of(weights)
    if problems := misfits(shapes, shapes_of(state_of(model))):
        groups = frozenset(map(group_of, shapes))
        parts = {group.partition(".")[0] for group in groups}
        hint = size_hint(shapes, name=model.config.name)
        if parts < {name for name, _ in model.named_children()}:
            hint = (
                f"; it holds only {', '.join(short_groups(groups))}: lay it over a model with sevila checkpoint merge"
            )
        raise CheckpointError(f"{place} does not fit the model {model.config.name}: {'; '.join(problems)}{hint}")
    on_meta = any(parameter.is_meta for parameter in model.parameters())
    model.load_state_dict(weights, strict=False, assign=on_meta)
    model.set_trainable(())


def set_precision(model: PretrainedSeViLA, dtype: str) -> None:
    """Set the precision of each part; a ConfigError refuses other names than these.

    "fp32" and "bf16" set all parts. "fp16" sets the vision tower alone, as published; visual
    prompters then stay in fp32 and the language model, which overflows in fp16, is set to bf16.
    """
    model.to(dtype_named(dtype))
    if dtype == "fp16":
        model.localizer.float()
        model.answerer.float()
        model.language.to(torch.bfloat16)


def _check_there(path: Path) -> None:
    if not path.exists():
        way_out = "set model.finetuned to weights that are there, such as the folder `best` of an earlier run"
        if path.name in published.FILES:
            way_out = f"download them with: sevila checkpoint fetch {path.name}"
        raise CheckpointError(f"no weights at {path}; {way_out}")


def _self_contained(config: SeViLAConfig, language: Any) -> SeViLAConfig:
    """Return a configuration that rebuilds the model without downloading what its own weights replace."""
    if config.vision.args.get("pretrained"):
        vision = dataclasses.replace(config.vision, args={**config.vision.args, "pretrained": False})
        config = dataclasses.replace(config, vision=vision)
    # Others than T5 with an output matrix of its own can only be built from the hub again.
    if (
        config.language.pretrained is None
        or type(language) is not T5ForConditionalGeneration
        or language.lm_head.weight is language.shared.weight
    ):
        return config
    made = language.config.to_dict()
    sizes = {field.name: made[field.name] for field in dataclasses.fields(LanguageSizes) if field.name in made}
    return dataclasses.replace(config, language=dataclasses.replace(config.language, pretrained=None, sizes=sizes))

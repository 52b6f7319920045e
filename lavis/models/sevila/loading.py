"""Saving SeViLA models to folders and loading them, strictly.

A saved model is a folder with `config.json`, `model.safetensors` (our names), `tokenizer/` and
`manifest.json`. Loading compares weights with the checksum they carry; `sevila checkpoint verify` looks at all files.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import T5ForConditionalGeneration

from lavis.common.errors import CheckpointError, ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.paths import checkpoints_dir
from lavis.models.checkpoints.folder import TOKENIZER_FOLDER, tokenizer_files, write_folder
from lavis.models.checkpoints.safe import read_weights
from lavis.models.checkpoints.schemes import group_of, short_groups
from lavis.models.checkpoints.sizes import Shapes, misfits, shapes_of, size_hint, state_of
from lavis.models.checkpoints.sources import WEIGHTS_FILE, check_source, open_source
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.build import build_sevila, build_untrained
from lavis.models.sevila.config import SeViLAConfig, read_saved, read_size, size_names
from lavis.models.sevila.model import SeViLA

PRECISIONS = ("fp32", "bf16", "fp16")
_T5_FIELDS = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_decoder_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "dropout_rate",
    "feed_forward_proj",
    "dense_act_fn",
    "layer_norm_epsilon",
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_sevila(source: str | Path = "tiny", *, dtype: str = "fp32", device: str = "cpu") -> SeViLA:
    """Load a model in eval mode, from a saved folder or by size.

    Sizes are looked for among the embedded checkpoints, then in the folder `SEVILA_CHECKPOINTS`
    (default `~/.cache/sevila`), where `sevila checkpoint` puts them. A size that is configured as
    untrained is built with random weights, and says so with every answer.

    Args:
        source: a folder, or a size such as "tiny" or "flant5xl".
        dtype: see `set_precision`.

    Raises:
        CheckpointError: nothing there, damaged, or weights that do not fit.
    """
    folder = require_weights(source)
    model = build_untrained(read_size(str(source))) if folder is None else _load_folder(folder)
    set_precision(model, dtype)
    return model.to(device)


def save_sevila(model: SeViLA, folder: str | Path, *, parts: Sequence[str] | None = None) -> None:
    """Save weights, configuration and tokenizer.

    Args:
        parts: names of the parts to save, such as ["localizer"]; None saves everything. A folder with
            only some parts cannot be loaded alone; it is merged over a whole model.

    Raises:
        ConfigError: there is no such part.
        CheckpointError: the folder holds other parts than these, which would be lost.
        UserError: the folder cannot be written to.
    """
    known = [name for name, _ in model.named_children()]
    for part in parts or ():
        if part not in known:
            raise ConfigError(f"no part {part!r} to save; {did_you_mean(part, known)}")
    wanted = tuple(f"{part}." for part in (parts or known))
    write_folder(
        Path(folder),
        {name: value for name, value in state_of(model).items() if name.startswith(wanted)},
        config=_self_contained(model),
        tokenizer=tokenizer_files(model.language.tokenizer),
    )


def load_weights(model: SeViLA, weights: Mapping[str, torch.Tensor], *, place: str) -> None:
    """Put weights (our names) into a model, in place of its own tensors.

    Raises:
        CheckpointError: weights are missing, unknown or of another shape; all are counted and the
            first of each kind is named.
    """
    shapes = shapes_of(weights)
    problems = misfits(shapes, shapes_of(state_of(model)))
    if problems:
        raise CheckpointError(
            f"{place} does not fit the model {model.config.name}: {'; '.join(problems)}{_way_out(model, shapes)}"
        )
    _put(model, weights)
    model.set_trainable(())


def load_parts(model: SeViLA, source: str | Path) -> list[str]:
    """Put some parts over those of a model in memory, from a folder saved with `parts` or a file of any known kind.

    Precision and device of the model stay as they are.

    Returns:
        The parts that were replaced, such as ["localizer"].

    Raises:
        CheckpointError: nothing there, damaged, or weights that do not fit the model.
    """
    own = state_of(model)
    found = check_source(open_source(source), shapes_of(own), name=model.config.name)
    with torch.no_grad():
        for name, value in found.weights.items():
            own[name].copy_(value)
    return short_groups(found.groups)


def set_precision(model: SeViLA, dtype: str) -> None:
    """Set the precision of each part.

    "fp32" and "bf16" set all parts. "fp16" sets the vision tower alone, as published; visual
    prompters then stay in fp32 and the language model, which overflows in fp16, is set to bf16.

    Raises:
        ConfigError: not one of these.
    """
    if dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; {did_you_mean(dtype, PRECISIONS)}")
    model.to(_DTYPES[dtype])
    if dtype == "fp16":
        model.localizer.float()
        model.answerer.float()
        model.language.to(torch.bfloat16)


def checkpoint_store() -> Path:
    """Return the folder where fetched and assembled models lie."""
    return Path(os.environ.get("SEVILA_CHECKPOINTS") or Path.home() / ".cache" / "sevila")


def find_model(source: str | Path) -> Path | None:
    """Return the folder of a saved model, or None where a known size has no weights yet.

    Raises:
        CheckpointError: neither a folder nor a known size.
    """
    if Path(source).is_dir():
        return Path(source)
    name = str(source)
    if Path(source).is_file():
        raise CheckpointError(f"{name} is a file, not a model folder; make one with: sevila checkpoint convert {name}")
    if name not in size_names():
        raise CheckpointError(f"no model folder or size {name!r}; {did_you_mean(name, size_names())}")
    for parent in (checkpoints_dir(), checkpoint_store()):
        folder = parent / f"sevila_{name}"
        if (folder / WEIGHTS_FILE).is_file():
            return folder
    return None


def require_weights(source: str | Path) -> Path | None:
    """Return the folder of a saved model, or None for a size that is configured as untrained.

    Raises:
        CheckpointError: neither; the message says how to get the weights.
    """
    folder = find_model(source)
    if folder is None and read_size(str(source)).weights.status != "untrained":
        raise CheckpointError(
            f"no weights for {source} in {checkpoint_store()}; get them with: sevila checkpoint fetch {source}"
        )
    return folder


def _load_folder(folder: Path) -> SeViLA:
    config = read_saved(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    weights = read_weights(folder / WEIGHTS_FILE)
    if config.language.pretrained is None:
        with torch.device("meta"):
            model = build_sevila(config, tokenizer=tokenizer)
        load_weights(model, weights, place=str(folder / WEIGHTS_FILE))
        if not any(buffer.is_meta for buffer in model.buffers()):
            return model.eval()
    # Computed buffers are not saved, and transformers brings hub models only to a real device.
    model = build_sevila(config, tokenizer=tokenizer)
    load_weights(model, weights, place=str(folder / WEIGHTS_FILE))
    return model.eval()


def _way_out(model: SeViLA, shapes: Shapes) -> str:
    groups = frozenset(map(group_of, shapes))
    parts = {group.partition(".")[0] for group in groups}
    if parts < {name for name, _ in model.named_children()}:
        return f"; it holds only {', '.join(short_groups(groups))}: lay it over a model with sevila checkpoint merge"
    return size_hint(shapes, name=model.config.name)


def _put(model: SeViLA, weights: Mapping[str, torch.Tensor]) -> None:
    # A model that was built on the meta device takes the tensors themselves, without a second copy; one that
    # lives on a device keeps it, its precision, and what refers to its parameters.
    on_meta = any(parameter.is_meta for parameter in model.parameters())
    model.load_state_dict(weights, strict=False, assign=on_meta)


def _self_contained(model: SeViLA) -> SeViLAConfig:
    """Return a configuration that rebuilds the model without downloading what its own weights replace."""
    config = model.config
    if config.vision.args.get("pretrained"):
        vision = dataclasses.replace(config.vision, args={**config.vision.args, "pretrained": False})
        config = dataclasses.replace(config, vision=vision)
    language = model.language.model
    # Others than T5 with an output matrix of its own can only be built from the hub again.
    if (
        config.language.pretrained is None
        or type(language) is not T5ForConditionalGeneration
        or language.lm_head.weight is language.shared.weight
    ):
        return config
    sizes = {name: getattr(language.config, name) for name in _T5_FIELDS}
    return dataclasses.replace(config, language=dataclasses.replace(config.language, pretrained=None, sizes=sizes))


def with_weights_note(config: SeViLAConfig, *, status: str, note: str) -> SeViLAConfig:
    """Return the configuration with another statement about its weights."""
    return dataclasses.replace(config, weights=dataclasses.replace(config.weights, status=status, note=note))

"""Which weights a model of some size has, found on the meta device: nothing is allocated."""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast

from lavis.common.errors import CheckpointError
from lavis.models.checkpoints.names import first_few
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.build import build_sevila
from lavis.models.sevila.config import SeViLAConfig, read_size, size_names

Shapes = Mapping[str, torch.Size]

POSITION_TABLE = "vision.model.embeddings.position_embedding"


def expected_shapes(config: SeViLAConfig, *, tokenizer: Path | None = None) -> Shapes:
    """Return the name and shape of every weight of a model.

    Args:
        tokenizer: folder of a tokenizer that must go with the model; shapes do not depend on it.

    Raises:
        UserError: an impossible configuration, or a tokenizer that does not go with it.
    """
    with torch.device("meta"):
        model = build_sevila(config, tokenizer=load_tokenizer(tokenizer) if tokenizer else _smallest_tokenizer())
    return shapes_of(state_of(model))


def _smallest_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer that goes with every model."""
    words = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "yes": 3, "no": 4}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and persistent buffer of a model once, under its first name."""
    persistent = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


@functools.cache
def shapes_of_size(name: str) -> Shapes:
    """Return `expected_shapes` of a configured size."""
    return expected_shapes(read_size(name))


def fitting_sizes(shapes: Shapes) -> list[str]:
    """Return the sizes whose model has all these weights; position tables may be resized, and do not count."""
    return [
        size
        for size in size_names()
        if all(name == POSITION_TABLE or shapes_of_size(size).get(name) == shape for name, shape in shapes.items())
    ]


def detect_size(shapes: Shapes, *, place: str) -> str:
    """Tell the size from weights.

    Raises:
        CheckpointError: no size fits, or several do.
    """
    sizes = fitting_sizes(shapes)
    if len(sizes) != 1:
        fitting = f"fits several sizes ({', '.join(sizes)})" if sizes else "fits no known size"
        raise CheckpointError(f"{place} {fitting}; say which model is meant with --size: {', '.join(size_names())}")
    return sizes[0]


def misfits(shapes: Shapes, expected: Shapes) -> list[str]:
    """Say what is missing, unexpected or of another shape, each with a count and the first few; empty if all fits."""
    reshaped = [
        f"{name} {list(shapes[name])} instead of {list(expected[name])}"
        for name in expected
        if name in shapes and shapes[name] != expected[name]
    ]
    kinds = (
        ("missing", [name for name in expected if name not in shapes]),
        ("unexpected", [name for name in shapes if name not in expected]),
        ("of another shape", reshaped),
    )
    return [f"{len(found)} {kind} ({first_few(found)})" for kind, found in kinds if found]


def shapes_of(weights: Mapping[str, torch.Tensor]) -> Shapes:
    """Return the shapes of weights."""
    return {name: tensor.shape for name, tensor in weights.items()}


def size_hint(shapes: Shapes, *, name: str) -> str:
    """Return "; it fits flant5xxl" where weights that do not fit the model `name` are those of another size."""
    sizes = [f"sevila_{size}" for size in fitting_sizes(shapes)] if shapes else []
    return f"; it fits {' or '.join(sizes)}" if sizes and name not in sizes else ""

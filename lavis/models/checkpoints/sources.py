"""Opening a weight file or folder of any known kind, and looking at it under our names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lavis.common.errors import CheckpointError
from lavis.common.files import read_json
from lavis.models.checkpoints.names import VISION_BLOCK, translate
from lavis.models.checkpoints.safe import read_weights
from lavis.models.checkpoints.schemes import Scheme, describe_kind, detect_scheme, group_of
from lavis.models.checkpoints.sizes import Shapes, misfits, shapes_of, size_hint

WEIGHTS_FILE = "model.safetensors"
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILES = (WEIGHTS_FILE, "pytorch_model.bin")


@dataclass(frozen=True)
class Source:
    """Weights of one file, or of one folder of files that belong together.

    Attributes:
        files: what was read.
        weights: under our names.
        aliases: the language model's embedding a second time, under the file's own names.
        left_out: names that are known to be of no use.
    """

    path: Path
    files: tuple[Path, ...]
    scheme: Scheme
    weights: dict[str, torch.Tensor]
    aliases: dict[str, torch.Tensor]
    left_out: tuple[str, ...]

    @property
    def groups(self) -> frozenset[str]:
        """The groups of weights it holds something of."""
        return frozenset(map(group_of, self.weights))

    @property
    def telling_shapes(self) -> Shapes:
        """The shapes that tell a model's size: without the block that EVA's file has and BLIP-2 does not read."""
        surplus = _block(self.weights, num_vision_blocks(self.weights) - 1) if self.scheme.has_last_block else set()
        return {name: tensor.shape for name, tensor in self.weights.items() if name not in surplus}

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return describe_kind(self.scheme, self.groups)


def open_source(path: str | Path) -> Source:
    """Open a weight file, or a folder as saved by this package or by transformers.

    Raises:
        CheckpointError: nothing there, damaged, or of no known kind.
    """
    place = Path(path)
    files = weight_files(place)
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        found = read_weights(file)
        doubled = weights.keys() & found.keys()
        if doubled:
            raise CheckpointError(f"{file} holds {sorted(doubled)[0]} a second time")
        weights.update(found)
    return identify(weights, path=place, files=files)


def identify(theirs: Mapping[str, torch.Tensor], *, path: Path, files: tuple[Path, ...] = ()) -> Source:
    """Tell what weights are from their names, and rename them.

    Raises:
        CheckpointError: the names belong to no known kind, or a part of them does not.
    """
    scheme = detect_scheme(theirs, place=str(path))
    translated = translate(theirs, scheme.table, place=str(path), leftovers=scheme.leftovers)
    return Source(path, files, scheme, translated.weights, translated.aliases, translated.left_out)


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the weight files of a folder, or the file itself.

    Raises:
        CheckpointError: neither a file nor a folder with weights, or an index names a file that is not there.
    """
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"no weights at {path}")
        return (path,)
    for name in _INDEX_FILES:
        if (path / name).is_file():
            return _indexed_files(path / name)
    for name in _SINGLE_FILES:
        if (path / name).is_file():
            return (path / name,)
    raise CheckpointError(f"{path} holds no weights: neither {WEIGHTS_FILE} nor an index of several files")


def index_entries(index: Path) -> list[str]:
    """Return the file names that the index of a sharded model lists.

    Raises:
        CheckpointError: it is damaged, or names files elsewhere.
    """
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of weight files: {error}") from error
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", str(name)):
            raise CheckpointError(f"{index} names {name!r}, which is not a file beside it")
    return names


def check_source(source: Source, expected: Shapes, *, name: str) -> Source:
    """Check that every group the source holds is there whole, and of the right shape.

    Args:
        expected: of the whole model.
        name: of the model, for messages.

    Returns:
        The source without what is known to be of no use to this model.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.
    """
    surplus = _block(source.weights, num_vision_blocks(expected)) if source.scheme.has_last_block else set()
    weights = {ours: tensor for ours, tensor in source.weights.items() if ours not in surplus}
    wanted = {ours: shape for ours, shape in expected.items() if group_of(ours) in source.groups}
    problems = misfits(shapes_of(weights), wanted)
    if problems:
        hint = size_hint(source.telling_shapes, name=name)
        raise CheckpointError(f"{source.path} does not fit the model {name}: {'; '.join(problems)}{hint}")
    return Source(
        source.path, source.files, source.scheme, weights, source.aliases, (*source.left_out, *sorted(surplus))
    )


def num_vision_blocks(names: Iterable[str]) -> int:
    """Return how many blocks the vision tower has."""
    return len({match[1] for match in map(VISION_BLOCK.fullmatch, names) if match})


def _block(names: Iterable[str], number: int) -> set[str]:
    return {name for name in names if (match := VISION_BLOCK.fullmatch(name)) and match[1] == str(number)}


def _indexed_files(index: Path) -> tuple[Path, ...]:
    files = tuple(index.parent / name for name in index_entries(index))
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing: {index.name} lists it")
    return files

"""Weight files of any known kind, under our names: opening them, telling which model they fit, and checking them.

The shapes of a size are found on the meta device: nothing is allocated.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lavis.common.errors import CheckpointError, UserError, counted
from lavis.models.checkpoints.weights_io import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    Shapes,
    first_few,
    manifest_problems,
    misfits,
    read_manifest,
    read_tokenizer_files,
    read_weights,
    shapes_of,
    state_of,
    weight_files,
)
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.build import build_on_meta
from lavis.models.sevila.config import SeViLAConfig, read_config, read_saved, size_names
from lavis.models.sevila.names import (
    ALIAS,
    FUSED_BIAS,
    GROUPS,
    KINDS,
    POSITION_IDS,
    PUBLISHED,
    SPLIT_BIAS,
    VISION_BLOCK,
    Scheme,
    detect_scheme,
    group_of,
    short_groups,
)

POSITION_TABLE = "vision.model.embeddings.position_embedding"
_BERT_POSITIONS = 512


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

    def surplus(self, num_blocks: int) -> set[str]:
        """Return what EVA's file has and BLIP-2 does not read: the weights of the vision block of this number."""
        blocks = ((name, VISION_BLOCK.fullmatch(name)) for name in self.weights if self.scheme.has_last_block)
        return {name for name, block in blocks if block and block[1] == str(num_blocks)}

    @property
    def telling_shapes(self) -> Shapes:
        """The shapes that tell a model's size."""
        surplus = self.surplus(num_vision_blocks(self.weights) - 1)
        return {name: tensor.shape for name, tensor in self.weights.items() if name not in surplus}

    @property
    def is_model_folder(self) -> bool:
        """Whether it was saved by this package, with its configuration."""
        return self.scheme.name == "sevila" and (self.path / CONFIG_FILE).is_file()

    @property
    def kind(self) -> str:
        """What it is, in words."""
        known = KINDS.get((self.scheme.name, self.groups))
        return known or f"part of a model ({self.scheme.what}): {', '.join(short_groups(self.groups))}"


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
        if doubled := weights.keys() & found.keys():
            raise CheckpointError(f"{file} holds {sorted(doubled)[0]} a second time")
        weights.update(found)
    return identify(weights, path=place, files=files)


def identify(theirs: Mapping[str, torch.Tensor], *, path: Path, files: tuple[Path, ...] = ()) -> Source:
    """Tell what weights are from their names, and rename them, fusing attention biases.

    Raises:
        CheckpointError: the names belong to no known kind, or a part of them does not; half a bias; or position ids
            that are not 0, 1, 2, ...
    """
    scheme = detect_scheme(theirs, place=str(path))
    weights, aliases, halves = dict[str, torch.Tensor](), {}, dict[tuple[str, str], dict[str, torch.Tensor]]()
    left_out, unknown = [], []
    for name, tensor in theirs.items():
        ours = scheme.ours(name)
        if POSITION_IDS.fullmatch(name):
            if not tensor.is_meta and not torch.equal(tensor.flatten().cpu(), torch.arange(tensor.numel())):
                raise CheckpointError(
                    f"{path}: {name} is not 0, 1, 2, ...; the file is damaged or not a SeViLA checkpoint"
                )
            left_out.append(name)
        elif re.fullmatch(scheme.leftovers, name):
            left_out.append(name)
        elif ours is None:
            unknown.append(name)
        elif ALIAS.fullmatch(ours):
            aliases[name] = tensor
        elif split := SPLIT_BIAS.fullmatch(name):
            halves.setdefault((ours, split[1]), {})[split[2]] = tensor
        else:
            weights[ours] = tensor
    if unknown:
        raise CheckpointError(f"{path} holds {len(unknown)} unexpected weights ({first_few(unknown)})")
    for (ours, prefix), half in halves.items():
        for letter in {*"qv"} - half.keys():
            raise CheckpointError(f"{path}: {prefix}.{letter}_bias is missing: q_bias and v_bias only come together")
        weights[ours] = torch.cat([half["q"], torch.zeros_like(half["q"]), half["v"]])
    return Source(path, files, scheme, weights, aliases, tuple(left_out))


def check_aliases(source: Source, embedding: torch.Tensor | None) -> None:
    """Check that every alias holds the embedding's values, where they are known, in the alias' precision.

    Raises:
        CheckpointError: it holds others: the file belongs to another language model, or is damaged.
    """
    for name, alias in source.aliases.items():
        if embedding is None or alias.is_meta or embedding.is_meta:
            continue
        if alias.shape != embedding.shape or not torch.equal(alias, embedding.to(alias.dtype)):
            raise CheckpointError(
                f"{source.path}: {name} differs from the language model's embedding it stands for; "
                "the file is damaged or belongs to another language model"
            )


def to_published(ours: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename our state dict to what published code saves, which splits attention biases.

    Beside parameters that is position ids, and the embedding's two aliases.

    Raises:
        CheckpointError: a name that has no published counterpart, or a trained key bias.
    """
    result: dict[str, torch.Tensor] = {}
    for name, tensor in ours.items():
        fused = FUSED_BIAS.fullmatch(name)
        renamed = PUBLISHED.theirs(name)
        if fused:
            query, key, value = tensor.chunk(3)
            if not tensor.is_meta and key.any():
                raise CheckpointError(f"{name} has a key bias; the published format has no place for it")
            prefix = f"visual_encoder.blocks.{fused[1]}.attn"
            result[f"{prefix}.q_bias"], result[f"{prefix}.v_bias"] = query.clone(), value.clone()
        elif renamed is None:
            raise CheckpointError(f"{name} has no name in the published format")
        else:
            result[renamed] = tensor
    for prefix in ("Qformer", "Qformer_loc"):
        if f"{prefix}.bert.embeddings.LayerNorm.weight" in result:
            result[f"{prefix}.bert.embeddings.position_ids"] = torch.arange(_BERT_POSITIONS)[None]
    if "t5_model.shared.weight" in result:
        for stack in ("encoder", "decoder"):
            result[f"t5_model.{stack}.embed_tokens.weight"] = result["t5_model.shared.weight"]
    return result


def check_source(source: Source, expected: Shapes, *, name: str) -> Source:
    """Check that what a source holds of a model is whole and fits, and return it without what is of no use there.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.
    """
    surplus = source.surplus(num_vision_blocks(expected))
    weights = {ours: tensor for ours, tensor in source.weights.items() if ours not in surplus}
    wanted = {ours: shape for ours, shape in expected.items() if group_of(ours) in source.groups}
    if problems := misfits(shapes_of(weights), wanted):
        hint = size_hint(source.telling_shapes, name=name)
        raise CheckpointError(f"{source.path} does not fit the model {name}: {'; '.join(problems)}{hint}")
    return replace(source, weights=weights, left_out=(*source.left_out, *sorted(surplus)))


def num_vision_blocks(names: Iterable[str]) -> int:
    """Return how many blocks the vision tower has."""
    return len({match[1] for match in map(VISION_BLOCK.fullmatch, names) if match})


def expected_shapes(config: SeViLAConfig, *, tokenizer: Path | None = None) -> Shapes:
    """Return name and shape of every weight of a model, after checking that the tokenizer in a folder goes with it.

    Raises:
        UserError: an impossible configuration, or a tokenizer that does not go with it.
    """
    built = build_on_meta(config, tokenizer=load_tokenizer(tokenizer) if tokenizer else None)
    return shapes_of(state_of(built))


@functools.cache
def shapes_of_size(name: str) -> Shapes:
    """Return `expected_shapes` of a configured size."""
    return expected_shapes(read_config(name))


def fitting_sizes(shapes: Shapes) -> list[str]:
    """Return the sizes whose model has all these weights; position tables may be resized, and do not count."""
    return [
        size
        for size in size_names()
        if all(name == POSITION_TABLE or shapes_of_size(size).get(name) == shape for name, shape in shapes.items())
    ]


def detect_size(sources: Sequence[Source]) -> str:
    """Tell the size from weights; a CheckpointError says that none or several fit."""
    sizes = fitting_sizes(dict(item for source in sources for item in source.telling_shapes.items()))
    if len(sizes) != 1:
        place = ", ".join(str(source.path) for source in sources)
        fitting = f"fits several sizes ({', '.join(sizes)})" if sizes else "fits no known size"
        raise CheckpointError(f"{place} {fitting}; say which model is meant with --size: {', '.join(size_names())}")
    return sizes[0]


def size_hint(shapes: Shapes, *, name: str) -> str:
    """Return "; it fits flant5xxl" where weights that do not fit the model `name` are those of another size."""
    sizes = [f"sevila_{size}" for size in fitting_sizes(shapes)] if shapes else []
    return f"; it fits {' or '.join(sizes)}" if sizes and name not in sizes else ""


def inspect(path: str | Path) -> dict[str, Any]:
    """Say what a weight file or folder is, from its content.

    Returns:
        JSON values: the models it fits (`sizes`), tensors as the file counts them, with aliases and what is of no use
        (`left_out`), what it holds of each part, parts that a whole model has besides (`missing`), and where each part
        came from, if a manifest says so (`origins`).

    Raises:
        CheckpointError: nothing there, damaged, or of no known kind.
    """
    source = open_source(path)
    manifest = read_manifest(source.path) if source.path.is_dir() else None
    # Such files hold two biases where we have one.
    halved = source.scheme.name in ("published", "eva")
    halves = sum(name.endswith("qkv.bias") for name in source.weights) if halved else 0
    fitting = [f"sevila_{size}" for size in fitting_sizes(source.telling_shapes)]
    return {
        "path": str(path),
        "kind": source.kind,
        "sizes": [read_saved(source.path).name] if source.is_model_folder else fitting,
        "num_bytes": sum(file.stat().st_size for file in source.files),
        "num_tensors": len(source.weights) + halves + len(source.aliases) + len(source.left_out),
        "parts": [_described(part, source.weights) for part in short_groups(source.groups)],
        "left_out": source.left_out,
        "missing": short_groups(set(GROUPS) - source.groups),
        "origins": manifest.origins if manifest else {},
    }


def _described(part: str, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    own = [value for name, value in weights.items() if part in (group_of(name), name.partition(".")[0])]
    return {
        "name": part,
        "num_tensors": len(own),
        "num_parameters": sum(value.numel() for value in own),
        "num_bytes": sum(value.nbytes for value in own),
        "dtypes": dict(Counter(str(value.dtype).removeprefix("torch.") for value in own).most_common()),
    }


def verify(path: str | Path, *, size: str | None = None) -> tuple[list[str], list[str]]:
    """Check a model folder or a weight file: hashes, completeness, shapes, and that every number is finite.

    Args:
        size: the model a file is for, as in `read_config`; None tells it from the weights, or from the
            folder's own configuration.

    Returns:
        What was looked at, and what is wrong; weights are sound where nothing is.

    Raises:
        CheckpointError: there is nothing, or the manifest is damaged.
    """
    place = Path(path)
    weight_files(place)
    manifest = read_manifest(place) if place.is_dir() else None
    problems = manifest_problems(place, manifest) if manifest else []
    compared = f"{counted(len(manifest.files), 'file')} compared with their sha256" if manifest else ""
    checks = [compared or "no manifest: nothing to compare sha256 with"]
    try:
        source = open_source(place)
        model, expected = _model_of(source, size)
        found = check_source(source, expected, name=model)
    except UserError as error:
        return checks, [*problems, str(error)]
    tokenizer = place / TOKENIZER_FOLDER
    if source.is_model_folder and not read_tokenizer_files(tokenizer):
        problems.append(f"{TOKENIZER_FOLDER}/tokenizer.json is missing")
    elif source.is_model_folder:
        try:
            expected_shapes(read_saved(place), tokenizer=tokenizer)
        except UserError as error:
            problems.append(str(error))
    checks.append(f"{counted(len(found.weights), 'weight')} of {', '.join(short_groups(found.groups))} fit {model}")
    if missing := short_groups(set(GROUPS) - found.groups):
        checks.append(f"not a whole model: {', '.join(missing)} must come from elsewhere")
    if broken := [name for name, value in found.weights.items() if not bool(torch.isfinite(value).all())]:
        problems.append(f"{len(broken)} weights hold numbers that are not finite ({first_few(broken)})")
    else:
        checks.append("every number is finite")
    return checks, problems


def _model_of(source: Source, size: str | None) -> tuple[str, Shapes]:
    """Return the name and the shapes of the model that is asked for, that a folder says it is, or that a file fits."""
    if size is not None or source.is_model_folder:
        config = read_config(size) if size is not None else read_saved(source.path)
        return config.name, expected_shapes(config)
    sizes = fitting_sizes(source.telling_shapes)
    if not sizes:
        raise CheckpointError(f"{source.path} ({source.kind}) fits no known size; say which model is meant with --size")
    return f"sevila_{sizes[0]}", shapes_of_size(sizes[0])

"""The names of weights in published checkpoints, and in our modules: one table, read both ways.

Published names are those of SeViLA's and LAVIS' files. Two things are not a plain rename: the
vision tower stores `q_bias` and `v_bias` where our attention has one `qkv.bias` (the key bias is
zero), and buffers and aliases in published files carry nothing and are checked, then dropped.
"""

import re
from collections.abc import Mapping

import torch

from lavis.common.errors import CheckpointError

# `#` stands for a block number and `*` for the rest of the name.
_ROLE_TABLE = (
    ("query_tokens{role}", "{part}.queries"),
    ("ln_vision{role}.*", "{part}.norm.*"),
    ("t5_proj{role}.*", "{part}.proj.*"),
    ("Qformer{role}.bert.embeddings.LayerNorm.*", "{part}.qformer.layernorm.*"),
    ("Qformer{role}.bert.encoder.layer.#.attention.self.*", "{part}.qformer.encoder.layer.#.attention.attention.*"),
    (
        "Qformer{role}.bert.encoder.layer.#.crossattention.self.*",
        "{part}.qformer.encoder.layer.#.crossattention.attention.*",
    ),
    ("Qformer{role}.bert.encoder.layer.#.attention.output.*", "{part}.qformer.encoder.layer.#.attention.output.*"),
    (
        "Qformer{role}.bert.encoder.layer.#.crossattention.output.*",
        "{part}.qformer.encoder.layer.#.crossattention.output.*",
    ),
    ("Qformer{role}.bert.encoder.layer.#.intermediate_query.*", "{part}.qformer.encoder.layer.#.intermediate_query.*"),
    ("Qformer{role}.bert.encoder.layer.#.output_query.*", "{part}.qformer.encoder.layer.#.output_query.*"),
)
_SHARED_TABLE = (
    ("visual_encoder.cls_token", "vision.model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision.model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj.*", "vision.model.embeddings.patch_embedding.*"),
    ("visual_encoder.blocks.#.norm1.*", "vision.model.encoder.layers.#.layer_norm1.*"),
    ("visual_encoder.blocks.#.norm2.*", "vision.model.encoder.layers.#.layer_norm2.*"),
    ("visual_encoder.blocks.#.attn.qkv.weight", "vision.model.encoder.layers.#.self_attn.qkv.weight"),
    ("visual_encoder.blocks.#.attn.proj.*", "vision.model.encoder.layers.#.self_attn.projection.*"),
    ("visual_encoder.blocks.#.mlp.*", "vision.model.encoder.layers.#.mlp.*"),
    ("t5_model.*", "language.model.*"),
)
_TABLE = (
    tuple(
        (published.format(role=role), ours.format(part=part))
        for role, part in (("_loc", "localizer"), ("", "answerer"))
        for published, ours in _ROLE_TABLE
    )
    + _SHARED_TABLE
)

_EMBEDDING = "t5_model.shared.weight"
_EMBEDDING_ALIASES = ("t5_model.encoder.embed_tokens.weight", "t5_model.decoder.embed_tokens.weight")
_POSITION_IDS = re.compile(r"Qformer(_loc)?\.bert\.embeddings\.position_ids")
_SPLIT_BIAS = re.compile(r"(visual_encoder\.blocks\.\d+\.attn)\.([qv])_bias")
_FUSED_BIAS = re.compile(r"vision\.model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.bias")


def _compile(table: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    def pattern(template: str) -> re.Pattern[str]:
        return re.compile(re.escape(template).replace(r"\#", r"(\d+)").replace(r"\*", r"(.+)"))

    def replacement(template: str) -> str:
        numbers = iter(range(1, 9))
        return "".join(f"\\{next(numbers)}" if char in "#*" else char for char in template)

    return tuple((pattern(source), replacement(target)) for source, target in table)


_TO_OURS = _compile(_TABLE)
_TO_PUBLISHED = _compile(tuple((ours, published) for published, ours in _TABLE))


def _rename(name: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, replacement in rules:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(replacement)
    return None


def our_name(published: str) -> str | None:
    """Return our name of a published parameter, or None for buffers, aliases and unknown names.

    `q_bias` and `v_bias` both map to the fused `qkv.bias`.
    """
    split = _SPLIT_BIAS.fullmatch(published)
    if split:
        return _rename(f"{split[1]}.qkv.weight", _TO_OURS)[: -len("weight")] + "bias"  # type: ignore[index]
    if published in _EMBEDDING_ALIASES:
        return None
    return _rename(published, _TO_OURS)


def published_name(ours: str) -> str | None:
    """Return the published name of one of our parameters; None for the fused `qkv.bias` and unknown names."""
    return None if _FUSED_BIAS.fullmatch(ours) else _rename(ours, _TO_PUBLISHED)


def is_buffer_or_alias(published: str) -> bool:
    """Tell whether a published entry carries no weight of its own."""
    return published in _EMBEDDING_ALIASES or _POSITION_IDS.fullmatch(published) is not None


def to_ours(published: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a published state dict, fusing attention biases and checking what is dropped.

    Raises:
        CheckpointError: a name that no published file has, an alias that differs from the matrix it
            stands for, or position ids that are not 0, 1, 2, ...
    """
    result: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in published.items():
        ours = our_name(name)
        if is_buffer_or_alias(name):
            _check_dropped(name, tensor, published)
        elif ours is None:
            unknown.append(name)
        elif not _SPLIT_BIAS.fullmatch(name):
            result[ours] = tensor
    if unknown:
        raise CheckpointError(f"{len(unknown)} unknown weight names, such as {unknown[0]!r}: not a SeViLA checkpoint")
    result.update(_fused_biases(published))
    return result


def to_published(ours: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename our state dict to the published names, splitting the fused attention biases.

    Raises:
        CheckpointError: a name that has no published counterpart, or a trained key bias.
    """
    result: dict[str, torch.Tensor] = {}
    for name, tensor in ours.items():
        fused = _FUSED_BIAS.fullmatch(name)
        renamed = published_name(name)
        if fused:
            query, key, value = tensor.chunk(3)
            if key.any():
                raise CheckpointError(f"{name} has a key bias; the published format has no place for it")
            prefix = f"visual_encoder.blocks.{fused[1]}.attn"
            result[f"{prefix}.q_bias"], result[f"{prefix}.v_bias"] = query.clone(), value.clone()
        elif renamed is None:
            raise CheckpointError(f"{name} has no name in the published format")
        else:
            result[renamed] = tensor
    return result


def _fused_biases(published: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefixes = {match[1] for match in map(_SPLIT_BIAS.fullmatch, published) if match}
    fused = {}
    for prefix in prefixes:
        try:
            query, value = published[f"{prefix}.q_bias"], published[f"{prefix}.v_bias"]
        except KeyError as error:
            raise CheckpointError(f"{error.args[0]} is missing: q_bias and v_bias only come together") from error
        name = our_name(f"{prefix}.q_bias")
        assert name is not None
        fused[name] = torch.cat([query, torch.zeros_like(query), value])
    return fused


def _check_dropped(name: str, tensor: torch.Tensor, published: Mapping[str, torch.Tensor]) -> None:
    if name in _EMBEDDING_ALIASES:
        same = _EMBEDDING not in published or torch.equal(tensor, published[_EMBEDDING])
    else:
        same = torch.equal(tensor.flatten().cpu(), torch.arange(tensor.numel()))
    if not same and not tensor.is_meta:
        raise CheckpointError(f"{name} differs from what it stands for; the file is damaged or not a SeViLA checkpoint")

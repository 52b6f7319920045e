"""Putting a whole model together from published files, or laying parts over a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lavis.common.errors import CheckpointError
from lavis.models.checkpoints.names import EMBEDDING, check_aliases
from lavis.models.checkpoints.schemes import GROUPS, group_of, short_groups
from lavis.models.checkpoints.sizes import POSITION_TABLE, Shapes, expected_shapes
from lavis.models.checkpoints.sources import Source, check_source
from lavis.models.sevila.config import SeViLAConfig
from lavis.models.vision.blip2 import interpolate_position_embedding

DERIVED_NOTE = "the localizer is a copy of the answerer's visual prompter and was not trained to find keyframes"
_GOOD_SOURCES = {
    "vision": "eva_vit_g.pth or a BLIP-2 folder",
    "language": "a Flan-T5 or BLIP-2 folder",
    "answerer": "sevila_pretrained.pth or blip2_pretrained_*.pth",
    "localizer": "sevila_pretrained.pth or qformer_loc.pth",
}


@dataclass(frozen=True)
class Assembled:
    """A whole model's weights, and what there is to say about them.

    Attributes:
        origins: part of the model -> where it came from.
        remarks: what was derived, resized or left out.
    """

    config: SeViLAConfig
    weights: dict[str, torch.Tensor]
    origins: dict[str, str]
    remarks: tuple[str, ...]


def assemble(sources: Sequence[Source], *, config: SeViLAConfig, over: Sequence[Source] = ()) -> Assembled:
    """Make a whole model of several files.

    A localizer that no file holds is copied from the answerer, which is how SeViLA's training starts
    (BLIP-2's Q-Former under two names).

    Args:
        sources: files that complete each other; none may hold what another one holds.
        over: files whose parts take the place of those in `sources`, a later one's those of an earlier one.

    Raises:
        CheckpointError: a part is in no file or in two, or a file does not fit the model.
    """
    expected = expected_shapes(config)
    resized = [_resize(source, expected) for source in (*sources, *over)]
    remarks = [remark for _, remark in resized if remark]
    checked = [check_source(source, expected, name=config.name) for source, _ in resized]
    weights: dict[str, torch.Tensor] = {}
    owners: dict[str, Source] = {}
    for number, source in enumerate(checked):
        if number < len(sources):
            _refuse_doubles(source, owners)
        owners.update(dict.fromkeys(source.groups, source))
        weights.update(source.weights)
        if source.left_out:
            remarks.append(f"{source.path}: {len(source.left_out)} entries of no use were left out")
    origins = {group: str(owner.path) for group, owner in owners.items()}
    derived = not any(group.startswith("localizer.") for group in owners)
    if derived:
        weights |= _copy_of_answerer(weights)
        origins |= {
            f"localizer.{group.partition('.')[2]}": f"{origins[group]} (the answerer's)"
            for group in owners
            if group.startswith("answerer.")
        }
        remarks.append(DERIVED_NOTE)
    _refuse_gaps(weights, expected, origins)
    for source in checked:
        check_aliases(source.aliases, weights[EMBEDDING], place=str(source.path))
    ordered = {name: weights[name] for name in expected}
    return Assembled(_with_note(config, derived=derived, over=over), ordered, _by_part(origins), tuple(remarks))


def published_precision(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.dtype]:
    """Return the precision to store: the language model in bf16 as published code runs it, the rest as it came."""
    return {name: torch.bfloat16 for name in weights if name.startswith("language.")}


def _resize(source: Source, expected: Shapes) -> tuple[Source, str]:
    """Fit a square position table to the model's image size, as published code does."""
    table, wanted = source.weights.get(POSITION_TABLE), expected.get(POSITION_TABLE)
    if table is None or wanted is None or table.ndim != 3 or table.shape[::2] != wanted[::2]:
        return source, ""
    old, new = (_grid(shape[1]) for shape in (table.shape, wanted))
    if old is None or new is None or old == new:
        return source, ""
    weights = {**source.weights, POSITION_TABLE: interpolate_position_embedding(table, new)}
    remark = f"{source.path}: the position table was resized from {old}x{old} to {new}x{new} patches (bicubic)"
    return dataclasses.replace(source, weights=weights), remark


def _grid(num_positions: int) -> int | None:
    side = round((num_positions - 1) ** 0.5)
    return side if side * side == num_positions - 1 else None


def _refuse_doubles(source: Source, owners: Mapping[str, Source]) -> None:
    doubled = [group for group in GROUPS if group in source.groups and group in owners]
    if doubled:
        other = owners[doubled[0]].path
        parts = ", ".join(short_groups(set(doubled)))
        raise CheckpointError(
            f"both {other} and {source.path} hold {parts}; leave one out, or give the one that wins as --over"
        )


def _copy_of_answerer(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = "answerer."
    return {f"localizer.{name.removeprefix(own)}": value for name, value in weights.items() if name.startswith(own)}


def _refuse_gaps(weights: Mapping[str, torch.Tensor], expected: Shapes, origins: Mapping[str, str]) -> None:
    missing = {group_of(name) for name in expected if name not in weights}
    if missing:
        parts = short_groups(missing)
        hints = {_GOOD_SOURCES[part.partition(".")[0]] for part in parts}
        given = ", ".join(sorted(set(origins.values()))) or "nothing"
        raise CheckpointError(f"no file holds {', '.join(parts)}; besides {given}, give {'; '.join(sorted(hints))}")


def _by_part(origins: Mapping[str, str]) -> dict[str, str]:
    """Say it once for a role whose groups all came from one place."""
    result: dict[str, str] = {}
    for origin in dict.fromkeys(origins.values()):
        for part in short_groups({group for group, owner in origins.items() if owner == origin}):
            result[part] = origin
    order = [*GROUPS, "localizer", "answerer"]
    return dict(sorted(result.items(), key=lambda item: min(order.index(g) for g in order if g.startswith(item[0]))))


def _with_note(config: SeViLAConfig, *, derived: bool, over: Sequence[Source]) -> SeViLAConfig:
    """State what is known of the weights: a derived localizer is no longer one once a trained one lies over it."""
    note = config.weights.note
    localizer_replaced = any("localizer.qformer" in source.groups for source in over)
    if derived:
        note = DERIVED_NOTE
    elif note == DERIVED_NOTE and localizer_replaced:
        note = ""
    return dataclasses.replace(config, weights=dataclasses.replace(config.weights, note=note))

"""Putting whole models together from weight files, laying parts over them, and giving them the published names."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lavis.common.errors import CheckpointError, ConfigError, UserError, did_you_mean, first_line
from lavis.common.files import written_whole
from lavis.models.checkpoints.weights_io import (
    TOKENIZER_FOLDER,
    Shapes,
    read_manifest,
    read_tokenizer_files,
    stream_weights,
    write_folder,
)
from lavis.models.sevila.config import SeViLAConfig, WeightsConfig, read_config, read_saved, tokenizer_source
from lavis.models.sevila.known_files import (
    POSITION_TABLE,
    Source,
    check_aliases,
    check_source,
    detect_size,
    expected_shapes,
    open_source,
    to_published,
)
from lavis.models.sevila.names import EMBEDDING, GROUPS, group_of, short_groups
from lavis.models.vision.blip2 import interpolate_position_embedding

PARTS = ("vision", "localizer", "answerer", "language")
_LANGUAGE_DTYPES = ("bf16", "keep")
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

    def write(self, out: str | Path, *, tokenizer: dict[str, bytes], dtypes: Mapping[str, torch.dtype]) -> None:
        """Write the model to a folder; see `write_folder`."""
        name, config = self.config.name, self.config.as_json()
        write_folder(
            Path(out), self.weights, name=name, config=config, tokenizer=tokenizer, origins=self.origins, dtypes=dtypes
        )


def convert(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    size: str | None = None,
    over: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    language_dtype: str = "bf16",
) -> Assembled:
    """Assemble a model folder from weight files of any known kind.

    Every file is mapped, not read: beside the mapped files, one tensor at a time is in memory.

    Args:
        paths: files or folders that complete each other.
        size: a configured size, or a configuration file; None tells it from the weights.
        over: files whose parts win over those in `paths`.
        tokenizer: folder with `tokenizer.json`; None looks in the given folders, then where the
            configuration says.
        image_size: side of the frames in pixels; the position table is resized to it.
        language_dtype: "bf16" stores the language model as published code runs it, "keep" as it comes.

    Raises:
        CheckpointError: see `assemble`; no tokenizer is at hand, or it does not go with the model.
        ConfigError: an unknown size or precision.
    """
    if language_dtype not in _LANGUAGE_DTYPES:
        raise ConfigError(f"unknown precision {language_dtype!r}; {did_you_mean(language_dtype, _LANGUAGE_DTYPES)}")
    given, winning = [open_source(path) for path in paths], [open_source(path) for path in over]
    config = dataclasses.replace(read_config(size or detect_size([*given, *winning])), weights=WeightsConfig())
    if image_size is not None:
        config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=image_size))
    place = _find_tokenizer(tokenizer, [source.path for source in (*given, *winning)], config)
    expected_shapes(config, tokenizer=place)
    assembled = assemble(given, config=config, over=winning)
    halved = [name for name in assembled.weights if name.startswith("language.") and language_dtype == "bf16"]
    assembled.write(out, tokenizer=read_tokenizer_files(place), dtypes=dict.fromkeys(halved, torch.bfloat16))
    return assembled


def merge(base: str | Path, parts: Sequence[str | Path], out: str | Path) -> Assembled:
    """Lay parts over the model folder `base`: a later one wins over an earlier one.

    Raises:
        CheckpointError: the base is not a whole model, or a part does not fit it.
    """
    folder = Path(base)
    config, tokenizer = read_saved(folder), read_tokenizer_files(folder / TOKENIZER_FOLDER)
    assembled = assemble([open_source(folder)], config=config, over=[open_source(part) for part in parts])
    manifest = read_manifest(folder)
    # What the base was made of is still true of the parts that stay.
    older = manifest.origins if manifest else {}
    kept = {part: older.get(part, origin) for part, origin in assembled.origins.items() if origin == str(folder)}
    assembled = dataclasses.replace(assembled, origins={**assembled.origins, **kept})
    assembled.write(out, tokenizer=tokenizer, dtypes={})
    return assembled


def export_published(source: str | Path, out: str | Path, *, parts: Sequence[str] = PARTS) -> int:
    """Write parts as published code does, to a `.pth` or `.safetensors` file; return the number of entries.

    Raises:
        CheckpointError: the source lacks a part, or holds what the published format has no place for.
        ConfigError: an unknown part, or another kind of file.
    """
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"no part {part!r} to export; {did_you_mean(part, PARTS)}")
    target = Path(out)
    if target.suffix not in (".pth", ".safetensors"):
        raise ConfigError(f"cannot export to {target}: its name must end in .pth or .safetensors")
    found = open_source(source)
    lacking = [part for part in parts if not any(group.partition(".")[0] == part for group in found.groups)]
    if lacking:
        raise CheckpointError(f"{source} holds no {', '.join(lacking)}")
    published = to_published({name: value for name, value in found.weights.items() if name.partition(".")[0] in parts})
    try:
        with written_whole(target) as temporary, temporary.open("wb") as file:
            if target.suffix == ".pth":
                # A tensor mapped from a file may be a view of all of it, and all of it would be saved.
                whole = {name for name, value in published.items() if value.untyped_storage().nbytes() == value.nbytes}
                own = {name: value if name in whole else value.clone() for name, value in published.items()}
                torch.save({"model": own}, file)
            else:
                stream_weights(file, published, metadata={"format": "pt"})
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {target}: {first_line(error)}") from error
    return len(published)


def _find_tokenizer(chosen: str | Path | None, places: Sequence[Path], config: SeViLAConfig) -> Path:
    configured = Path(tokenizer_source(config.language))
    candidates = [Path(chosen)] if chosen else [*places, *(place / TOKENIZER_FOLDER for place in places), configured]
    for place in candidates:
        if read_tokenizer_files(place):
            return place
    where = chosen or "any of the given folders"
    raise CheckpointError(f"no tokenizer.json in {where}; give --tokenizer FOLDER with that of {configured}")


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
        doubled = short_groups(source.groups & owners.keys())
        if doubled and number < len(sources):
            other = owners[min(source.groups & owners.keys(), key=GROUPS.index)].path
            raise CheckpointError(
                f"both {other} and {source.path} hold {', '.join(doubled)}; leave one out, or give the one that wins "
                "as --over"
            )
        owners.update(dict.fromkeys(source.groups, source))
        weights.update(source.weights)
        if source.left_out:
            remarks.append(f"{source.path}: {len(source.left_out)} entries of no use were left out")
    origins = {group: str(owner.path) for group, owner in owners.items()}
    note = config.weights.note
    if not any(group.startswith("localizer.") for group in owners):
        note = DERIVED_NOTE
        remarks.append(note)
        weights |= {_localizers(name): value for name, value in weights.items() if name.startswith("answerer.")}
        origins |= {
            _localizers(group): f"{origins[group]} (the answerer's)"
            for group in owners
            if group.startswith("answerer.")
        }
    elif note == DERIVED_NOTE and any("localizer.qformer" in source.groups for source in over):
        note = ""  # a trained localizer lies over the copy
    _refuse_gaps(weights, expected, origins)
    for source in checked:
        check_aliases(source, weights[EMBEDDING])
    config = dataclasses.replace(config, weights=dataclasses.replace(config.weights, note=note))
    return Assembled(config, {name: weights[name] for name in expected}, _by_part(origins), tuple(remarks))


def _localizers(name: str) -> str:
    return name.replace("answerer.", "localizer.", 1)


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
    for group in GROUPS:
        part = group.partition(".")[0]
        places = {origin for other, origin in origins.items() if other.partition(".")[0] == part}
        result[part if len(places) == 1 else group] = origins[group]
    return result

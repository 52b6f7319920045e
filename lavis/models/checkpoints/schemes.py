"""The naming schemes of weight files, told apart by what a file holds and not by what it is called."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lavis.common.errors import CheckpointError
from lavis.models.checkpoints import names
from lavis.models.checkpoints.names import NameTable

ROLES = ("localizer", "answerer")
_ROLE_GROUPS = ("queries", "norm", "qformer", "proj")
# What a file holds whole or not at all; in this order they make a model.
GROUPS = ("vision", *(f"{role}.{group}" for role in ROLES for group in _ROLE_GROUPS), "language")


@dataclass(frozen=True)
class Scheme:
    """One way to name weights.

    Attributes:
        what: in words, for people.
        marker: names that only this scheme has; the scheme with most of them is the file's.
        leftovers: names the scheme's files may hold and no model of ours reads.
        has_last_block: files hold one vision block more than BLIP-2 reads.
    """

    name: str
    what: str
    marker: re.Pattern[str]
    table: NameTable
    leftovers: re.Pattern[str] | None = None
    has_last_block: bool = False


def _scheme(name: str, what: str, marker: str, table: NameTable, *, leftovers: str = "", **more: bool) -> Scheme:
    return Scheme(name, what, re.compile(marker), table, re.compile(leftovers) if leftovers else None, **more)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        _scheme("sevila", "saved by this package", r"(vision|localizer|answerer|language)\..+", names.OURS),
        _scheme(
            "published",
            "SeViLA's and LAVIS' names",
            r"(query_tokens(_loc)?|(ln_vision|Qformer|t5_proj)(_loc)?\..+|(visual_encoder|t5_model)\..+)",
            names.PUBLISHED,
        ),
        _scheme(
            "eva",
            "EVA's ViT-g",
            r"(cls_token|pos_embed|patch_embed\..+|blocks\.\d+\..+)",
            names.EVA,
            leftovers=r"(norm|fc_norm|head|lm_head)\..+|mask_token",
            has_last_block=True,
        ),
        _scheme(
            "blip2_hub",
            "BLIP-2 of transformers",
            r"(query_tokens|(vision_model|qformer|language_projection|language_model)\..+)",
            names.HUB_BLIP2,
        ),
        _scheme(
            "t5_hub",
            "T5 of transformers",
            r"(shared|lm_head)\.weight|(encoder|decoder)\.(block|final_layer_norm|embed_tokens)\..+",
            names.HUB_T5,
            # An unused matrix of the first T5 files, which transformers leaves out as well.
            leftovers=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
        ),
    )
}

_KINDS = {
    ("published", frozenset(GROUPS)): "a whole SeViLA state dict",
    ("published", frozenset(GROUPS[1:-1])): "SeViLA's visual prompters (as sevila_pretrained.pth)",
    ("published", frozenset(GROUPS[1:5])): "a localizer (as qformer_loc.pth)",
    ("published", frozenset(GROUPS[5:9])): "BLIP-2's visual prompter (as blip2_pretrained_flant5xl.pth)",
    ("eva", frozenset({"vision"})): "EVA's ViT-g (as eva_vit_g.pth)",
    (
        "blip2_hub",
        frozenset({"vision", *GROUPS[5:]}),
    ): "BLIP-2 of transformers (as Salesforce/blip2-flan-t5-xl)",
    ("t5_hub", frozenset({"language"})): "T5 of transformers (as google/flan-t5-xl)",
    ("sevila", frozenset(GROUPS)): "a whole model of this package",
}


def detect_scheme(theirs: Mapping[str, object], *, place: str) -> Scheme:
    """Tell the naming scheme from the names.

    Raises:
        CheckpointError: the names belong to none.
    """
    counts = Counter({scheme.name: sum(map(bool, map(scheme.marker.fullmatch, theirs))) for scheme in SCHEMES.values()})
    name, count = counts.most_common(1)[0]
    if not count:
        raise CheckpointError(f"{place} belongs to no known model: it holds names such as {next(iter(theirs))!r}")
    return SCHEMES[name]


def describe_kind(scheme: Scheme, groups: frozenset[str]) -> str:
    """Say in words what a file with these groups is."""
    known = _KINDS.get((scheme.name, groups))
    return known or f"part of a model ({scheme.what}): {', '.join(short_groups(groups))}"


def group_of(name: str) -> str:
    """Return the group of one of our weights: "vision", "localizer.norm", ..."""
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if first in ROLES else first


def short_groups(groups: frozenset[str] | set[str]) -> list[str]:
    """List groups in the model's order, a role with all its groups as the role alone."""
    result = []
    for group in GROUPS:
        role = group.partition(".")[0]
        whole = role in ROLES and groups >= {f"{role}.{part}" for part in _ROLE_GROUPS}
        if group in groups and (role if whole else group) not in result:
            result.append(role if whole else group)
    return [*result, *sorted(groups - set(GROUPS))]

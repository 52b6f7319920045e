"""The names of SeViLA's weights: in published files and in our modules, as tables that are read both ways.

A file's naming scheme is told by what it holds and not by what it is called. Two things are not a plain rename.
Published vision towers store `q_bias` and `v_bias` where our attention has one `qkv.bias` (the key bias is zero).
Buffers and aliases in published files carry nothing of their own.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lavis.common.errors import CheckpointError

EMBEDDING = "language.model.shared.weight"
VISION_BLOCK = re.compile(r"vision\.model\.encoder\.layers\.(\d+)\..+")
ROLES = ("localizer", "answerer")
_ROLE_GROUPS = ("queries", "norm", "qformer", "proj")
# What a file holds whole or not at all; in this order they make a model.
GROUPS = ("vision", *(f"{role}.{group}" for role in ROLES for group in _ROLE_GROUPS), "language")

_QFORMER_LAYER = (
    ("attention.self", "attention.attention"),
    ("crossattention.self", "crossattention.attention"),
    *((name, name) for name in ("attention.output", "crossattention.output", "intermediate_query", "output_query")),
)
_ROLE_ROWS = (
    ("query_tokens{role}", "{part}.queries"),
    ("ln_vision{role}.*", "{part}.norm.*"),
    ("t5_proj{role}.*", "{part}.proj.*"),
    ("Qformer{role}.bert.embeddings.LayerNorm.*", "{part}.qformer.layernorm.*"),
    *(
        (f"Qformer{{role}}.bert.encoder.layer.#.{theirs}.*", f"{{part}}.qformer.encoder.layer.#.{ours}.*")
        for theirs, ours in _QFORMER_LAYER
    ),
)
_EVA_ROWS = (
    ("cls_token", "vision.model.embeddings.class_embedding"),
    ("pos_embed", "vision.model.embeddings.position_embedding"),
    ("patch_embed.proj.*", "vision.model.embeddings.patch_embedding.*"),
    ("blocks.#.norm1.*", "vision.model.encoder.layers.#.layer_norm1.*"),
    ("blocks.#.norm2.*", "vision.model.encoder.layers.#.layer_norm2.*"),
    ("blocks.#.attn.qkv.weight", "vision.model.encoder.layers.#.self_attn.qkv.weight"),
    ("blocks.#.attn.proj.*", "vision.model.encoder.layers.#.self_attn.projection.*"),
    ("blocks.#.mlp.*", "vision.model.encoder.layers.#.mlp.*"),
)
_HUB_BLIP2_ROWS = (
    ("query_tokens", "answerer.queries"),
    # transformers counts BLIP-2's `ln_vision` to the vision tower.
    ("vision_model.post_layernorm.*", "answerer.norm.*"),
    ("vision_model.*", "vision.model.*"),
    ("qformer.*", "answerer.qformer.*"),
    ("language_projection.*", "answerer.proj.*"),
    ("language_model.*", "language.model.*"),
)
_PUBLISHED_ROWS = (
    *(
        (theirs.format(role=role), ours.format(part=part))
        for role, part in (("_loc", "localizer"), ("", "answerer"))
        for theirs, ours in _ROLE_ROWS
    ),
    *((f"visual_encoder.{theirs}", ours) for theirs, ours in _EVA_ROWS),
    ("t5_model.*", "language.model.*"),
)

# The language model's embedding a second time, under our name.
ALIAS = re.compile(r"language\.model\.(encoder|decoder)\.embed_tokens\.weight")
POSITION_IDS = re.compile(r"(Qformer(_loc)?\.bert|qformer)\.embeddings\.position_ids")
SPLIT_BIAS = re.compile(r"(.*blocks\.\d+\.attn)\.([qv])_bias")
FUSED_BIAS = re.compile(r"vision\.model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.bias")


@dataclass(frozen=True)
class Scheme:
    """One way to name weights, and renaming between it and ours.

    Attributes:
        what: in words, for people.
        marker: names that only this scheme has; the scheme with most of them is the file's.
        rows: (theirs, ours); `#` stands for a block number, `*` for the rest of the name. The first
            row that fits counts.
        leftovers: names the scheme's files may hold and no model of ours reads.
        has_last_block: files hold one vision block more than BLIP-2 reads.
    """

    name: str
    what: str
    marker: str
    rows: tuple[tuple[str, str], ...]
    leftovers: str = "(?!)"  # nothing
    has_last_block: bool = False

    def ours(self, theirs: str) -> str | None:
        """Return our name of a weight, or None for unknown names; `q_bias` and `v_bias` both map to `qkv.bias`."""
        if split := SPLIT_BIAS.fullmatch(theirs):
            weight = _rename(f"{split[1]}.qkv.weight", self.rows)
            return weight and weight.removesuffix("weight") + "bias"
        return _rename(theirs, self.rows)

    def theirs(self, ours: str) -> str | None:
        """Return their name of one of our weights; None for the fused `qkv.bias` and unknown names."""
        return _rename(ours, ((ours, theirs) for theirs, ours in self.rows))


def _rename(name: str, rows: Iterable[tuple[str, str]]) -> str | None:
    for before, after in rows:
        pattern, replacement = _rule(before, after)
        if match := pattern.fullmatch(name):
            return match.expand(replacement)
    return None


@functools.cache
def _rule(before: str, after: str) -> tuple[re.Pattern[str], str]:
    numbers = iter(range(1, 9))
    replacement = "".join(f"\\{next(numbers)}" if char in "#*" else char for char in after)
    return re.compile(re.escape(before).replace(r"\#", r"(\d+)").replace(r"\*", r"(.+)")), replacement


PUBLISHED = Scheme(
    "published",
    "SeViLA's and LAVIS' names",
    r"(query_tokens(_loc)?|(ln_vision|Qformer|t5_proj)(_loc)?\..+|(visual_encoder|t5_model)\..+)",
    _PUBLISHED_ROWS,
)
_SCHEMES = (
    Scheme(
        "sevila",
        "saved by this package",
        r"(vision|localizer|answerer|language)\..+",
        tuple((f"{part}.*", f"{part}.*") for part in ("vision", *ROLES, "language")),
    ),
    PUBLISHED,
    Scheme(
        "eva",
        "EVA's ViT-g",
        r"(cls_token|pos_embed|patch_embed\..+|blocks\.\d+\..+)",
        _EVA_ROWS,
        leftovers=r"(norm|fc_norm|head|lm_head)\..+|mask_token",
        has_last_block=True,
    ),
    Scheme(
        "blip2_hub",
        "BLIP-2 of transformers",
        r"(query_tokens|(vision_model|qformer|language_projection|language_model)\..+)",
        _HUB_BLIP2_ROWS,
    ),
    Scheme(
        "t5_hub",
        "T5 of transformers",
        r"(shared|lm_head)\.weight|(encoder|decoder)\.(block|final_layer_norm|embed_tokens)\..+",
        (("*", "language.model.*"),),
        # An unused matrix of the first T5 files, which transformers leaves out as well.
        leftovers=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    ),
)

# What a file with these groups is, in words.
KINDS = {
    ("published", frozenset(GROUPS)): "a whole SeViLA state dict",
    ("published", frozenset(GROUPS[1:-1])): "SeViLA's visual prompters (as sevila_pretrained.pth)",
    ("published", frozenset(GROUPS[1:5])): "a localizer (as qformer_loc.pth)",
    ("published", frozenset(GROUPS[5:9])): "BLIP-2's visual prompter (as blip2_pretrained_flant5xl.pth)",
    ("eva", frozenset({"vision"})): "EVA's ViT-g (as eva_vit_g.pth)",
    ("blip2_hub", frozenset(GROUPS[:1] + GROUPS[5:])): "BLIP-2 of transformers (as Salesforce/blip2-flan-t5-xl)",
    ("t5_hub", frozenset({"language"})): "T5 of transformers (as google/flan-t5-xl)",
    ("sevila", frozenset(GROUPS)): "a whole model of this package",
}


def detect_scheme(theirs: Mapping[str, object], *, place: str) -> Scheme:
    """Tell the naming scheme from the names; a CheckpointError says that they belong to none."""
    counts = Counter({scheme: sum(map(bool, map(re.compile(scheme.marker).fullmatch, theirs))) for scheme in _SCHEMES})
    scheme, count = counts.most_common(1)[0]
    if not count:
        raise CheckpointError(f"{place} belongs to no known model: it holds names such as {next(iter(theirs))!r}")
    return scheme


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

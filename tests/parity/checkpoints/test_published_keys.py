"""Every weight of every published file has its place in our models at full size, and the other way round."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from lavis.common.errors import CheckpointError
from lavis.models.checkpoints.weights_io import shapes_of
from lavis.models.sevila.known_files import Source, check_source, detect_size, identify, shapes_of_size, to_published
from lavis.models.sevila.names import GROUPS, short_groups

GOLDEN = Path(__file__).parent / "golden"
KEYS = json.loads(gzip.decompress((GOLDEN / "published_keys.json.gz").read_bytes()))
STATE_DICT = {name: shape for name, (shape, _, _) in KEYS["state_dict_xl"].items()}
STATE_DICTS = {
    "flant5xl": STATE_DICT,
    "flant5xxl": STATE_DICT | KEYS["state_dict_xxl: other shapes"],
}
FILES = {name: entry["keys"] for name, entry in KEYS["files"].items()}
FILES["blip2_pretrained_flant5xl.pth with aliases"] = (
    FILES["blip2_pretrained_flant5xl.pth"] | KEYS["files"]["blip2_pretrained_flant5xl.pth"]["possibly_also"]
)
FILES["blip2_pretrained_flant5xxl.pth"] = (
    FILES["blip2_pretrained_flant5xl.pth with aliases"] | KEYS["blip2_pretrained_flant5xxl.pth: other shapes"]
)
# file -> (scheme, parts, model it belongs to, entries that are no parameter of ours)
EXPECTED = {
    "sevila_pretrained.pth": ("published", ["localizer", "answerer"], "flant5xl", 2),
    "blip2_pretrained_flant5xl.pth": ("published", ["answerer"], "flant5xl", 1),
    "blip2_pretrained_flant5xl.pth with aliases": ("published", ["answerer"], "flant5xl", 3),
    "blip2_pretrained_flant5xxl.pth": ("published", ["answerer"], "flant5xxl", 3),
    "qformer_loc.pth": ("published", ["localizer"], "flant5xl", 1),
    # The last of 40 blocks is not read: 13 entries, 12 once the halves of its bias are one.
    "eva_vit_g.pth": ("eva", ["vision"], "flant5xl", 12),
}


def on_meta(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def opened(file: str) -> Source:
    return identify(on_meta(FILES[file]), path=Path(file))


@pytest.mark.parametrize("size", STATE_DICTS)
def test_the_published_state_dict_is_our_model_name_by_name_and_shape_by_shape(size: str) -> None:
    ours = shapes_of(identify(on_meta(STATE_DICTS[size]), path=Path(size)).weights)
    assert ours == shapes_of_size(size)


@pytest.mark.parametrize("size", STATE_DICTS)
def test_our_model_is_the_published_state_dict_name_by_name_and_shape_by_shape(size: str) -> None:
    ours = {name: torch.empty(shape, device="meta") for name, shape in shapes_of_size(size).items()}
    published = to_published(ours)
    assert {name: list(value.shape) for name, value in published.items()} == STATE_DICTS[size]


def test_the_state_dicts_have_as_many_parameters_as_published() -> None:
    kinds = [kind for _, _, kind in KEYS["state_dict_xl"].values()]
    assert (kinds.count("param"), kinds.count("buffer"), kinds.count("alias")) == (1587, 2, 2)
    # Two published bias vectors per vision block are one of ours.
    assert len(shapes_of_size("flant5xl")) == 1587 - 39


@pytest.mark.parametrize("file", EXPECTED)
def test_every_entry_of_a_published_file_has_its_place(file: str) -> None:
    scheme, parts, size, num_others = EXPECTED[file]
    found = check_source(opened(file), shapes_of_size(size), name=f"sevila_{size}")
    assert found.scheme.name == scheme
    assert short_groups(found.groups) == parts
    num_halves = sum(name.endswith("q_bias") for name in FILES[file] if not name.startswith("blocks.39."))
    assert len(found.aliases) + len(found.left_out) == num_others
    skipped = 1 if file == "eva_vit_g.pth" else 0  # the bias halves of the block that is not read
    assert len(found.weights) + num_halves + num_others + skipped == len(FILES[file])


@pytest.mark.parametrize("task", KEYS["saved_by_runner_xl"])
def test_what_published_training_saves_is_known_for_every_task(task: str) -> None:
    shapes = {name: STATE_DICT[name] for name in KEYS["saved_by_runner_xl"][task]}
    found = check_source(identify(on_meta(shapes), path=Path(task)), shapes_of_size("flant5xl"), name="sevila_flant5xl")
    assert found.groups <= set(GROUPS[1:-1])
    assert len(found.weights) + len(found.aliases) + len(found.left_out) == len(shapes)


@pytest.mark.parametrize(
    ("file", "other", "fits"),
    [
        ("sevila_pretrained.pth", "flant5xxl", "sevila_flant5xl"),
        ("blip2_pretrained_flant5xxl.pth", "flant5xl", "sevila_flant5xxl"),
        ("eva_vit_g.pth", "base", "sevila_flant5xl or sevila_flant5xxl"),
    ],
)
def test_a_file_of_another_size_is_refused_and_its_size_named(file: str, other: str, fits: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^{file} does not fit the model sevila_{other}: .*it fits {fits}$"):
        check_source(opened(file), shapes_of_size(other), name=f"sevila_{other}")


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("sevila_pretrained.pth", "flant5xl"),
        ("qformer_loc.pth", "flant5xl"),
        ("blip2_pretrained_flant5xxl.pth", "flant5xxl"),
    ],
)
def test_the_size_is_told_from_the_weights(file: str, size: str) -> None:
    assert detect_size([opened(file)]) == size


@pytest.mark.parametrize("file", EXPECTED)
def test_a_published_file_that_lacks_any_one_weight_is_refused(file: str) -> None:
    _, _, size, _ = EXPECTED[file]
    extra_block = [name for name in FILES[file] if name.startswith("blocks.39.")]
    required = [
        name
        for name in FILES[file]
        if name not in extra_block and "position_ids" not in name and not name.startswith("t5_model.")
    ]
    for name in required[:: max(1, len(required) // 3)]:
        lacking = {key: shape for key, shape in FILES[file].items() if key != name}
        found = identify_or_error(lacking, file)
        if isinstance(found, Source):
            alone = name.startswith("query_tokens")  # a group of one tensor is missing as a whole
            if alone:
                assert len(found.groups) == len(opened(file).groups) - 1
                continue
            with pytest.raises(CheckpointError, match="1 missing"):
                check_source(found, shapes_of_size(size), name=f"sevila_{size}")
        else:
            assert "come together" in str(found)


def identify_or_error(shapes: dict[str, list[int]], file: str) -> Source | CheckpointError:
    try:
        return identify(on_meta(shapes), path=Path(file))
    except CheckpointError as error:
        return error

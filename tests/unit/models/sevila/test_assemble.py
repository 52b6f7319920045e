import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavis.common.errors import CheckpointError, ConfigError
from lavis.models.checkpoints.weights_io import state_of
from lavis.models.sevila.config import SeViLAConfig
from lavis.models.sevila.convert import DERIVED_NOTE, convert, merge
from lavis.models.sevila.model import SeViLA

SavePublished = Callable[[str], Path]


def weights_of(model: SeViLA) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in state_of(model).items()}


def differing(folder: Path, wanted: dict[str, torch.Tensor]) -> set[str]:
    """The parts of the model in a folder that hold other numbers than wanted."""
    found = load_file(folder / "model.safetensors")
    assert found.keys() == wanted.keys()
    return {name.partition(".")[0] for name in wanted if not torch.equal(found[name].float(), wanted[name].float())}


@pytest.mark.parametrize(
    "files",
    [
        ["eva_vit_g.pth", "flan-t5", "sevila_pretrained.pth"],
        ["eva_vit_g.pth", "flan-t5", "blip2_pretrained.pth", "qformer_loc.pth"],
        ["whole.pth", ("tokenizer", "flan-t5")],
    ],
)
def test_published_files_make_the_model_they_were_published_from(
    files: list[str], model: SeViLA, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    paths = [save_published(file) for file in files if isinstance(file, str)]
    convert(paths, tmp_path / "made", size=size_file)
    assert differing(tmp_path / "made", weights_of(model)) == set()
    assert SeViLA.from_pretrained(tmp_path / "made").caveats == ()


def test_it_says_which_part_came_from_which_file_and_what_was_left_out(
    save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    eva, language, prompters = map(save_published, ("eva_vit_g.pth", "flan-t5", "sevila_pretrained.pth"))
    made = convert([eva, language, prompters], tmp_path / "made", size=size_file)
    assert made.origins == {
        "vision": str(eva),
        "localizer": str(prompters),
        "answerer": str(prompters),
        "language": str(language),
    }
    # EVA: 12 weights of the block that is not read and the final norm; the two prompters: position ids.
    assert made.remarks == (
        f"{eva}: 14 entries of no use were left out",
        f"{prompters}: 2 entries of no use were left out",
    )
    assert json.loads((tmp_path / "made" / "manifest.json").read_text())["origins"] == made.origins


def test_without_a_localizer_it_starts_as_blip2s_prompter_and_says_so(
    model: SeViLA, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    paths = [save_published(name) for name in ("eva_vit_g.pth", "flan-t5", "blip2_pretrained.pth")]
    made = convert(paths, tmp_path / "made", size=size_file)
    assert differing(tmp_path / "made", weights_of(model)) == {"localizer"}
    loaded = SeViLA.from_pretrained(tmp_path / "made")
    for name, value in loaded.localizer.state_dict().items():
        assert torch.equal(value, loaded.answerer.state_dict()[name])
    assert DERIVED_NOTE in made.remarks
    assert made.origins["localizer"] == f"{paths[2]} (the answerer's)"
    assert loaded.caveats == (DERIVED_NOTE,)


def test_a_trained_localizer_over_a_derived_one_ends_the_note(
    model: SeViLA, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    paths = [save_published(name) for name in ("eva_vit_g.pth", "flan-t5", "blip2_pretrained.pth")]
    convert(paths, tmp_path / "base", size=size_file)
    model.save_pretrained(tmp_path / "localizer", parts=["localizer"])
    made = merge(tmp_path / "base", [tmp_path / "localizer"], tmp_path / "merged")
    assert differing(tmp_path / "merged", weights_of(model)) == set()
    assert SeViLA.from_pretrained(tmp_path / "merged").caveats == ()
    assert made.origins["localizer"] == str(tmp_path / "localizer")
    assert made.origins["language"] == str(paths[1])


def test_merge_takes_published_files_and_the_later_one_wins(
    model: SeViLA, save_published: SavePublished, tmp_path: Path
) -> None:
    old = {name: value.clone() for name, value in weights_of(model).items()}
    first = save_published("qformer_loc.pth")
    with torch.no_grad():
        for parameter in model.localizer.parameters():
            parameter += 1
    model.save_pretrained(tmp_path / "second", parts=["localizer"])
    model.save_pretrained(tmp_path / "base")
    new = {name: value.clone() for name, value in weights_of(model).items()}
    merge(tmp_path / "base", [tmp_path / "second", first], tmp_path / "out")
    assert differing(tmp_path / "out", old) == set()
    merge(tmp_path / "base", [first, tmp_path / "second"], tmp_path / "out")
    assert differing(tmp_path / "out", new) == set()


def test_a_model_can_be_merged_in_place(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        model.localizer.queries += 1
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    merge(tmp_path / "base", [tmp_path / "part"], tmp_path / "base")
    assert differing(tmp_path / "base", weights_of(model)) == set()


def test_two_files_with_the_same_part_are_refused_unless_one_is_said_to_win(
    model: SeViLA, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    first = [save_published(name) for name in ("eva_vit_g.pth", "flan-t5", "blip2_pretrained.pth")]
    second = save_published("sevila_pretrained.pth")
    with pytest.raises(
        CheckpointError, match=r"both .*blip2_pretrained\.pth and .*sevila_pretrained\.pth hold answerer"
    ):
        convert([*first, second], tmp_path / "made", size=size_file)
    assert not (tmp_path / "made").exists()
    convert(first, tmp_path / "made", size=size_file, over=[second])
    assert differing(tmp_path / "made", weights_of(model)) == set()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["flan-t5", "sevila_pretrained.pth"], r"^no file holds vision; besides .*, give eva_vit_g\.pth or a BLIP-2"),
        (["eva_vit_g.pth", "flan-t5"], "^no file holds localizer, answerer; "),
        (["eva_vit_g.pth", "flan-t5", "qformer_loc.pth"], "^no file holds answerer; "),
    ],
)
def test_what_no_file_holds_is_named_with_where_it_is_found(
    files: list[str], message: str, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert([save_published(file) for file in files], tmp_path / "made", size=size_file)
    assert not (tmp_path / "made").exists()


def test_an_embedding_alias_of_another_language_model_is_refused(
    save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    paths = [save_published(name) for name in ("eva_vit_g.pth", "flan-t5", "blip2_pretrained.pth")]
    content = torch.load(paths[2], weights_only=True)
    alias = "t5_model.decoder.embed_tokens.weight"
    content["model"][alias] = content["model"][alias] + 1
    torch.save(content, paths[2])
    with pytest.raises(CheckpointError, match=r"t5_model\.decoder\.embed_tokens\.weight differs from the language"):
        convert(paths, tmp_path / "made", size=size_file)


def test_the_language_model_is_stored_in_bf16_or_as_it_came(
    save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    paths = [save_published(name) for name in ("eva_vit_g.pth", "flan-t5", "sevila_pretrained.pth")]
    dtypes = {}
    for choice in ("bf16", "keep"):
        convert(paths, tmp_path / choice, size=size_file, language_dtype=choice)
        found = load_file(tmp_path / choice / "model.safetensors")
        dtypes[choice] = {name.partition(".")[0]: value.dtype for name, value in found.items()}
    assert dtypes["keep"] == dict.fromkeys(("vision", "localizer", "answerer", "language"), torch.float32)
    assert dtypes["bf16"] == {**dtypes["keep"], "language": torch.bfloat16}
    with pytest.raises(ConfigError, match="unknown precision 'bf61'; did you mean 'bf16'"):
        convert(paths, tmp_path / "x", size=size_file, language_dtype="bf61")


def test_the_position_table_is_resized_to_another_image_size_and_it_says_so(
    model: SeViLA, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    path, tokens = save_published("whole.pth"), save_published("flan-t5")
    made = convert([path], tmp_path / "made", size=size_file, image_size=24, tokenizer=tokens)
    name = "vision.model.embeddings.position_embedding"
    table = load_file(tmp_path / "made" / "model.safetensors")[name]
    assert (table.shape, model.vision.model.embeddings.position_embedding.shape) == ((1, 37, 8), (1, 17, 8))
    assert f"{path}: the position table was resized from 4x4 to 6x6 patches (bicubic)" in made.remarks
    loaded = SeViLA.from_pretrained(tmp_path / "made")
    assert loaded.image_size == 24
    assert loaded.features(torch.zeros(1, 3, 24, 24)).shape == (1, 37, 8)


def test_without_a_tokenizer_it_is_said_how_to_give_one(
    save_published: SavePublished, config: SeViLAConfig, tmp_path: Path
) -> None:
    other = dataclasses.replace(config, language=dataclasses.replace(config.language, tokenizer="google/flan-t5-xl"))
    (tmp_path / "config.json").write_text(other.as_json(), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"^no tokenizer\.json in .*give --tokenizer FOLDER with that of google"):
        convert([save_published("whole.pth")], tmp_path / "made", size=str(tmp_path / "config.json"))


def test_a_size_that_nothing_tells_is_asked_for(save_published: SavePublished, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="fits no known size; say which model is meant with --size: base, flant5xl"
    ):
        convert([save_published("whole.pth")], tmp_path / "made")
    with pytest.raises(ConfigError, match="no size or configuration file 'flant5x'; did you mean 'flant5xl'"):
        convert([save_published("whole.pth")], tmp_path / "made", size="flant5x")


def test_a_tokenizer_that_does_not_know_yes_is_refused_before_anything_is_written(
    save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    tokens = save_published("flan-t5")
    text = (tokens / "tokenizer.json").read_text(encoding="utf-8")
    (tokens / "tokenizer.json").write_text(text.replace("yes", "aye"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"'yes' is .* this tokenizer"):
        convert([save_published("whole.pth")], tmp_path / "made", size=size_file, tokenizer=tokens)
    assert not (tmp_path / "made").exists()

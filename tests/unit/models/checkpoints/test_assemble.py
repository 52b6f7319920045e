import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
)

from lavis.common.errors import CheckpointError, ConfigError
from lavis.models.checkpoints.assemble import DERIVED_NOTE
from lavis.models.checkpoints.convert import convert, export_published, merge
from lavis.models.checkpoints.names import to_ours
from lavis.models.checkpoints.safe import read_weights
from lavis.models.checkpoints.sizes import state_of
from lavis.models.checkpoints.sources import open_source
from lavis.models.language.t5 import t5_config
from lavis.models.sevila.config import SeViLAConfig
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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_export_gives_back_every_published_tensor(
    suffix: str, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    published = save_published("whole.pth")
    convert([published], tmp_path / "made", size=size_file, tokenizer=save_published("flan-t5"), language_dtype="keep")
    wanted = torch.load(published, weights_only=True)["model"]
    target = tmp_path / f"export{suffix}"
    assert export_published(tmp_path / "made", target) == len(wanted)
    found = read_weights(target)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert {name: value.dtype for name, value in found.items()} == {name: v.dtype for name, v in wanted.items()}


def test_the_export_of_the_prompters_is_as_large_as_they_are(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "made")
    export_published(tmp_path / "made", tmp_path / "prompters.pth", parts=["localizer", "answerer"])
    found = torch.load(tmp_path / "prompters.pth", weights_only=True)["model"]
    wanted = {name: value for name, value in weights_of(model).items() if name.startswith(("localizer.", "answerer."))}
    assert to_ours(found).keys() == wanted.keys()
    content = sum(value.nbytes for value in found.values())
    # A view of the whole file's storage would bring all of the model along.
    assert (tmp_path / "prompters.pth").stat().st_size < content + 500 * len(found)


def test_an_export_has_no_place_for_a_trained_key_bias(model: SeViLA, tmp_path: Path) -> None:
    with torch.no_grad():
        model.vision.model.encoder.layers[0].self_attn.qkv.bias += 1
    model.save_pretrained(tmp_path / "made")
    with pytest.raises(CheckpointError, match="has a key bias; the published format has no place for it"):
        export_published(tmp_path / "made", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    ("parts", "out", "message"),
    [
        (["localiser"], "a.pth", "no part 'localiser' to export; did you mean 'localizer'"),
        (["vision"], "a.pth", "holds no vision"),
        (["localizer"], "a.bin", r"its name must end in \.pth or \.safetensors"),
    ],
)
def test_impossible_exports_are_refused(
    parts: list[str], out: str, message: str, model: SeViLA, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    with pytest.raises((CheckpointError, ConfigError), match=message):
        export_published(tmp_path / "part", tmp_path / out, parts=parts)
    assert not (tmp_path / out).exists()


@pytest.fixture
def hub_blip2(config: SeViLAConfig, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """BLIP-2 as transformers itself builds it, and its state dict."""
    sizes, args = config.prompter, config.vision.args
    vision = Blip2VisionConfig(
        image_size=config.vision.image_size,
        patch_size=args["patch_size"],
        hidden_size=args["width"],
        num_hidden_layers=args["depth"],
        num_attention_heads=args["num_heads"],
        intermediate_size=args["intermediate_size"],
    )
    qformer = Blip2QFormerConfig(
        hidden_size=sizes["width"],
        num_hidden_layers=sizes["depth"],
        num_attention_heads=sizes["num_heads"],
        intermediate_size=sizes["intermediate_size"],
        encoder_hidden_size=args["width"],
        cross_attention_frequency=sizes["cross_attention_frequency"],
    )
    text = t5_config(**config.language.sizes)
    whole = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=sizes["num_queries"],
    )
    torch.manual_seed(3)
    state = {name: value.clone() for name, value in Blip2ForConditionalGeneration(whole).state_dict().items()}
    # transformers ties the output matrix when it builds; the hub's Flan-T5 has one of its own.
    state["language_model.lm_head.weight"] = torch.randn(1024, 8)
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    return folder, state


def test_the_hubs_blip2_and_sevilas_prompters_make_a_model(
    hub_blip2: tuple[Path, dict[str, torch.Tensor]],
    model: SeViLA,
    save_published: SavePublished,
    size_file: str,
    tmp_path: Path,
) -> None:
    folder, state = hub_blip2
    source = open_source(folder)
    assert source.kind == "BLIP-2 of transformers (as Salesforce/blip2-flan-t5-xl)"
    assert len(source.weights) + len(source.aliases) == len(state)
    over = [save_published("sevila_pretrained.pth")]
    made = convert(
        [folder],
        tmp_path / "made",
        size=size_file,
        over=over,
        tokenizer=save_published("flan-t5"),
        language_dtype="keep",
    )
    found = load_file(tmp_path / "made" / "model.safetensors")
    assert torch.equal(found["answerer.norm.weight"], model.answerer.norm.weight)
    block = "encoder.layers.1.self_attn.qkv.weight"
    assert torch.equal(found[f"vision.model.{block}"], state[f"vision_model.{block}"])
    assert torch.equal(found["language.model.lm_head.weight"], state["language_model.lm_head.weight"])
    assert made.origins == {
        "vision": str(folder),
        "localizer": str(over[0]),
        "answerer": str(over[0]),
        "language": str(folder),
    }


def test_the_hubs_blip2_gives_its_prompter_to_both_roles(
    hub_blip2: tuple[Path, dict[str, torch.Tensor]], save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    folder, state = hub_blip2
    convert([folder], tmp_path / "made", size=size_file, tokenizer=save_published("flan-t5"))
    found = load_file(tmp_path / "made" / "model.safetensors")
    for role in ("localizer", "answerer"):
        assert torch.equal(found[f"{role}.norm.bias"], state["vision_model.post_layernorm.bias"])
        assert torch.equal(found[f"{role}.queries"], state["query_tokens"])
        assert torch.equal(found[f"{role}.proj.weight"], state["language_projection.weight"])


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


def test_an_index_that_points_elsewhere_or_at_nothing_is_refused(save_published: SavePublished) -> None:
    folder = save_published("flan-t5")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing: .*index\.json lists it"):
        open_source(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret"}}')
    with pytest.raises(CheckpointError, match=r"names '\.\./secret', which is not a file beside it"):
        open_source(folder)


@pytest.mark.parametrize("names", [["a", "b"], ["resnet.conv1.weight"]])
def test_a_file_of_another_kind_of_model_is_refused(names: list[str], tmp_path: Path) -> None:
    save_file({name: torch.ones(1) for name in names}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="belongs to no known model: it holds names such as"):
        open_source(tmp_path / "other.safetensors")


def test_a_name_that_the_files_kind_does_not_have_is_unexpected(save_published: SavePublished) -> None:
    path = save_published("qformer_loc.pth")
    content = torch.load(path, weights_only=True)
    content["model"]["Qformer_loc.cls.predictions.bias"] = torch.ones(1)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"holds 1 unexpected weights \(Qformer_loc\.cls\.predictions\.bias\)"):
        open_source(path)

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

from lavis.models.language.t5 import t5_config
from lavis.models.sevila.config import SeViLAConfig
from lavis.models.sevila.convert import convert
from lavis.models.sevila.known_files import open_source
from lavis.models.sevila.model import SeViLA

SavePublished = Callable[[str], Path]


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

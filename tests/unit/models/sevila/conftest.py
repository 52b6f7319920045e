"""A model of a few thousand weights, and the published files it would have been published as."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lavis.common.files import checkpoints_dir
from lavis.models.checkpoints.weights_io import state_of
from lavis.models.sevila.config import LanguageConfig, SeViLAConfig, VisionConfig, WeightsConfig
from lavis.models.sevila.known_files import to_published
from lavis.models.sevila.model import SeViLA

CONFIG = SeViLAConfig(
    name="small",
    vision=VisionConfig(
        image_size=16, args={"patch_size": 4, "width": 8, "depth": 2, "num_heads": 2, "intermediate_size": 16}
    ),
    prompter={
        "num_queries": 2,
        "width": 8,
        "depth": 2,
        "num_heads": 2,
        "intermediate_size": 16,
        "cross_attention_frequency": 2,
    },
    language=LanguageConfig(
        sizes={
            "vocab_size": 1024,
            "d_model": 8,
            "d_kv": 4,
            "d_ff": 16,
            "num_layers": 1,
            "num_decoder_layers": 1,
            "num_heads": 2,
        },
        tokenizer="sevila_tiny/tokenizer",
    ),
    weights=WeightsConfig(seed=7),
)


@pytest.fixture(scope="session")
def config() -> SeViLAConfig:
    return CONFIG


@pytest.fixture
def model() -> SeViLA:
    """Weights that are all different, so that none can stand for another; key biases are zero, as published."""
    made = SeViLA.untrained(CONFIG)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, value in state_of(made).items():
            value.normal_(generator=generator)
            if name.endswith("qkv.bias"):
                value[8:16] = 0
            if name.startswith("language."):
                value.copy_(value.bfloat16())
    return made


@pytest.fixture
def size_file(tmp_path: Path) -> str:
    file = tmp_path / "small.json"
    file.write_text(CONFIG.as_json(), encoding="utf-8")
    return str(file)


@pytest.fixture
def save_published(model: SeViLA, tmp_path: Path) -> Callable[[str], Path]:
    """Write a file as it is published; the name says which."""
    ours = {name: value.detach().clone() for name, value in state_of(model).items()}
    whole = to_published(ours)
    folder = tmp_path / "published"
    folder.mkdir()

    def starting(*prefixes: str) -> dict[str, torch.Tensor]:
        return {name: value for name, value in whole.items() if name.startswith(prefixes)}

    answerer = ("query_tokens", "ln_vision.", "Qformer.", "t5_proj.")
    localizer = ("query_tokens_loc", "ln_vision_loc.", "Qformer_loc.", "t5_proj_loc.")
    answerer_only = {name: value for name, value in starting(*answerer).items() if name != "query_tokens_loc"}

    def eva() -> dict[str, torch.Tensor]:
        state = {name.removeprefix("visual_encoder."): value for name, value in starting("visual_encoder.").items()}
        last = {name.replace("blocks.1.", "blocks.2."): value for name, value in state.items() if "blocks.1." in name}
        return {**state, **last, "norm.weight": torch.ones(8), "norm.bias": torch.zeros(8)}

    def save(name: str) -> Path:
        path = folder / name
        if name == "eva_vit_g.pth":
            torch.save(eva(), path)
        elif name == "flan-t5":
            _save_flan_t5(path, starting("t5_model."))
        elif name == "blip2_pretrained.pth":
            aliases = {key: value for key, value in starting("t5_model.").items() if "embed_tokens" in key}
            torch.save({"model": {**answerer_only, **aliases}, "optimizer": {}, "epoch": 3}, path)
        elif name == "sevila_pretrained.pth":
            torch.save({"model": {**starting(*localizer), **answerer_only}}, path)
        elif name == "qformer_loc.pth":
            torch.save({"model": starting(*localizer)}, path)
        elif name == "whole.pth":
            torch.save({"model": whole}, path)
        else:
            raise AssertionError(name)
        return path

    return save


def _save_flan_t5(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Two safetensors files with an index, in fp32, as the hub has it."""
    folder.mkdir()
    plain = {name.removeprefix("t5_model."): value.float() for name, value in weights.items() if "embed" not in name}
    names = sorted(plain)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: plain[name].clone() for name in own}, folder / file)
    weight_map = {name: file for file, own in shards.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    for file in (checkpoints_dir() / "sevila_tiny" / "tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())

"""Tiny networks with random weights, as saved folders like those on the Hugging Face hub, and frames to look at."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from lavis.models.frames import FrameSource
from lavis.video import open_video

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WORDS = "what is the red blue square circle on left of a cat dog"
MOST_TOKENS = 12
_SHAPE = {"intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT: dict[str, Any] = {
    **_SHAPE,
    "hidden_size": 16,
    "max_position_embeddings": MOST_TOKENS,
    "vocab_size": 64,
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
}
_VISION = {**_SHAPE, "hidden_size": 16, "image_size": 32, "patch_size": 16}


def save_network(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Save a network of a family, "clip", "siglip", "siglip2" or "blip", with its image processor and tokenizer."""
    torch.manual_seed(seed)
    network, images = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip2, "blip": _blip}[family]()
    for weights in network.parameters():  # wide enough that pictures and texts make a difference
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.3)
    for part in (network, images, _tokenizer(keeps_mask=family != "siglip")):
        part.save_pretrained(folder)
    return folder


def parts_of(folder: Path) -> tuple[Any, Any]:
    """What the plain way of transformers prepares pictures and texts with."""
    return AutoImageProcessor.from_pretrained(folder, backend="pil"), AutoTokenizer.from_pretrained(folder)


def frames_of(video: Path, count: int = 6) -> FrameSource:
    """Every second frame of a video of 25 frames per second."""
    chosen = np.arange(count) * 2
    return FrameSource(chosen, chosen / 25, open_video=partial(open_video, video), chunk=4)


def _tokenizer(*, keeps_mask: bool) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS.split()))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    inputs = ["input_ids", "attention_mask"] if keeps_mask else ["input_ids"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names)


def _clip() -> tuple[Any, Any]:
    network = CLIPModel(CLIPConfig(text_config=dict(_TEXT), vision_config=dict(_VISION), projection_dim=8))
    return network, CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def _siglip() -> tuple[Any, Any]:
    network = SiglipModel(SiglipConfig(text_config={**_TEXT, "projection_size": 16}, vision_config=dict(_VISION)))
    return network, SiglipImageProcessorPil(size={"height": 32, "width": 32})


def _siglip2() -> tuple[Any, Any]:
    vision = {**{key: value for key, value in _VISION.items() if key != "image_size"}, "num_patches": 4}
    network = Siglip2Model(Siglip2Config(text_config={**_TEXT, "projection_size": 16}, vision_config=vision))
    return network, Siglip2ImageProcessorPil(patch_size=16, max_num_patches=4)


def _blip() -> tuple[Any, Any]:
    text = {**_TEXT, "encoder_hidden_size": 16}
    config = BlipConfig(text_config=text, vision_config=dict(_VISION), image_text_hidden_size=8, projection_dim=8)
    return BlipForImageTextRetrieval(config), BlipImageProcessorPil(size={"height": 32, "width": 32})

"""Stage 0: the stand-in for BLIP-2, made from nothing: language model, vision tower and prompters.

Language model and vision tower know nothing of each other until the prompter joins them, so they are made side by
side; both stay frozen from then on. What the three stages of training are to teach is not known to stage 0: only
words, never pictures, have taught the language model what "yes" and "no" mean; and the tower has seen the world by day,
where the videos of the stages are of the evening.
"""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from lavis.common.errors import ConfigError
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.config import read_config, tokenizer_source
from lavis.models.sevila.model import SeViLA
from lavis.models.vision.blip2 import Blip2VisionTower
from sevila_data.miniature.base_frames import read_pictures
from sevila_data.miniature.base_language import initialise, initialise_language, practise_language, train_language
from sevila_data.miniature.base_prompter import train_prompter
from sevila_data.miniature.base_vision import DenseHeads, initialise_vision, train_vision
from sevila_data.miniature.dataset import SPLITS

logger = logging.getLogger(__name__)

NOTE = "the weights were trained on a synthetic world of coloured shapes only; they know nothing of natural video"
_EVERY = 3  # of the base videos' frames; neighbours look alike


def make_language(folder: Path, *, seed: int, num_steps: int = 8000, num_practice: int = 3000) -> None:
    """Train the language model in words; save it in a model folder whose other parts have learned nothing."""
    model = initial_model(seed=seed)
    model.language.requires_grad_(True)  # noqa: FBT003  # torch's signature
    num_queries = model.answerer.num_queries
    train_language(model.language, num_queries=num_queries, seed=seed, num_steps=num_steps)
    practise_language(model.language, num_queries=num_queries, seed=seed, num_steps=num_practice)
    model.save_pretrained(folder)


def make_vision(
    folder: Path,
    data: Path,
    *,
    seed: int,
    data_seed: int = 0,
    num_videos: int = SPLITS["base"],
    num_steps: int = 3600,
) -> None:
    """Train the vision tower, and the Answerer's Q-Former with it, on the base videos' frames.

    Args:
        data: the data set; only its base videos are read.
        data_seed: that its videos were drawn with.
    """
    model = initial_model(seed=seed)
    patch_size = model.config.vision.args["patch_size"]
    pictures, videos = read_pictures(data, count=num_videos, seed=data_seed, every=_EVERY)
    logger.info("%d frames of %d videos", len(pictures), len(videos))
    heads = DenseHeads(vision_width=_tower(model).width, language_width=model.language.width, patch_size=patch_size)
    model.vision.requires_grad_(True)  # noqa: FBT003
    model.answerer.requires_grad_(True)  # noqa: FBT003
    train_vision(_tower(model), model.answerer, pictures, heads=heads, seed=seed, num_steps=num_steps)
    model.save_pretrained(folder)


def make_base(
    folder: Path,
    data: Path,
    language: Path,
    vision: Path,
    *,
    seed: int,
    data_seed: int = 0,
    num_videos: int = SPLITS["base"],
    num_steps: int = 500,
) -> None:
    """Join the language model and the vision tower of two model folders, and save the base.

    Args:
        data: the data set; only its base videos are read.
        data_seed: that its videos were drawn with.
    """
    model = SeViLA.from_pretrained(vision)
    model.language.load_state_dict(SeViLA.from_pretrained(language).language.state_dict())
    pictures, _ = read_pictures(data, count=num_videos, seed=data_seed, every=_EVERY)
    train_prompter(model, pictures, seed=seed, num_steps=num_steps)
    model.save_pretrained(folder)


def initial_model(*, seed: int) -> SeViLA:
    """Build the model with the initial weights that stage 0 learns from."""
    torch.manual_seed(seed)
    config = read_config("tiny")
    config = replace(config, weights=replace(config.weights, status="trained", note=NOTE))
    tokenizer = load_tokenizer(tokenizer_source(config.language))
    model = SeViLA.from_config(config, tokenizer=tokenizer).eval()
    use_plain_attention(model)
    initialise_language(model.language)
    initialise(model.answerer)
    initialise_vision(_tower(model), patch_size=config.vision.args["patch_size"])
    model.set_trainable(())
    return model


def use_plain_attention(model: SeViLA) -> None:
    """Let a model learn faster: for so few positions plain attention's backward pass takes half the time on a CPU."""
    for part in (_tower(model).model, model.localizer.qformer, model.answerer.qformer, model.language.model):
        part.set_attn_implementation("eager")


def _tower(model: SeViLA) -> Blip2VisionTower:
    if not isinstance(model.vision, Blip2VisionTower):
        raise ConfigError(f"the miniature trains the vision tower blip2_vit_g, not {model.config.vision.name}")
    return model.vision

"""Stage 0: the stand-in for BLIP-2, made from nothing: vision tower, Answerer's prompter and language model.

The three parts are made one after the other; vision tower and language model stay frozen from then on. What the
three stages of training are to teach is not known to it: the Localizer's prompter is a copy of the Answerer's,
and only words, never pictures, have taught the language model what "yes" and "no" mean.
"""

import logging
from pathlib import Path

import torch

from lavis.common.errors import ConfigError
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.build import build_sevila, tokenizer_source
from lavis.models.sevila.config import SeViLAConfig, read_size
from lavis.models.sevila.loading import with_weights_note
from lavis.models.sevila.model import SeViLA
from lavis.models.vision.blip2 import Blip2VisionTower
from sevila_data.miniature.base_frames import read_pictures
from sevila_data.miniature.base_language import initialise, initialise_language, train_language
from sevila_data.miniature.base_prompter import train_prompter
from sevila_data.miniature.base_vision import DenseHeads, initialise_vision, train_vision
from sevila_data.miniature.dataset import SPLITS

logger = logging.getLogger(__name__)

NOTE = "the weights were trained on a synthetic world of coloured shapes only; they know nothing of natural video"
_EVERY = 3  # of the base videos' frames; neighbours look alike


def make_base(
    folder: Path,
    data: Path,
    *,
    seed: int,
    num_videos: int = SPLITS["base"],
    vision_steps: int = 4000,
    language_steps: int = 2800,
    prompter_steps: int = 900,
) -> None:
    """Train the base and save it as a model folder.

    Args:
        data: the data set; only its base videos are read.
    """
    config = with_weights_note(read_size("tiny"), status="trained", note=NOTE)
    model = initial_model(config, seed=seed)
    model.language.requires_grad_(True)  # noqa: FBT003  # torch's signature
    train_language(model.language, num_queries=model.answerer.num_queries, seed=seed, num_steps=language_steps)
    model.set_trainable(())
    pictures, videos = read_pictures(data, count=num_videos, seed=seed, every=_EVERY)
    logger.info("%d frames of %d videos", len(pictures), len(videos))
    heads = DenseHeads(
        vision_width=_tower(model).width,
        language_width=model.language.width,
        patch_size=config.vision.args["patch_size"],
    )
    model.vision.requires_grad_(True)  # noqa: FBT003
    model.answerer.requires_grad_(True)  # noqa: FBT003
    train_vision(_tower(model), model.answerer, pictures, heads=heads, seed=seed, num_steps=vision_steps)
    train_prompter(model, pictures, videos, seed=seed, num_steps=prompter_steps)
    model.save_pretrained(folder)


def initial_model(config: SeViLAConfig, *, seed: int) -> SeViLA:
    """Build the model with the initial weights that stage 0 learns from."""
    torch.manual_seed(seed)
    model = build_sevila(config, tokenizer=load_tokenizer(tokenizer_source(config.language))).eval()
    initialise_language(model.language)
    initialise(model.answerer)
    initialise_vision(_tower(model), patch_size=config.vision.args["patch_size"])
    return model


def _tower(model: SeViLA) -> Blip2VisionTower:
    if not isinstance(model.vision, Blip2VisionTower):
        raise ConfigError(f"the miniature trains the vision tower blip2_vit_g, not {model.config.vision.name}")
    return model.vision

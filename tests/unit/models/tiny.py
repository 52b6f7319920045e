"""A model small enough to be built and run in milliseconds, and what its parts are asked in tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lavis.common.types import FrameBatch
from lavis.models.frames import FrameSource
from lavis.models.sevila.config import LanguageConfig, SeViLAConfig, VisionConfig, WeightsConfig
from lavis.models.sevila.model import SeViLA

IMAGE_SIZE, QUERIES, WIDTH = 32, 3, 24

CONFIG = SeViLAConfig(
    name="small",
    vision=VisionConfig(
        image_size=IMAGE_SIZE,
        args={"patch_size": 16, "width": 16, "depth": 1, "num_heads": 2, "intermediate_size": 32},
    ),
    prompter={"num_queries": QUERIES, "width": 16, "depth": 2, "num_heads": 2, "intermediate_size": 32},
    language=LanguageConfig(
        sizes={
            "vocab_size": 1024,
            "d_model": WIDTH,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 2,
        },
        tokenizer="sevila_tiny/tokenizer",
        max_text_length=77,
    ),
    weights=WeightsConfig(status="untrained", seed=3),
)


def with_language(**changes: Any) -> SeViLAConfig:
    """The configuration with some fields of its language model changed."""
    return replace(CONFIG, language=replace(CONFIG.language, **changes))


def with_vision(**changes: Any) -> SeViLAConfig:
    """The configuration with some fields of its vision tower changed."""
    return replace(CONFIG, vision=replace(CONFIG.vision, **changes))


def random_tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    """Frame tokens [*shape, Q, E] that stand for what a prompter would make."""
    return torch.randn(*shape, QUERIES, WIDTH, generator=torch.Generator().manual_seed(seed))


def random_pixels(num_frames: int, *, seed: int = 0) -> torch.Tensor:
    """Preprocessed frames [N, 3, H, W]."""
    return torch.randn(num_frames, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(seed))


def random_clip(num_frames: int, *, seed: int = 0) -> FrameBatch:
    """Decoded frames, one every half second."""
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    return FrameBatch(frames, np.arange(num_frames) * 12, np.arange(num_frames) / 2)


def frames_of(pixels: torch.Tensor, model: SeViLA, *, chunk: int = 32) -> FrameSource:
    """Prepared frames [N, 3, H, W], two a second, for a model to look at."""
    times_s = np.arange(len(pixels)) / 2
    return FrameSource(np.arange(len(pixels)), times_s, pixels=pixels, together=model.encoders, chunk=chunk)


def encoded(model: SeViLA, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each role reads of frames, [N, Q, E], by role."""
    frames = frames_of(pixels, model)
    return {encoder.name: frames.encoded(encoder) for encoder in model.encoders}


def known_frames(model: SeViLA, **tokens: torch.Tensor) -> FrameSource:
    """Frames of which it is known already what each role reads of them."""
    count = len(next(iter(tokens.values())))
    frames = FrameSource(np.arange(count), np.arange(count) / 2)
    for role, values in tokens.items():
        frames.add(model.encoder(role), np.arange(count), values)
    return frames


@contextmanager
def recorded(part: nn.Module) -> Iterator[list[Any]]:
    """Record each call of a module: its keyword arguments where it is given some, else its first argument."""
    calls: list[Any] = []
    hook = part.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(dict(kwargs) if kwargs else args[0]), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()

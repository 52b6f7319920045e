"""Stage 0, prompter: what the Q-Former sees becomes words that the frozen language model understands.

It stands for BLIP-2's learning from captions, in two steps: one linear map brings pictures and words roughly
together, then every frame token learns to say one word of the frame's caption. Nobody tells which frames are relevant.
The Localizer starts as a copy of the Answerer's prompter, as in the paper.
"""

import logging
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lavis.models.language.tokenizer import single_token_id
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.base_frames import ATTRIBUTES, Pictures
from sevila_data.miniature.base_language import WORD_SCALE, warm_cosine
from sevila_data.miniature.world import VALUES

logger = logging.getLogger(__name__)

_RIDGE = 1e-5


def train_prompter(
    model: SeViLA, pictures: Pictures, *, seed: int, num_steps: int = 500, batch_size: int = 128, lr: float = 1e-3
) -> None:
    """Teach the Answerer's prompter to say captions, then copy it to the Localizer."""
    model.set_trainable(("answerer",))
    model.eval()
    features, words = frame_features(model, pictures), caption_words(model, pictures)
    logger.info("prompter aligned: %.2f of the words' variance is left", align(model, features, words))
    said = torch.arange(model.answerer.num_queries) % words.shape[1]
    expected = WORD_SCALE * words[:, said]
    scale = expected.var()
    rng = np.random.default_rng([seed, 3])
    parameters = list(model.answerer.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps, warm_up=50))
    started = time.monotonic()
    for step in range(num_steps):
        drawn = torch.from_numpy(rng.choice(len(pictures), batch_size))
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.answerer(features[drawn].float())
        loss = functional.mse_loss(tokens.float(), expected[drawn]) / scale
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            spent = time.monotonic() - started
            logger.info("prompter %d: %.3f of the words' variance is left (%.0f s)", step, float(loss.detach()), spent)
    model.set_trainable(())
    model.localizer.load_state_dict(model.answerer.state_dict())


@torch.no_grad()
def caption_words(model: SeViLA, pictures: Pictures) -> torch.Tensor:
    """Return the embeddings of the words that describe each frame, [N, words, E]."""
    language = model.language
    ids = {name: [single_token_id(language.tokenizer, word) for word in VALUES[name]] for name in ATTRIBUTES}
    columns = zip(ATTRIBUTES, pictures.values.T, strict=True)
    return torch.stack([language.model.shared.weight[ids[name]][value] for name, value in columns], dim=1)


@torch.no_grad()
def align(model: SeViLA, features: torch.Tensor, words: torch.Tensor) -> float:
    """Fit the Answerer's projection so that the mean of a frame's tokens is the mean of its words.

    Args:
        features: [N, P, D].
        words: [N, words, E].

    Returns:
        The share of the words' variance that is left.
    """
    proj = model.answerer.proj
    expected = WORD_SCALE * words.mean(1)
    tokens = torch.cat([model.answerer(chunk.float()).mean(1) for chunk in features.split(256)])
    spread, middle = tokens - tokens.mean(0), expected.mean(0)
    ridge = _RIDGE * spread.square().sum() * torch.eye(spread.shape[1])
    solved = torch.linalg.solve(spread.T @ spread + ridge, spread.T @ (expected - middle)).T
    proj.bias.copy_(solved @ (proj.bias - tokens.mean(0)) + middle)
    proj.weight.copy_(solved @ proj.weight)
    left = expected - middle - spread @ solved.T
    return float(left.square().sum() / (expected - middle).square().sum())


@torch.no_grad()
def frame_features(model: SeViLA, pictures: Pictures, *, chunk: int = 128) -> torch.Tensor:
    """Run the vision tower once over all frames: bf16 [N, P, D]."""
    rows = torch.arange(len(pictures)).split(chunk)
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([model.features(pictures.rows(row).normalised()).to(torch.bfloat16) for row in rows])

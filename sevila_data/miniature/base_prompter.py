"""Stage 0, prompter: the Answerer's visual prompter learns to be understood by the frozen language model.

It learns from questions with answers alone, as BLIP-2 does from captions and questions; nobody tells it which
frames are relevant. The Localizer starts as its copy.
"""

import logging
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from lavis.models.language.tokenizer import single_token_id
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.readers import JointReader, PerFrameReader
from lavis.processors.prompts import MultipleChoicePrompt, option_target
from sevila_data.miniature.base_frames import ATTRIBUTES, Pictures
from sevila_data.miniature.base_language import warm_cosine
from sevila_data.miniature.questions import TOPICS, ask
from sevila_data.miniature.world import VALUES, WorldVideo

logger = logging.getLogger(__name__)

_PROMPT = MultipleChoicePrompt()
_SINGLE_FRAME_STEPS = 20
_RIDGE = 1e-5
_ROUND = (1, 1, 4)
_BATCH_SIZE = {1: 32, 4: 24}


class FrameQuestions:
    """Draws questions about base videos, with frames that answer them.

    Args:
        scenes: [N, 2], video and scene of each of N frames.
    """

    def __init__(self, scenes: torch.Tensor, videos: Sequence[WorldVideo], *, rng: np.random.Generator) -> None:
        self._videos, self._rng = videos, rng
        self._frames: dict[tuple[int, int], list[int]] = {}
        for index, (video, scene) in enumerate(scenes.tolist()):
            self._frames.setdefault((video, scene), []).append(index)

    def draw(self, num_frames: int) -> tuple[list[int], str, str]:
        """Return K frames, of which at least one answers, the prompt, and the target."""
        rng = self._rng
        number = int(rng.integers(len(self._videos)))
        scenes = self._videos[number].scenes
        wanted = int(rng.integers(len(scenes)))
        key, asked = TOPICS[int(rng.integers(len(TOPICS)))]
        others = [scene for place, scene in enumerate(scenes) if place != wanted]
        question = ask(scenes[wanted], others, key=key, asked=asked, rng=rng)
        shown = (
            rng.permutation(len(scenes))[:num_frames]
            if rng.random() < 0.5
            else rng.integers(len(scenes), size=num_frames)
        )
        if wanted not in shown:
            shown[rng.integers(num_frames)] = wanted
        frames = [int(rng.choice(self._frames[number, int(scene)])) for scene in shown]
        return frames, _PROMPT.answerer(question), option_target(question.answer or 0)


def train_prompter(
    model: SeViLA,
    pictures: Pictures,
    videos: Sequence[WorldVideo],
    *,
    seed: int,
    num_steps: int = 400,
    lr: float = 3e-4,
) -> None:
    """Train the Answerer's prompter through the frozen language model, then copy it to the Localizer."""
    model.set_trainable(("answerer",))
    model.eval()
    features = frame_features(model, pictures)
    logger.info("prompter aligned: %.2f of the words' variance is left", align(model, features, pictures))
    questions = FrameQuestions(pictures.scenes, videos, rng=np.random.default_rng([seed, 3]))
    parameters = list(model.answerer.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps, warm_up=50))
    started = time.monotonic()
    for step in range(num_steps):
        count = 1 if step < _SINGLE_FRAME_STEPS else _ROUND[step % len(_ROUND)]
        drawn = [questions.draw(count) for _ in range(_BATCH_SIZE[count])]
        frames = torch.tensor([frames for frames, _, _ in drawn])
        reader = PerFrameReader() if count == 1 and step % 2 == 0 else JointReader()
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.answerer(features[frames.flatten()].float()).unflatten(0, frames.shape)
            found = model.text_loss(tokens, [row[1] for row in drawn], [row[2] for row in drawn], reader=reader)
        optimizer.zero_grad()
        found.loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            right = float((found.logits[:, 1].argmax(-1) == found.labels[:, 1]).float().mean())
            logger.info("prompter %d: K %d, right %.2f (%.0f s)", step, count, right, time.monotonic() - started)
    model.set_trainable(())
    model.localizer.load_state_dict(model.answerer.state_dict())


@torch.no_grad()
def align(model: SeViLA, features: torch.Tensor, pictures: Pictures) -> float:
    """Fit the projection so that the mean of a frame's tokens is the mean of the words that describe it.

    It stands for BLIP-2's first stage, which brings pictures and texts together. Only the mean is fitted: what each
    token says, and how it is read, is left to what follows.

    Returns:
        The share of the words' variance that is left.
    """
    language, proj = model.language, model.answerer.proj
    words = torch.stack(
        [
            language.model.shared.weight[[single_token_id(language.tokenizer, word) for word in VALUES[name]]][value]
            for name, value in zip(ATTRIBUTES, pictures.values.T, strict=True)
        ]
    )
    expected = 2 * words.mean(0)
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

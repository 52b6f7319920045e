"""Stage 0, language: a small T5 learns to read the prompts, from nothing and from words alone.

Three things make it quick. Queries and keys start equal, so that attention finds equal words at once. Relative
positions learn faster than the rest. And heads that are thrown away say, on the way, which frame tokens belong to
the frame that is asked about, which word answers, and which option is right: without them, choosing the letter and
reading one frame of several are long plateaus.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lavis.models.language.t5 import T5LanguageModel, Tokens
from lavis.models.language.tokenizer import single_token_id
from lavis.models.sevila.model import FramePacking, JointPacking, PerFramePacking
from sevila_data.miniature.questions import MAX_OPTIONS
from sevila_data.miniature.word_tasks import (
    Exercise,
    answer_openly,
    answer_whether,
    choose_option,
    judge_question,
    judge_sentence,
)

logger = logging.getLogger(__name__)

_JOINT, _PER_FRAME = JointPacking(), PerFramePacking()
_INIT_STD = 0.02
WORD_SCALE = 2.0
"""How much larger frame tokens are than the embeddings of the words they say."""
# One round of exercises once single frames are read: what is asked for, of how many frames.
_ROUND = (
    ("option", 1),
    ("option", 2),
    ("whether", 1),
    ("option", 4),
    ("sentence", 1),
    ("open", 2),
    ("option", 8),
    ("option", 2),
    ("whether", 4),
    ("option", 4),
    ("sentence", 1),
    ("open", 4),
    ("option", 8),
    ("option", 4),
    ("open", 8),
)
_LAST_ROUND = (*_ROUND[:7], ("question", 1), *_ROUND[7:], ("question", 1))
_LONG_READING_FROM = 0.5
"""Share of the steps after which eight frames are read at once, which takes twice as long; before it are four."""


def initialise(module: nn.Module) -> None:
    """Draw all matrices with the standard deviation that so small a model learns from."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=_INIT_STD)


@torch.no_grad()
def initialise_language(language: T5LanguageModel) -> None:
    """Initialise the language model, with equal queries and keys where equal words are to be found.

    The encoder's last layer starts as nothing: it is to use what the others find out, and joins in when they do.
    """
    initialise(language)
    stack = language.model
    stack.lm_head.weight.copy_(stack.shared.weight)
    attentions = [block.layer[0].SelfAttention for block in stack.encoder.block]
    attentions += [block.layer[1].EncDecAttention for block in stack.decoder.block]
    for attention in attentions:
        attention.k.weight.copy_(attention.q.weight)
    last = stack.encoder.block[-1].layer
    last[0].SelfAttention.o.weight.zero_()
    last[1].DenseReluDense.wo.weight.zero_()


class Hints(nn.Module):
    """Heads that say on the way what matters; only used in stage 0.

    Shapes: N inputs, K frames, Q tokens a frame, L text tokens, O options, E width.
    """

    def __init__(self, language: T5LanguageModel, *, num_queries: int) -> None:
        super().__init__()
        width, layers = language.width, language.model.encoder.block
        # The last layers must be left to use what these layers know.
        self._depths = (len(layers) - 3, len(layers) - 2)
        self.relevant = nn.ModuleList(nn.Linear(width, 1) for _ in self._depths)
        self.right = nn.Linear(width, 1)
        self.letter = nn.Linear(width, MAX_OPTIONS)
        self.word = nn.Linear(width, len(language.tokenizer))
        self._num_queries = num_queries
        self._tokenizer = language.tokenizer
        self._option_id = single_token_id(language.tokenizer, "Option")
        self._mark_id = language.tokenizer("way?", add_special_tokens=False).input_ids[-1]
        self._norm = language.model.encoder.final_layer_norm
        self._seen: dict[int, torch.Tensor] = {}
        self._hooks = [layers[depth].register_forward_hook(self._keeper(depth)) for depth in self._depths]
        self._hooks.append(self._norm.register_forward_hook(self._keeper(len(layers))))

    def detach(self) -> None:
        """Stop listening to the language model."""
        for hook in self._hooks:
            hook.remove()

    def forward(self, text: Tokens, exercises: Sequence[Exercise]) -> torch.Tensor:
        """Return the loss of all hints for the last encoder pass, [N, K * (P + Q) + L, E] at each depth."""
        encoded = self._seen[max(self._seen)]
        before_text = encoded.shape[1] - text.ids.shape[1]
        relevant = torch.tensor([exercise.relevant for exercise in exercises]).float()
        loss = torch.zeros(())
        # Where every frame is relevant, the hint would teach to say so whatever is asked.
        if not relevant.all():
            for depth, head in zip(self._depths, self.relevant, strict=True):
                frames = self._norm(self._seen[depth])[:, :before_text].unflatten(1, (relevant.shape[1], -1))
                said = head(frames[:, :, -self._num_queries :].float())[..., 0]
                expected = relevant[..., None].expand_as(said)
                loss = loss + 2 * functional.binary_cross_entropy_with_logits(said, expected)
        if exercises[0].word is None:
            return loss
        every = torch.arange(len(exercises))
        mark = before_text + (text.ids == self._mark_id).int().argmax(1)
        answered = torch.tensor([single_token_id(self._tokenizer, str(exercise.word)) for exercise in exercises])
        loss = loss + 0.5 * functional.cross_entropy(self.word(encoded[every, mark].float()), answered)
        if not exercises[0].options:
            return loss
        num_options = len(exercises[0].options)
        rows, columns = (text.ids == self._option_id).nonzero(as_tuple=True)
        # "Option", letter, colon, and then the option's one word.
        options = encoded[rows, before_text + columns + 3].float().view(len(exercises), num_options, -1)
        answers = torch.tensor([exercise.options.index(str(exercise.word)) for exercise in exercises])
        letters = torch.arange(num_options).expand(len(exercises), -1)
        loss = loss + 2 * functional.cross_entropy(self.right(options)[..., 0], answers)
        return loss + 0.5 * functional.cross_entropy(self.letter(options).flatten(0, 1), letters.flatten())

    def _keeper(self, depth: int) -> Callable[[nn.Module, object, object], None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            self._seen[depth] = output[0] if isinstance(output, tuple) else output  # type: ignore[assignment]

        return keep


class WordReading:
    """Turns exercises into language-model inputs and the loss of what it writes.

    Args:
        num_queries: Q, tokens in place of a frame.
        hints: heads that help it to learn.
    """

    def __init__(
        self, language: T5LanguageModel, *, num_queries: int, rng: np.random.Generator, hints: Hints | None = None
    ) -> None:
        self._language, self._num_queries, self._rng, self._hints = language, num_queries, rng, hints

    def loss(self, exercises: Sequence[Exercise], *, reader: FramePacking) -> tuple[torch.Tensor, float]:
        """Return the loss with all hints, and the share of exercises that are done right; computed in bf16."""
        with torch.autocast("cpu", torch.bfloat16):
            return self._loss(exercises, reader)

    def _loss(self, exercises: Sequence[Exercise], reader: FramePacking) -> tuple[torch.Tensor, float]:
        language = self._language
        text = language.tokenize([exercise.prompt for exercise in exercises], end_of_text=True)
        labels = language.labels([exercise.target for exercise in exercises])
        inputs = reader.inputs(language, self._blended(exercises), text)
        logits = language.teacher_forced(inputs, labels).float()
        hints = self._hints(text, exercises) if self._hints else 0.0
        # "Option" and the end are always the same; what is chosen stands between them.
        weights = torch.tensor([0.2, 1.0, 0.2] if labels.shape[1] == 3 else [1.0, 0.2])
        losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(0)
        right = (logits[:, -2].argmax(-1) == labels[:, -2]).float().mean()
        return (losses * weights).sum() + hints, float(right)

    def _blended(self, exercises: Sequence[Exercise]) -> torch.Tensor:
        """Blend each frame's words to frame tokens [N, K, Q, E].

        Half of the exercises have free blends, so that a prompter finds many ways to be understood; in the others every
        token says mostly one word, as the prompter will.
        """
        tokenizer = self._language.tokenizer
        words = [[[single_token_id(tokenizer, word) for word in frame] for frame in e.frames] for e in exercises]
        embeds = self._language.model.shared(torch.tensor(words))
        shape = (*embeds.shape[:2], self._num_queries)
        blends = self._rng.dirichlet([0.5] * embeds.shape[2], size=shape)
        if self._hints is None:
            said = np.eye(embeds.shape[2])[np.arange(self._num_queries) % embeds.shape[2]]
            share = np.where(self._rng.random(len(words)) < 0.5, self._rng.uniform(0, 0.4, len(words)), 1.0)
            blends = share[:, None, None, None] * blends + (1 - share[:, None, None, None]) * said
        return torch.einsum("nkqw,nkwe->nkqe", WORD_SCALE * torch.from_numpy(blends).float(), embeds)


def draw_exercises(kind: str, *, num_frames: int, batch_size: int, rng: np.random.Generator) -> list[Exercise]:
    """Draw the exercises of one step, all of one kind and with as many options."""
    if kind == "whether":
        return [answer_whether(rng, num_frames=num_frames) for _ in range(batch_size)]
    if kind == "question":
        count = int(rng.integers(1, MAX_OPTIONS + 1))
        return [judge_question(rng, num_options=count) for _ in range(batch_size)]
    if kind == "sentence":
        return [judge_sentence(rng) for _ in range(batch_size)]
    if kind == "open":
        return [answer_openly(rng, num_frames=num_frames) for _ in range(batch_size)]
    num_options = int(rng.integers(2, MAX_OPTIONS + 1))
    return [choose_option(rng, num_frames=num_frames, num_options=num_options) for _ in range(batch_size)]


def train_language(
    language: T5LanguageModel,
    *,
    num_queries: int,
    seed: int,
    num_steps: int = 8000,
    single_frame_steps: int = 400,
    batch_size: int = 32,
    lr: float = 1e-3,
) -> None:
    """Teach the Answerer's prompts and the judging of sentences, from nothing.

    Args:
        num_queries: Q, tokens in place of a frame.
        single_frame_steps: at first only single frames are read and options found.
    """
    rng = np.random.default_rng([seed, 1])
    hints = Hints(language, num_queries=num_queries)
    reading = WordReading(language, num_queries=num_queries, rng=rng, hints=hints)
    optimizer = _optimizer(language, hints, lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps, fall_from=0.5))
    started = time.monotonic()
    for step in range(num_steps):
        kind, frames = _ROUND[step % len(_ROUND)] if step >= single_frame_steps else ("option", 1)
        num_frames = min(frames, 8 if step > _LONG_READING_FROM * num_steps else 4)
        exercises = draw_exercises(kind, num_frames=num_frames, batch_size=batch_size, rng=rng)
        loss, right = reading.loss(exercises, reader=_packing(step, exercises))
        learn_from(loss, language.parameters(), optimizer, schedule)
        if step % 25 == 0:
            spent = time.monotonic() - started
            said = f"{kind}, {len(exercises[0].options)} options, {num_frames} frames"
            logger.info(
                "language %d: %s, loss %.3f, right %.2f (%.0f s)", step, said, float(loss.detach()), right, spent
            )
    hints.detach()
    rescale(language)


def practise_language(
    language: T5LanguageModel,
    *,
    num_queries: int,
    seed: int,
    num_steps: int = 3000,
    batch_size: int = 32,
    lr: float = 1e-3,
) -> None:
    """Go on without hints, and judge questions too, which comes easily once sentences are judged."""
    rng = np.random.default_rng([seed, 4])
    reading = WordReading(language, num_queries=num_queries, rng=rng)
    others, positions = _positions_apart(language)
    groups: list[dict[str, Any]] = [{"params": others}, {"params": positions, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps, warm_up=50))
    for step in range(num_steps):
        kind, num_frames = _LAST_ROUND[(num_steps + step) % len(_LAST_ROUND)]
        exercises = draw_exercises(kind, num_frames=num_frames, batch_size=batch_size, rng=rng)
        loss, right = reading.loss(exercises, reader=_packing(step, exercises))
        learn_from(loss, language.parameters(), optimizer, schedule)
        if step % 25 == 0:
            logger.info("practice %d: %s, loss %.3f, right %.2f", step, kind, float(loss.detach()), right)


def _packing(step: int, exercises: Sequence[Exercise]) -> FramePacking:
    """Single frames are read by both of the model's ways to pack them, in turns."""
    return _PER_FRAME if len(exercises[0].frames) == 1 and step % 2 == 1 else _JOINT


def learn_from(
    loss: torch.Tensor,
    parameters: Iterable[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Take one step of the optimizer, by gradients of these parameters that are cut to a norm of one."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()


def _positions_apart(language: T5LanguageModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return all parameters but those of relative positions, and these."""
    named = list(language.named_parameters())
    positions = [value for name, value in named if "relative_attention_bias" in name]
    return [value for name, value in named if "relative_attention_bias" not in name], positions


def _optimizer(language: T5LanguageModel, hints: Hints, *, lr: float) -> torch.optim.Optimizer:
    others, positions = _positions_apart(language)
    groups: list[dict[str, Any]] = [
        {"params": [*others, *hints.relevant.parameters()]},
        {"params": [*hints.right.parameters(), *hints.letter.parameters()]},
        {"params": hints.word.parameters()},
        {"params": positions, "lr": 30 * lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))


@torch.no_grad()
def rescale(language: T5LanguageModel) -> None:
    """Give word embeddings a standard deviation of one, without changing what the model says.

    Every reader of the residual stream normalises it first, so whatever writes to it may be scaled together. A visual
    prompter then writes numbers of ordinary size, and learns at ordinary rates.
    """
    stack = language.model
    factor = 1 / stack.shared.weight[language.yes_id].std()
    stack.shared.weight.mul_(factor)
    for block in [*stack.encoder.block, *stack.decoder.block]:
        for layer in block.layer:
            for name in ("SelfAttention", "EncDecAttention"):
                if hasattr(layer, name):
                    getattr(layer, name).o.weight.mul_(factor)
            if hasattr(layer, "DenseReluDense"):
                layer.DenseReluDense.wo.weight.mul_(factor)


def warm_cosine(step: int, num_steps: int, *, warm_up: int = 100, floor: float = 0.05, fall_from: float = 0.0) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then a half cosine to `floor`.

    Args:
        fall_from: share of the steps before the rate falls.
    """
    fallen = (step / num_steps - fall_from) / (1 - fall_from)
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, fallen))))
    return min(1.0, (step + 1) / warm_up) * (floor + (1 - floor) * falling)

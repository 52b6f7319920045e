"""Weights of a larger size that say something: random ones that learned the asked questions by heart.

Random weights agree or differ by chance, as their answers have no margins. Here the language model and both prompters
learn, over a vision tower that stays random, which frames show what is asked and which option is right.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.fixtures import model_of
from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Question
from lavis.models.pipeline import watch
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.base_language import learn_from, warm_cosine
from sevila_data.miniature.together import draw_positions

_PROMPT = "multiple_choice"
_RATE, _WARM_UP = 3e-4, 50
_EVERY = 20
# A question and the frames that one step shows with it: features [K, P, D], times [K], and which show what is asked.
_Shown = tuple[Question, torch.Tensor, Floats, np.ndarray]


def save_aligned(
    folder: Path,
    size: str,
    asked: Sequence[tuple[Path, Sequence[Question]]],
    *,
    num_steps: int,
    num_frames: int,
    num_keyframes: int,
    device: torch.device,
    batch_size: int = 48,
) -> None:
    """Let random weights of a size of `variants.SIZES` learn the questions by heart, and save them in fp32.

    Args:
        asked: videos, and questions with answers and windows.
        num_frames: of which a step shows `num_keyframes` with each of `batch_size` questions, half of them from the
            windows where it can.
    """
    torch.manual_seed(0)
    model = model_of(size, dtype="fp32", device=device)
    # transformers draws these rows as large as embeddings, and an answer's loss begins at hundreds.
    model.language.model.lm_head.weight.data *= model.language.width**-0.5
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        pairs = [
            (question, features, times_s)
            for path, questions in asked
            for features, times_s in [_seen(model, path, num_frames=num_frames)]
            for question in questions
        ]
    for part in (model.language, model.localizer, model.answerer):
        part.requires_grad_(True)  # noqa: FBT003  # torch's signature
    rng = np.random.default_rng(0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warm_cosine(step, num_steps, warm_up=min(_WARM_UP, num_steps // 2))
    )
    for step in range(num_steps):
        drawn = rng.choice(len(pairs), batch_size, replace=len(pairs) < batch_size)
        shown = [_shown(*pairs[number], count=num_keyframes, rng=rng) for number in drawn]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            relevance, answer = _losses(model, shown)
        learn_from(relevance + answer, parameters, optimizer, schedule)
        if (step + 1) % _EVERY == 0:
            found = f"loss of frames {relevance.item():.3f}, of answers {answer.item():.3f}"
            print(f"learned by heart, step {step + 1}: {found}", flush=True)
    model.set_trainable(())
    model.eval().save_pretrained(folder)


def _seen(model: SeViLA, path: Path, *, num_frames: int) -> tuple[torch.Tensor, Floats]:
    """Return the features [T, P, D] and times of a video's frames."""
    watched = watch(model, path, num_frames=num_frames)
    features = watched.source.encoded(model.feature_encoder, np.arange(len(watched.times_s)))
    return features.to(model.device), watched.times_s


def _shown(
    question: Question, features: torch.Tensor, times_s: Floats, *, count: int, rng: np.random.Generator
) -> _Shown:
    """Draw frames: half of them from the windows where these have so many."""
    inside = inside_windows(times_s, question.windows or ())
    positions = draw_positions(inside, count=count, shown=max(count // 2, 1), rng=rng)
    return question, features[torch.from_numpy(positions)], times_s[positions], inside[positions]


def _losses(model: SeViLA, shown: Sequence[_Shown]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of both roles."""
    words = model.words(_PROMPT)
    questions = [question for question, *_ in shown]
    shape = (len(shown), len(shown[0][2]))
    features = torch.cat([one for _, one, *_ in shown])
    relevance = model.relevance_loss(
        model.states("localizer", features).unflatten(0, shape),
        [words.localizer(one) for one in questions],
        torch.from_numpy(np.stack([inside for *_, inside in shown])),
    )
    answer = model.answer_loss(
        model.states("answerer", features).unflatten(0, shape),
        [words.answerer(one) for one in questions],
        [one.answer or 0 for one in questions],
        packing="joint",
        times_s=[times_s.tolist() for _, _, times_s, _ in shown],
    )
    return relevance.loss, answer.loss

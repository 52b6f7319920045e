"""The embedded model's last stage: language model and both prompters learn together, from frames by day.

The paper's stages leave the language model as it is, and so does the miniature's experiment. What is embedded is to be
right, so here everything but the vision tower learns: to answer with any number of options or none, from few frames or
many of which only some show what is asked, and to judge frames for questions and sentences.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lavis.common.moments import inside_windows
from lavis.common.types import Floats, Question
from lavis.models.pipeline import watch
from lavis.models.sevila.model import JointPacking, SeViLA
from lavis.processors.prompts import MomentPrompt, MultipleChoicePrompt, option_target
from sevila_data.miniature.base_language import learn_from, warm_cosine
from sevila_data.miniature.dataset import videos_of
from sevila_data.miniature.questions import (
    MAX_OPTIONS,
    MOMENT_TEMPLATES,
    TOPICS,
    WHETHER_TEMPLATES,
    Templates,
    ask,
    describe,
    fits,
)
from sevila_data.miniature.world import VALUES, Scene, WorldVideo

logger = logging.getLogger(__name__)

NUM_VIDEOS, NUM_STEPS = 400, 3000
# Frames of a video that are drawn from, and those that the Localizer judges for each question.
_WATCHED, _JUDGED = 48, 4
# What is asked, from how many frames: one step each, in turns.
_ROUND = (
    ("option", 8),
    ("option", 4),
    ("open", 4),
    ("option", 8),
    ("option", 1),
    ("whether", 4),
    ("option", 2),
    ("open", 8),
)
_QUESTIONS, _MOMENTS = MultipleChoicePrompt(), MomentPrompt()
_JOINT = JointPacking()


@dataclass(frozen=True)
class SeenVideo:
    """A video as the vision tower has seen it: features [T, P, D] and times [T]."""

    video: WorldVideo
    features: torch.Tensor
    times_s: Floats

    def showing(self, scenes: Sequence[Scene]) -> np.ndarray:
        """Tell which frames [T] show one of the scenes."""
        return inside_windows(self.times_s, [scene.window for scene in scenes])


@dataclass(frozen=True)
class Lesson:
    """A question about a video, and what is right.

    Attributes:
        question: without options where it is to be answered in words.
        target: what the Answerer is to write.
        relevant: bool [T], the frames that show what is asked.
        read: positions [K] of the frames that the Answerer reads.
    """

    seen: SeenVideo
    question: Question
    target: str
    relevant: np.ndarray
    read: np.ndarray


def train_together(
    model: SeViLA,
    data: Path,
    *,
    seed: int,
    data_seed: int = 0,
    num_videos: int = NUM_VIDEOS,
    num_steps: int = NUM_STEPS,
    batch_size: int = 16,
    lr: float = 3e-4,
) -> None:
    """Let the language model, the Localizer and the Answerer learn from the base videos.

    Args:
        data: the data set; only its base videos are read.
        data_seed: that its videos were drawn with.
    """
    videos = see(model, data, count=num_videos, seed=data_seed)
    rng = np.random.default_rng([seed, 5])
    parts = (model.language, model.localizer, model.answerer)
    for part in parts:
        part.requires_grad_(True)  # noqa: FBT003  # torch's signature
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps))
    started = time.monotonic()
    for step in range(num_steps):
        kind, num_frames = _ROUND[step % len(_ROUND)]
        drawn = rng.choice(len(videos), batch_size, replace=len(videos) < batch_size).tolist()
        lessons = [draw_lesson(kind, videos[number], num_frames=num_frames, rng=rng) for number in drawn]
        with torch.autocast("cpu", torch.bfloat16):
            answering, right = _answering(model, lessons)
            judging, agreed = _judging(model, lessons, rng=rng)
        learn_from(answering + judging, parameters, optimizer, schedule)
        if step % 25 == 0:
            spent = time.monotonic() - started
            said = f"{kind}, {num_frames} frames: right {right:.2f}, judged right {agreed:.2f}"
            losses = f"{answering.item():.3f} + {judging.item():.3f}"
            logger.info("together %d: %s, loss %s (%.0f s)", step, said, losses, spent)
    model.set_trainable(())
    model.eval()


@torch.no_grad()
def see(model: SeViLA, data: Path, *, count: int, seed: int) -> list[SeenVideo]:
    """Let the vision tower see the first base videos."""
    found = []
    for video in videos_of("base", count, seed=seed):
        watched = watch(model, data / "videos" / f"{video.name}.mp4", num_frames=_WATCHED)
        features = watched.source.encoded(model.feature_encoder, np.arange(len(watched.times_s)))
        found.append(SeenVideo(video, features.to(torch.bfloat16), watched.times_s))
    return found


def draw_lesson(kind: str, seen: SeenVideo, *, num_frames: int, rng: np.random.Generator) -> Lesson:
    """Draw a question about a video, "option", "open" or "whether", and the frames that it is answered from.

    At least one of them shows what is asked, unless the question is whether it is shown.
    """
    scenes = seen.video.scenes
    if kind == "whether":
        text, relevant = draw_sentence(seen, WHETHER_TEMPLATES, rng=rng)
        shown = int(rng.integers(0, num_frames + 1)) if rng.random() < 0.5 else 0
        read = draw_positions(relevant, count=num_frames, shown=shown, rng=rng)
        return Lesson(seen, Question(text), "yes" if relevant[read].any() else "no", relevant, read)
    key, asked = TOPICS[int(rng.integers(len(TOPICS)))]
    place = int(rng.integers(len(scenes)))
    others = [scene for number, scene in enumerate(scenes) if number != place]
    count = min(int(rng.integers(2, MAX_OPTIONS + 1)), len(VALUES[asked]))
    question = ask(scenes[place], others, key=key, asked=asked, rng=rng, num_options=count)
    right = question.answer or 0
    target = option_target(right)
    if kind == "open":
        target, question = question.options[right], Question(question.text)
    relevant = seen.showing([scenes[place]])
    shown = int(rng.integers(1, num_frames + 1))
    return Lesson(seen, question, target, relevant, draw_positions(relevant, count=num_frames, shown=shown, rng=rng))


def draw_sentence(seen: SeenVideo, templates: Templates, *, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Word what one of a video's scenes is, or what another one could be, and tell which frames [T] fit."""
    scenes = seen.video.scenes
    template = int(rng.integers(len(templates)))
    described = scenes[int(rng.integers(len(scenes)))]
    if rng.random() < 0.25:
        shape, colour, place, motion = (
            str(rng.choice(VALUES[name])) for name in ("shape", "colour", "place", "motion")
        )
        described = Scene(shape, colour, place, motion)
    text = describe(described, template, templates)
    return text, seen.showing([scene for scene in scenes if fits(scene, described, template, templates)])


def draw_positions(relevant: np.ndarray, *, count: int, shown: int, rng: np.random.Generator) -> np.ndarray:
    """Draw frames [count] in time order, so many of the relevant ones, as far as there are such and others."""
    inside, outside = rng.permutation(np.flatnonzero(relevant)), rng.permutation(np.flatnonzero(~relevant))
    first = inside[: max(shown, count - len(outside))]
    return np.sort(np.concatenate([first, outside[: count - len(first)]]))


def _answering(model: SeViLA, lessons: Sequence[Lesson]) -> tuple[torch.Tensor, float]:
    """Return the Answerer's loss, and the share of questions whose word or letter is right."""
    tokens = _tokens(model, "answerer", [(lesson.seen, lesson.read) for lesson in lessons])
    prompts = [_QUESTIONS.answerer(lesson.question) for lesson in lessons]
    found = model.text_loss(tokens, prompts, [lesson.target for lesson in lessons], packing=_JOINT)
    # Before the end stands the word, or the letter.
    said = found.logits[:, -2].detach().argmax(-1) == found.labels[:, -2]
    return found.loss, float(said.float().mean())


def _judging(model: SeViLA, lessons: Sequence[Lesson], *, rng: np.random.Generator) -> tuple[torch.Tensor, float]:
    """Return the Localizer's loss on some frames for the questions, and for sentences in place of a third of them."""
    prompts, relevant, frames = [], [], []
    for lesson in lessons:
        text, fitting = _QUESTIONS.localizer(lesson.question), lesson.relevant
        if rng.random() < 1 / 3:
            sentence, fitting = draw_sentence(lesson.seen, MOMENT_TEMPLATES, rng=rng)
            text = _MOMENTS.localizer(Question(sentence))
        chosen = draw_positions(fitting, count=_JUDGED, shown=_JUDGED // 2, rng=rng)
        prompts.append(text)
        relevant.append(fitting[chosen])
        frames.append((lesson.seen, chosen))
    wanted = torch.from_numpy(np.stack(relevant))
    found = model.relevance_loss(_tokens(model, "localizer", frames), prompts, wanted)
    return found.loss, float((found.says_yes == wanted).float().mean())


def _tokens(model: SeViLA, role: str, frames: Sequence[tuple[SeenVideo, np.ndarray]]) -> torch.Tensor:
    """Return the query tokens [B, K, Q, E] that a role makes of frames [K] of B videos."""
    features = torch.cat([seen.features[torch.from_numpy(positions)] for seen, positions in frames])
    return model.states(role, features.float()).unflatten(0, (len(frames), -1))

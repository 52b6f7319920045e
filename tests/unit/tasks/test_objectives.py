from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Question, Unread
from lavis.datasets.dataset import ClipBatch
from lavis.models.base import FrameScorer, FrameScores, Mask, Selection
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.tasks.objectives import (
    AnswererFinetuning,
    CachedTeacher,
    ClipMemory,
    Objective,
    OnlineTeacher,
    SelfRefinement,
    Teacher,
)
from tests.precision import assert_near_float64, in_float64
from tests.unit.models.tiny import CONFIG, random_pixels, recorded

PROMPT = "multiple_choice"
FRAMES = 6
QUESTIONS = [
    Question("what is it", ("red", "green", "blue"), id="q0", video="v0", answer=1),
    Question("and what is it that the others look at", ("a red one", "a blue one"), id="q1", video="v1", answer=0),
    Question("why", ("no", "yes", "never", "always"), id="q2", video="v2", answer=3),
    Question("where does it go then", ("left", "right", "up"), id="q3", video="v3", answer=2),
]


def batch(rows: Sequence[int], *, shift: int = 0) -> ClipBatch:
    """The questions with these numbers, each on frames of its own video; `shift` frames are other ones."""
    frame_idx = torch.arange(FRAMES).repeat(len(rows), 1)
    frame_idx[:, :shift] += 100
    pixels = torch.stack([random_pixels(FRAMES, seed=row) for row in rows])
    return ClipBatch(pixels, frame_idx.double(), frame_idx, tuple(QUESTIONS[row] for row in rows))


def refinement(teacher: Teacher) -> Objective:
    return SelfRefinement(prompt=PROMPT, teacher=teacher)


def finetuning(teacher: Teacher) -> Objective:
    return AnswererFinetuning(prompt=PROMPT, k=2, selector="localizer", teacher=teacher)


OBJECTIVES = pytest.mark.parametrize(
    ("objective", "trained", "frozen"),
    [(refinement, "localizer", "answerer"), (finetuning, "answerer", "localizer")],
    ids=["refinement", "finetuning"],
)


@pytest.fixture
def model() -> SeViLA:
    return SeViLA.untrained(CONFIG).eval()


def learned(model: SeViLA, objective: Objective, asked: ClipBatch) -> tuple[float, torch.Tensor]:
    """The loss, and all gradients."""
    model.zero_grad()
    loss = objective(model, asked)["loss"]
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.flatten() for _, parameter in model.trainable_parameters()])


@OBJECTIVES
def test_a_second_epoch_in_another_order_learns_the_same_without_asking(
    objective: type, trained: str, frozen: str, model: SeViLA
) -> None:
    model.set_trainable([trained])
    teacher = CachedTeacher(origin="x")
    remembering, asking = objective(teacher), objective(OnlineTeacher())
    for rows in ([0, 1, 2], [3]):
        assert learned(model, remembering, batch(rows))[0] == learned(model, asking, batch(rows))[0]
    teacher.share(World())
    again = batch([2, 3, 0])
    with recorded(model.get_submodule(frozen)) as asked:
        loss, gradients = learned(model, remembering, again)
    fresh_loss, fresh_gradients = learned(model, asking, again)
    assert asked == []
    assert loss == fresh_loss
    assert torch.equal(gradients, fresh_gradients)


@OBJECTIVES
def test_only_frames_that_were_not_there_before_are_asked_about(
    objective: type, trained: str, frozen: str, model: SeViLA
) -> None:
    model.set_trainable([trained])
    teacher = CachedTeacher(origin="x")
    remembering, asking = objective(teacher), objective(OnlineTeacher())
    learned(model, remembering, batch([0, 1, 2, 3]))
    teacher.share(World())
    again = batch([1, 2], shift=2)
    with recorded(model.get_submodule(frozen)) as asked:
        found = remembering(model, again)
    assert sum(len(features) for features in asked) == 4
    assert float(found["reused"]) == pytest.approx(8 / 12)
    assert found["loss"].item() == pytest.approx(asking(model, again)["loss"].item(), rel=1e-6)


def test_frames_that_are_neither_scored_nor_read_are_not_watched(model: SeViLA) -> None:
    model.set_trainable(["answerer"])
    teacher = CachedTeacher(origin="x")
    objective = finetuning(teacher)
    with recorded(model.vision) as watched:
        objective(model, batch([0, 1]))
        teacher.share(World())
        objective(model, batch([0, 1]))
    assert [len(pixels) for pixels in watched] == [FRAMES, FRAMES, 2 * 2]


def test_uniform_frames_alone_are_watched(model: SeViLA) -> None:
    model.set_trainable(["answerer"])
    objective = AnswererFinetuning(prompt=PROMPT, k=2, selector="uniform")
    with recorded(model.vision) as watched:
        objective(model, batch([0, 1]))
    assert [len(pixels) for pixels in watched] == [2 * 2]


class LightFrames:
    """Chooses the frames of which the middle of the picture is light: another number of them for every question."""

    needs_scorer = False

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        light = frames.pictures(np.arange(len(frames)), size=4)[:, 1:3, 1:3].mean(axis=(1, 2, 3))
        return [Selection(np.flatnonzero(light > 128))] * len(questions)


def lit(rows: Sequence[int], frames: Sequence[Sequence[int]]) -> ClipBatch:
    """A batch whose clips have light pictures at some frames, and noise in all of them."""
    asked = batch(rows)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CONFIG.image_mean, CONFIG.image_std))
    for row, light in enumerate(frames):
        shown = 0.1 * torch.rand(FRAMES, 3, 1, 1, generator=torch.Generator().manual_seed(row))
        shown[list(light)] += 0.8
        asked.pixels[row] = (shown - mean) / std
    return asked


def test_questions_with_different_numbers_of_frames_weigh_the_same(model: SeViLA) -> None:
    frames = [[0, 3], [1], [2, 5], [0, 1, 4]]
    objective = AnswererFinetuning(prompt=PROMPT, k=2, selector=LightFrames())
    model.set_trainable(objective.trainable)
    found = objective(model, lit(range(4), frames))
    assert [positions.tolist() for positions in found["positions"]] == frames
    loss, gradients = learned(model, objective, lit(range(4), frames))

    alone = [learned(model, objective, _row(lit(range(4), frames), row)) for row in range(4)]

    assert loss == pytest.approx(np.mean([one for one, _ in alone]), rel=1e-5)
    torch.testing.assert_close(gradients, torch.stack([one for _, one in alone]).mean(0), rtol=1e-4, atol=1e-6)


def test_different_numbers_of_frames_are_refused_where_processes_must_run_the_same(
    model: SeViLA, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = AnswererFinetuning(prompt=PROMPT, k=2, selector=LightFrames())
    model.set_trainable(objective.trainable)
    monkeypatch.setattr("lavis.tasks.objectives.DTensor", torch.nn.Parameter)
    objective(model, lit([0, 1], [[0, 3], [1, 2]]))
    with pytest.raises(ConfigError, match=r"must run the same; set run\.distributed=ddp"):
        objective(model, lit([0, 1], [[0, 3], [1]]))


def _row(whole: ClipBatch, row: int) -> ClipBatch:
    part = slice(row, row + 1)
    return ClipBatch(whole.pixels[part], whole.times_s[part], whole.frame_idx[part], whole.questions[part])


@pytest.mark.usefixtures("plugins")
def test_a_scorer_of_pictures_chooses_what_the_answerer_learns_from(model: SeViLA) -> None:
    built: list[object] = []

    @registry.scorers.register("lightness")
    class Lightness:
        def __init__(self) -> None:
            built.append(self)

        def score(
            self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None
        ) -> FrameScores:
            size = FrameEncoder("size", lambda pictures: torch.from_numpy(pictures.frames).float().mean((1, 2, 3)))
            light = frames.encoded(size).numpy()[None].astype(float)
            return FrameScores(light, light, (Unread(),))

    objective = AnswererFinetuning(prompt=PROMPT, k=2, selector={"scorer": "lightness"})
    model.set_trainable(objective.trainable)
    for frames in ([[0, 3], [1, 2]], [[2, 5], [3, 4]]):
        found = objective(model, lit([0, 1], frames))
        assert [positions.tolist() for positions in found["positions"]] == frames
    assert len(built) == 1


FEW = 4


def clips(*seeds: int) -> ClipBatch:
    """A question about each of the clips with these numbers."""
    pixels = torch.stack([random_pixels(FEW, seed=clip) for clip in seeds])
    questions = [
        Question("what is it", ("red", "green", "blue"), id=f"{place}", answer=place % 3) for place in range(len(seeds))
    ]
    return ClipBatch(pixels, torch.zeros(len(seeds), FEW), torch.arange(FEW).repeat(len(seeds), 1), tuple(questions))


def tokens_at(memory: ClipMemory | None, model: SeViLA, asked: ClipBatch, *frames: int) -> torch.Tensor:
    """The Localizer's tokens of frames with these numbers in the batch; of all where none is named."""
    numbers, made = frames or range(len(asked) * FEW), []
    for row, pixels in enumerate(asked.pixels):
        kept = memory.of(pixels) if memory else None
        clip = FrameSource(np.arange(FEW), np.arange(FEW) / 2, pixels=pixels, memory=kept)
        positions = [number - row * FEW for number in numbers if number // FEW == row]
        if positions:
            made.append(clip.encoded(model.encoder("localizer"), positions))
    return torch.cat(made)


@pytest.mark.parametrize("frames", [(), (1, 2, 4, 11), (9,)], ids=str)
def test_kept_tokens_are_those_of_the_frames_asked_for(frames: tuple[int, ...], model: SeViLA, tmp_path: Path) -> None:
    cached, asked = ClipMemory(FrameCache(tmp_path), origin="x"), clips(0, 1, 2)
    made = tokens_at(cached, model, asked, *frames)
    assert_near_float64(made, tokens_at(None, in_float64(model), asked, *frames))
    with recorded(model.vision) as watched:
        found = tokens_at(cached, model, asked, *frames)
    assert watched == []
    assert torch.equal(found, made)
    assert not found.requires_grad


def test_a_clip_is_watched_once_for_all_questions_about_it(model: SeViLA, tmp_path: Path) -> None:
    with recorded(model.vision) as watched:
        tokens_at(ClipMemory(FrameCache(tmp_path), origin="x"), model, clips(0, 1, 0))
        tokens_at(ClipMemory(FrameCache(tmp_path), origin="x"), model, clips(2, 1))
    assert [len(pixels) for pixels in watched] == [FEW] * 3


def test_clips_without_a_frame_that_is_asked_for_are_not_watched(model: SeViLA, tmp_path: Path) -> None:
    with recorded(model.vision) as watched:
        tokens_at(ClipMemory(FrameCache(tmp_path), origin="x"), model, clips(0, 1), FEW + 1)
    assert [len(pixels) for pixels in watched] == [FEW]


def test_tokens_of_another_origin_are_not_found(model: SeViLA, tmp_path: Path) -> None:
    with recorded(model.vision) as watched:
        for origin in ("x", "y"):
            tokens_at(ClipMemory(FrameCache(tmp_path), origin=origin), model, clips(0))
    assert len(watched) == 2


def test_a_step_learns_the_same_whether_tokens_were_found_or_made(model: SeViLA, tmp_path: Path) -> None:
    model.set_trainable(["answerer"])
    learned = []
    for _ in range(2):
        memory = ClipMemory(FrameCache(tmp_path), origin="x")
        objective = AnswererFinetuning(prompt="multiple_choice", k=2, selector="localizer", memory=memory)
        model.zero_grad()
        with recorded(model.vision) as watched:
            found = objective(model, clips(0, 1))
        found["loss"].backward()
        gradients = torch.cat([parameter.grad.flatten() for _, parameter in model.trainable_parameters()])
        learned.append((found["loss"], gradients, [len(pixels) for pixels in watched]))
    (loss, gradients, made), (loss_again, gradients_again, found_again) = learned
    assert (made, found_again) == ([FEW, FEW, 4], [4])
    assert torch.equal(loss, loss_again)
    assert torch.equal(gradients, gradients_again)

"""How many frames are read: a number, what a policy decides, what a budget of tokens holds; and what it costs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavis.common.errors import ConfigError
from lavis.common.types import Cost, Floats, Integers, Question
from lavis.models.base import Reading
from lavis.models.chain import Selector, frames_within, select_and_answer
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.selection.policies.plain import TopK, Uniform
from lavis.selection.policies.q_frame import QFrame
from tests.unit.selection.policies.stand_ins import KnownScores, frames_of

ASKED = ("What is it?", ["a cat", "a dog"])


class Reader:
    """Takes 64 tokens of a whole frame, and less of a smaller one; remembers what it was shown."""

    reads_sizes = True

    def __init__(self) -> None:
        self.shown: list[tuple[list[int], list[float] | None]] = []

    def frame_tokens(self, frames: FrameSource, sizes: Floats) -> Integers:
        del frames
        return np.maximum(1, 64 * sizes**2).astype(np.int64)

    def answer(
        self, frames: FrameSource, positions: Integers, questions: Sequence[Question], *, sizes: Floats | None = None
    ) -> list[Reading]:
        del frames
        given = [None] * len(questions) if sizes is None else sizes.tolist()
        self.shown += zip(positions.tolist(), given, strict=True)
        return [Reading(0, question.options[0], np.zeros(2), np.empty(0, np.int64)) for question in questions]


class OneSize(Reader):
    reads_sizes = False


class NoCounter:
    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        raise AssertionError


@pytest.mark.parametrize(("budget", "count"), [(64, 1), (127, 1), (128, 2), (640, 10), (10_000, 12)])
def test_as_many_frames_as_fit(budget: int, count: int) -> None:
    assert frames_within(budget, frames_of(12), policy=Uniform(), answerer=Reader()) == count


@pytest.mark.parametrize(
    # K = 8 of Q-Frame's is 4 frames of 16 tokens, 8 of 4 and 32 of 1: 128.
    ("budget", "k"),
    [(24, 1), (128, 8), (127, 7), (256, 16)],
)
def test_frames_of_several_sizes_count_by_their_sizes(budget: int, k: int) -> None:
    policy = QFrame(published=True)
    assert frames_within(budget, frames_of(200), policy=policy, answerer=Reader()) == k
    sizes = policy.sizes(k, num_frames=200)
    assert Reader().frame_tokens(frames_of(200), sizes).sum() <= budget


def test_an_answerer_of_one_size_counts_whole_frames() -> None:
    policy = QFrame(published=True)
    k = frames_within(640, frames_of(200), policy=policy, answerer=OneSize())
    assert len(policy.sizes(k, num_frames=200)) <= 10


@pytest.mark.parametrize(
    ("budget", "answerer", "message"),
    [
        (0, Reader(), "a budget of 0 tokens holds no frame; give 1 or more"),
        (63, Reader(), "a budget of 63 tokens holds no frame: one takes 64; give at least so many"),
        (640, NoCounter(), "needs a model that says how many a frame takes, and this one does not .on a server"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(budget: int, answerer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        frames_within(budget, frames_of(12), policy=Uniform(), answerer=answerer)


def test_sizes_reach_an_answerer_that_reads_them() -> None:
    scores, asked, reader = np.arange(50.0), Question("q", ("a", "b"), id="q"), Reader()
    selector = Selector(QFrame(published=True), KnownScores(scores))
    ((selection, reading),) = select_and_answer(frames_of(50), [asked], selector=selector, answerer=reader, k=8)
    assert len(selection.positions) == 44
    assert reader.shown == [(selection.positions.tolist(), selection.sizes.tolist())]
    assert reading.unread.notes == ()


def test_one_of_one_size_gets_frames_as_they_are_and_that_is_said() -> None:
    scores, asked, reader = np.arange(50.0), Question("q", ("a", "b"), id="q"), OneSize()
    selector = Selector(QFrame(published=True), KnownScores(scores))
    ((selection, reading),) = select_and_answer(frames_of(50), [asked], selector=selector, answerer=reader, k=8)
    assert reader.shown == [(selection.positions.tolist(), None)]
    assert reading.unread.notes == (
        "frames were chosen to be read at several sizes, and the model reads all at one: each is read at its own",
    )


def test_questions_of_different_counts_are_read_from_their_own_frames() -> None:
    scores, reader = [[9.0, 0, 8, 0, 0], [0, 0, 0, 0, 7]], Reader()
    asked = [Question("one", ("a", "b"), id="1"), Question("two", ("a", "b"), id="2")]
    selector = Selector(TopK(), KnownScores(scores), decides=True)
    found = select_and_answer(frames_of(5), asked, selector=selector, answerer=reader, k=4)
    assert [selection.positions.tolist() for selection, _ in found] == [[0, 2], [4]]


def test_the_most_may_be_given_on_either_side(tiny_model: SeViLA, clip: Path) -> None:
    video = tiny_model.watch(clip, num_frames=8)
    spec = {"scorer": {"name": "noise"}, "policy": {"name": "threshold", "above": -9}}
    read = {
        most: len(video.ask(*ASKED, num_keyframes=asked, selector={**spec, **more}).keyframes)
        for most, asked, more in (
            ("none", "auto", {}),
            ("selector", "auto", {"k": 3}),
            ("number", 2, {"k": "auto"}),
            ("more than there are", 100, {"k": "auto"}),
        )
    }
    assert read == {"none": 4, "selector": 3, "number": 2, "more than there are": 8}


def test_a_budget_of_the_models_tokens(tiny_model: SeViLA, clip: Path) -> None:
    video, each = tiny_model.watch(clip, num_frames=8), tiny_model.answerer.num_queries
    answer = video.ask(*ASKED, token_budget=5 * each + each // 2)
    assert len(answer.keyframes) == 5
    assert answer.cost is not None
    assert answer.cost.frame_tokens == 5 * each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_keyframes": 3, "token_budget": 99}, "give 3 keyframes or a budget of 99 tokens, not both"),
        (
            {"selector": {"policy": "uniform", "k": 1}, "token_budget": 99},
            "give 1 keyframe or a budget of 99 tokens, not both",
        ),
        ({"num_keyframes": "many"}, "cannot choose 'many' keyframes; give a number, or auto"),
        ({"num_keyframes": "auto", "selector": "uniform"}, "the policy uniform does not decide how many frames"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    tiny_model: SeViLA, clip: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_model.watch(clip, num_frames=4).ask(*ASKED, **arguments)


def counts(cost: Cost | None) -> tuple[float, float, float, float | None]:
    assert cost is not None
    assert cost.seconds > 0
    return cost.frames_decoded, cost.frames_scored, cost.scorer_calls, cost.frame_tokens


def test_the_first_answer_costs_watching_too_and_the_next_one_does_not(tiny_model: SeViLA, clip: Path) -> None:
    video, each = tiny_model.watch(clip, num_frames=8), tiny_model.answerer.num_queries
    assert counts(video.ask(*ASKED, num_keyframes=2).cost) == (8, 8, 1, 2 * each)
    assert counts(video.ask(*ASKED, num_keyframes=3, selector="uniform").cost) == (0, 0, 0, 3 * each)
    assert counts(video.find("a dog").cost) == (0, 8, 1, None)


def test_a_video_that_is_watched_as_it_is_asked_costs_what_it_needs(tiny_model: SeViLA, clip: Path) -> None:
    video = tiny_model.watch(clip, num_frames=8, lazy=True)
    assert counts(video.ask(*ASKED, num_keyframes=2, selector="uniform").cost)[:3] == (2, 0, 0)
    # Motion looks at small pictures of all frames, whose changes it keeps.
    answers = [video.ask(*ASKED, num_keyframes=2, selector="motion") for _ in range(2)]
    unseen = len(set(answers[0].keyframes.positions.tolist()) - {2, 6})
    assert [counts(answer.cost)[:3] for answer in answers] == [(8 + unseen, 8, 1), (0, 8, 1)]


def test_a_video_of_the_cache_costs_no_decoding(tiny_model: SeViLA, clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache")
    first, second = (tiny_model.watch(clip, num_frames=4, cache=cache).ask(*ASKED) for _ in range(2))
    assert counts(first.cost)[:3] == (4, 4, 1)
    assert counts(second.cost)[:3] == (0, 4, 1)


def test_a_share_of_a_cost() -> None:
    cost = Cost(8, 16, 1, 2.0, 128)
    assert dataclasses.astuple(cost.share(4)) == (2, 4, 0.25, 0.5, 32)
    assert Cost(1, 1, 1, 1).share(2).frame_tokens is None

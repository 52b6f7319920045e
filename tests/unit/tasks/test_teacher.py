from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.types import Question
from lavis.datasets.dataset import ClipBatch
from lavis.runners.checkpoint import packed, read_state
from lavis.tasks.objectives import CachedTeacher, OnlineTeacher

ASKED = (Question("what?", ("a", "b"), id="q0", video="v0"), Question("who?", ("a", "b"), id="q1", video="v0"))


@dataclass(frozen=True)
class Processes(World):
    """One of several processes, for what all of them say at once."""

    said: Sequence[Any] = ()

    def gather(self, value: Any) -> list[Any]:
        return [*self.said[: self.rank], value, *self.said[self.rank + 1 :]]


class Asked:
    """Gives each frame the number after its index, and notes which frames were asked about."""

    def __init__(self, batch: ClipBatch) -> None:
        self.batch = batch
        self.frames: list[list[int]] = []

    def __call__(self, where: torch.Tensor) -> torch.Tensor:
        assert self.batch.frame_idx is not None
        chosen = self.batch.frame_idx[where]
        self.frames.append(chosen.tolist())
        return chosen + 1


def batch(*frame_idx: list[int], questions: Sequence[Question] = ASKED) -> ClipBatch:
    frames = torch.tensor(frame_idx)
    pixels = torch.zeros(*frames.shape, 3, 2, 2)
    return ClipBatch(pixels, frames.double(), frames, tuple(questions[: len(frames)]))


def found(teacher: CachedTeacher, asked: ClipBatch) -> tuple[list[list[int]], list[list[float]], float]:
    """What was asked about, what was said, and the share that was reused."""
    ask = Asked(asked)
    said = teacher.predict(asked.questions, asked.frame_idx, ask)
    return ask.frames, said.values.tolist(), float(said.metrics["reused"])


def test_fresh_verdicts_are_asked_for_every_time() -> None:
    asked = batch([3, 5], [4, 6])
    ask, teacher = Asked(asked), OnlineTeacher()
    for _ in range(2):
        said = teacher.predict(asked.questions, asked.frame_idx, ask)
        teacher.share(World())
    assert ask.frames == [[3, 5, 4, 6]] * 2
    assert (said.values.tolist(), said.metrics) == ([[4.0, 6.0], [5.0, 7.0]], {})


def test_the_next_epoch_asks_nothing() -> None:
    teacher, asked = CachedTeacher(origin="x"), batch([3, 5], [4, 6])
    assert found(teacher, asked) == ([[3, 5, 4, 6]], [[4, 6], [5, 7]], 0.0)
    teacher.share(World())
    assert found(teacher, asked) == ([], [[4, 6], [5, 7]], 1.0)


def test_what_is_new_is_not_used_before_it_is_shared() -> None:
    teacher, asked = CachedTeacher(origin="x"), batch([3, 5])
    found(teacher, asked)
    assert found(teacher, asked)[0] == [[3, 5]]


def test_of_other_frames_only_the_unknown_are_asked_about() -> None:
    teacher = CachedTeacher(origin="x")
    found(teacher, batch([3, 5], [4, 6]))
    teacher.share(World())
    assert found(teacher, batch([1, 5], [6, 9])) == ([[1, 9]], [[2, 6], [7, 10]], 0.5)
    teacher.share(World())
    assert found(teacher, batch([1, 3], [4, 9])) == ([], [[2, 4], [5, 10]], 1.0)


def test_frames_that_a_short_video_repeats_are_remembered() -> None:
    teacher, asked = CachedTeacher(origin="x"), batch([0, 0, 1, 1])
    found(teacher, asked)
    teacher.share(World())
    assert found(teacher, asked) == ([], [[1, 1, 2, 2]], 1.0)


@pytest.mark.parametrize("other", [{"video": "v1"}, {"id": "q9"}, {"text": "why?"}, {"options": ("b", "a")}], ids=str)
def test_another_question_is_asked_itself(other: dict[str, Any]) -> None:
    teacher = CachedTeacher(origin="x")
    found(teacher, batch([3]))
    teacher.share(World())
    assert found(teacher, batch([3], questions=[replace(ASKED[0], **other)]))[0] == [[3]]


def test_all_processes_know_what_one_found_out() -> None:
    first, second = CachedTeacher(origin="x"), CachedTeacher(origin="x")
    found(first, batch([3, 5]))
    second_batch = batch([4, 6], questions=ASKED[1:])
    found(second, second_batch)
    told = [first._new, second._new]  # what goes over the wire
    first.share(Processes(rank=0, size=2, said=told))
    second.share(Processes(rank=1, size=2, said=told))
    for teacher in (first, second):
        assert found(teacher, batch([3, 5], [4, 6])) == ([], [[4, 6], [5, 7]], 1.0)


def stored(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A state as a checkpoint keeps it."""
    (folder / "state.pt").write_bytes(packed(state))
    return read_state(folder / "state.pt")


def test_a_checkpoint_holds_what_is_known_and_what_is_not_shared_yet(tmp_path: Path) -> None:
    before, after = CachedTeacher(origin="x"), CachedTeacher(origin="x")
    found(before, batch([3, 5]))
    before.share(World())
    found(before, batch([7, 8], questions=ASKED[1:]))
    after.load_state_dict(stored(before.state_dict(World()), tmp_path), World())
    assert found(after, batch([3, 5], [7, 8]))[0] == [[7, 8]]
    after.share(World())
    assert found(after, batch([3, 5], [7, 8])) == ([], [[4, 6], [8, 9]], 1.0)


def test_an_empty_memory_can_be_kept(tmp_path: Path) -> None:
    teacher = CachedTeacher(origin="x")
    teacher.load_state_dict(stored(teacher.state_dict(World()), tmp_path), World())
    assert found(teacher, batch([3]))[0] == [[3]]


@pytest.mark.parametrize(("size", "known"), [(2, [[3]]), (1, [])], ids=["its own", "what all had"])
def test_a_process_goes_on_with_its_own_or_with_what_all_had(size: int, known: list, tmp_path: Path) -> None:
    first, second = CachedTeacher(origin="x"), CachedTeacher(origin="x")
    found(second, batch([3]))
    new = [each.state_dict(World())["new"][0] for each in (first, second)]
    state = first.state_dict(Processes(rank=0, size=2, said=new))
    after = CachedTeacher(origin="x")
    after.load_state_dict(stored(state, tmp_path), World(rank=0, size=size))
    after.share(World())
    assert found(after, batch([3]))[0] == known


def test_verdicts_of_another_model_are_not_taken_up(caplog: pytest.LogCaptureFixture) -> None:
    before, after = CachedTeacher(origin="x"), CachedTeacher(origin="y")
    found(before, batch([3]))
    before.share(World())
    after.load_state_dict(before.state_dict(World()), World())
    assert found(after, batch([3]))[0] == [[3]]
    assert caplog.messages == [
        "the checkpoint's verdicts are of other weights or settings: the frozen role is asked anew"
    ]


def test_a_run_that_remembered_nothing_may_begin_to(caplog: pytest.LogCaptureFixture) -> None:
    teacher = CachedTeacher(origin="x")
    teacher.load_state_dict(OnlineTeacher().state_dict(World()), World())
    assert found(teacher, batch([3]))[0] == [[3]]
    assert not caplog.messages

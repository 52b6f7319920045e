from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lavis.common.distributed import World
from lavis.common.errors import VideoError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.datasets.annotations import Annotation
from lavis.datasets.dataset import Sample, SampleKey, Unreadable
from lavis.processors.transforms import Clip
from lavis.runners.validation import SplitValidator, average_precision
from lavis.tasks.build import resolve_task
from lavis.tasks.predictions import ClipLoader, Prediction


@pytest.mark.parametrize(
    ("scores", "relevant", "expected"),
    [
        ([3, 2, 1], [1, 0, 0], 1.0),
        ([1, 2, 3], [1, 0, 0], 1 / 3),
        ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([1, 1, 1, 1], [0, 1, 0, 1], (1 / 2 + 2 / 4) / 2),
    ],
)
def test_average_precision_of_a_ranking(scores: list[int], relevant: list[int], expected: float) -> None:
    assert average_precision(np.array(scores, float), np.array(relevant, bool)) == pytest.approx(expected)


# All that loaders ask a model.
MODEL: Any = SimpleNamespace(encoders=(), config=SimpleNamespace(image_mean=(0, 0, 0), image_std=(1, 1, 1)))


validator = partial(SplitValidator, task=resolve_task("chained_inference"), prompt="", frame_num=1)


class Numbered:
    """Samples that are their index; some cannot be read."""

    def __init__(self, count: int, unreadable: tuple[int, ...] = ()) -> None:
        self._count, self._unreadable = count, unreadable

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        question = Question(str(key.index))
        if key.index in self._unreadable:
            return Unreadable(question, "broken")
        return Sample(question, Clip(torch.ones(2, 3, 4, 4), np.zeros(2), np.zeros(2, dtype=np.int64)))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_processes_in_step_compute_equally_often_and_count_every_question_once(count: int) -> None:
    dataset = Numbered(count, unreadable=(1, 4))
    shares = [
        list(
            validator(
                {"val": ClipLoader(dataset, batch_size=2)},
                world=World(rank=rank, size=3),
                stand_in=torch.zeros(2, 3, 4, 4),
            ).samples("val", MODEL)
        )
        for rank in range(3)
    ]
    assert len({len(share) for share in shares}) == 1
    assert all(reading.frames is not None for share in shares for reading in share)
    counted = sorted(int(reading.question.text) for share in shares for reading in share if reading.is_counted)
    assert counted == list(range(count))
    unreadable = {int(reading.question.text) for share in shares for reading in share if not reading.is_readable}
    assert unreadable == {1, 4} & set(range(count))


@pytest.mark.parametrize(("count", "at_most", "each"), [(1, 2, 1), (4, 1, 1), (4, 2, 2), (5, 3, 2)])
def test_processes_in_step_that_read_only_a_few_questions_compute_equally_often(
    count: int, at_most: int, each: int
) -> None:
    for rank in range(3):
        still = torch.zeros(2, 3, 4, 4)
        clips = {"val": ClipLoader(Numbered(count))}
        reader = validator(clips, world=World(rank=rank, size=3), at_most=at_most, stand_in=still)
        assert len(list(reader.samples("val", MODEL))) == each


class Answered(Numbered):
    """Samples with an answer."""

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        sample = super().__getitem__(key)
        question = Question(str(key.index), ("a", "b"), id=str(key.index), answer=0)
        return Sample(question, sample.clip) if isinstance(sample, Sample) else Unreadable(question, sample.reason)


@pytest.mark.parametrize("stand_in", [None, torch.zeros(2, 3, 4, 4)])
def test_frames_that_cannot_be_decoded_when_they_are_asked_for_count_as_unreadable(
    stand_in: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, asked = validator({"val": ClipLoader(Answered(3))}, world=World(), stand_in=stand_in), []

    def ask(frames: Any, question: Question) -> Any:
        is_stand_in = bool((frames.pixels_at(np.arange(2)) == 0).all())
        asked.append((question.text, is_stand_in))
        if question.text == "1" and not is_stand_in:
            raise VideoError("1.mp4: damaged")
        return Prediction(id=question.id, video="", answer=0, choice=0), {"accuracy": (1.0, 1)}

    monkeypatch.setattr(check, "_asking_questions", lambda _: ask)
    metrics = check(MODEL, "val")
    assert (metrics["questions"], metrics["unreadable"], metrics["accuracy"]) == (3, 1, pytest.approx(200 / 3))
    # Processes in step ask equally often.
    assert asked == [("0", False), ("1", False), *([] if stand_in is None else [("1", True)]), ("2", False)]


def test_a_process_that_need_not_keep_step_computes_nothing_for_what_cannot_be_read() -> None:
    clips = {"val": ClipLoader(Numbered(3, unreadable=(1,)), batch_size=3)}
    readings = list(validator(clips, world=World()).samples("val", MODEL))
    assert [(reading.question.text, reading.frames is None) for reading in readings] == [
        *(("0", False), ("2", False), ("1", True)),
    ]


@pytest.mark.usefixtures("plugins")
def test_registered_metrics_get_every_question_once_and_in_the_same_order_on_every_process() -> None:
    seen: list[list[str]] = []

    @registry.metrics.register("count")
    def count(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> float:
        assert [row.question.id for row in annotations] == [one.id for one in predictions]
        seen.append([one.id for one in predictions])
        return len(predictions)

    shares = [
        [(Prediction(id=name, video=""), Question("?", id=name), {"accuracy": (1, 1)}) for name in names]
        for names in ("ad", "be", "c")
    ]
    for own in shares:
        world: Any = SimpleNamespace(gather=lambda said, own=own: shares if said is own else None)
        measuring = validator({"val": ClipLoader(Numbered(5))}, world=world)
        assert measuring._metrics(own, "val") == {"accuracy": 100.0, "questions": 5, "unreadable": 0, "count": 5.0}
    assert seen == [list("abcde")] * 3

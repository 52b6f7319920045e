import dataclasses
from typing import Any

import numpy as np
import pytest

from lavis.common.types import Answer, FrameBatch, Keyframes, Moment, Moments, Question, Span, Unread, VideoInfo


def keyframes(count: int) -> Keyframes:
    integers, floats = np.arange(count), np.arange(count, dtype=float)
    return Keyframes(integers, integers, floats, floats, floats, floats)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_length_of_a_batch_is_its_number_of_frames(count: int) -> None:
    frames = np.zeros((count, 2, 3, 3), dtype=np.uint8)
    assert len(FrameBatch(frames, np.arange(count), np.arange(count, dtype=float))) == count
    assert len(keyframes(count)) == count


def test_a_question_needs_no_more_than_its_text() -> None:
    assert dataclasses.asdict(Question("Why?")) == {
        "text": "Why?",
        "options": (),
        "id": "",
        "answer": None,
        "kind": None,
        "video": None,
        "clip": None,
        "windows": None,
        "subtitles": (),
        "heard": "",
    }


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Span(0.0, 1.0), "start_s"),
        (Question("Why?"), "text"),
        (VideoInfo("a.mp4", 1, 25.0, 0.04, 8, 8), "fps"),
        (keyframes(1), "scores"),
        (Moment(0.0, 1.0, 0.5), "score"),
        (Moments("a dog", (), np.zeros(1), np.zeros(1)), "query"),
        (Answer(Question("Why?"), None, "because", np.zeros(0), keyframes(1)), "text"),
    ],
)
def test_what_flows_between_the_parts_cannot_be_changed_on_the_way(value: Any, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


def test_what_either_role_notes_is_said_once() -> None:
    both = Unread(notes=("a", "b")) | Unread(truncated=True, notes=("b", "c"))
    assert both.caveats == ("the question is too long for the model and lost its end", "a", "b", "c")


def test_subtitles_that_were_left_out_are_a_caveat_with_their_number() -> None:
    assert (Unread() | Unread(subtitles=3)).caveats == (
        "the subtitles of the frames are too long, and the last 3 were left out",
    )

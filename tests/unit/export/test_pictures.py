"""What result pictures show."""

import math
from collections import Counter
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageColor

from lavis.common.types import Answer, Keyframes, Question
from lavis.export import answer_picture, jpeg, moments_picture, thumbnail
from lavis.export.canvas import (
    ACCENT,
    ACCENT_FAINT,
    ACCENT_LIGHT,
    MARK,
    MARK_LIGHT,
    WARN_LIGHT,
    WIDTH,
    fitted,
    wrapped,
)
from lavis.export.pictures import best_positions, option_shares
from tests.unit.export.results import VIDEO, make_answer, make_moments, plain

FRAMES = [plain((10, 200, 30)), plain((200, 20, 220))]


def colours(png: bytes) -> dict[tuple[int, int, int], int]:
    """Count the pixels of each colour."""
    picture = Image.open(BytesIO(png))
    assert picture.format == "PNG"
    assert picture.width == WIDTH
    return Counter({colour: number for number, colour in picture.getcolors(picture.width * picture.height)})


def draw(answer: Answer) -> dict[tuple[int, int, int], int]:
    return colours(answer_picture(answer, video=VIDEO, model="sevila_tiny", frames=FRAMES))


def count(found: dict[tuple[int, int, int], int], colour: str) -> int:
    return found[ImageColor.getrgb(colour)]


def test_answer_shows_every_keyframe_and_the_chosen_option() -> None:
    found = draw(make_answer())
    assert found[10, 200, 30] > 10_000
    assert found[200, 20, 220] > 10_000
    assert count(found, ACCENT_LIGHT) > 10_000
    assert count(found, MARK) > 500
    assert count(found, ACCENT) > 500


def test_caveat_cannot_be_overlooked() -> None:
    assert count(draw(make_answer()), WARN_LIGHT) == 0
    assert count(draw(make_answer(caveats=("untrained",))), WARN_LIGHT) > 20_000


@pytest.mark.parametrize(
    "answer",
    [
        make_answer(scores=()),
        make_answer(scores=(1.0, 1.0, 1.0, 1.0)),
        make_answer(scores=(0.0, 0.0, 0.0, 0.0)),
        make_answer(scores=(math.nan, 1.0, math.inf, 2.0)),
        make_answer(options=(), option_scores=()),
        make_answer(option_scores=(math.nan, 1.0)),
    ],
    ids=["not scored", "constant", "zero", "not finite", "open answer", "option not finite"],
)
def test_unusual_answers_are_drawn_with_their_keyframes(answer: Answer) -> None:
    found = draw(answer)
    assert found[10, 200, 30] > 10_000
    assert count(found, MARK) > 500


def test_moments_are_shaded_and_shown_by_their_best_frame() -> None:
    moments = make_moments((3.0, 4.0, 1.0), (1.0, 3.0, 0.5))
    assert best_positions(moments) == [3, 1]
    found = colours(moments_picture(moments, video=VIDEO, model="sevila_tiny", frames=FRAMES))
    assert count(found, MARK_LIGHT) > 50_000
    assert found[10, 200, 30] > 10_000


def test_search_without_a_moment_is_drawn() -> None:
    found = colours(moments_picture(make_moments(), video=VIDEO, model="sevila_tiny", frames=[]))
    assert count(found, MARK_LIGHT) == 0
    assert count(found, ACCENT_FAINT) > 50_000


def test_shares_are_the_softmax_of_the_scores() -> None:
    assert option_shares(np.array([0.0, math.log(3.0)])) == pytest.approx([0.25, 0.75])
    assert option_shares(np.array([1000.0, -1000.0])) == [1.0, 0.0]
    assert option_shares(np.array([1.0, math.nan])) == [0.0, 0.0]


def test_jpeg_keeps_the_size_and_nearly_the_colour() -> None:
    picture = Image.open(BytesIO(jpeg(plain((10, 200, 30)))))
    assert (picture.format, picture.size) == ("JPEG", (32, 24))
    assert np.abs(np.asarray(picture, np.int64) - [10, 200, 30]).max() <= 3


def test_long_text_is_wrapped_and_cut_with_an_ellipsis() -> None:
    lines = wrapped("word " * 100, 300, size=20, max_lines=2)
    assert len(lines) == 2
    assert lines[0].endswith("word")
    assert lines[1].endswith("...")
    assert fitted("x" * 1000, 100, size=20).endswith("...")
    assert fitted("short", 100, size=20) == "short"
    assert wrapped("", 100, size=20, max_lines=2) == []


def test_thumbnail_is_small_and_keeps_the_ratio() -> None:
    assert thumbnail(np.zeros((1080, 1920, 3), np.uint8)).shape == (360, 640, 3)
    assert thumbnail(plain((1, 2, 3))).shape == (24, 32, 3)


def test_picture_of_very_many_keyframes_stays_small() -> None:
    num_frames = 200
    times = np.arange(num_frames, dtype=np.float64)
    keyframes = Keyframes(np.arange(num_frames), np.arange(num_frames), times, times, times, times)
    answer = Answer(Question("What?"), None, "text", np.empty(0), keyframes)
    png = answer_picture(answer, video=VIDEO, model="m", frames=FRAMES * 100)
    assert Image.open(BytesIO(png)).height < 2500

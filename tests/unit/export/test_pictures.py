"""What result pictures show."""

import dataclasses
import math
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from lavis.common.types import Answer, Keyframes, Question
from lavis.export import pictures
from lavis.export.pictures import (
    ACCENT,
    ACCENT_FAINT,
    ACCENT_LIGHT,
    MARK,
    MARK_LIGHT,
    WARN_LIGHT,
    WIDTH,
    _spread,
    answer_picture,
    draw_learning_curves,
    fitted,
    moments_picture,
    wrapped,
)
from tests.architecture.source import ROOT, python_files
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
        make_answer(option_scores=()),
    ],
    ids=["not scored", "constant", "zero", "not finite", "open answer", "option not finite", "options not scored"],
)
def test_unusual_answers_are_drawn_with_their_keyframes(answer: Answer) -> None:
    found = draw(answer)
    assert found[10, 200, 30] > 10_000
    assert count(found, MARK) > 500


def test_moments_are_shaded_and_shown_by_their_best_frame() -> None:
    moments = make_moments((3.0, 4.0, 1.0), (1.0, 3.0, 0.5))
    found = colours(moments_picture(moments, video=VIDEO, model="sevila_tiny", frames=FRAMES))
    assert count(found, MARK_LIGHT) > 50_000
    assert found[10, 200, 30] > 10_000


def test_search_without_a_moment_is_drawn() -> None:
    found = colours(moments_picture(make_moments(), video=VIDEO, model="sevila_tiny", frames=[]))
    assert count(found, MARK_LIGHT) == 0
    assert count(found, ACCENT_FAINT) > 50_000


def test_long_text_is_wrapped_and_cut_with_an_ellipsis() -> None:
    lines = wrapped("word " * 100, 300, size=20, most_lines=2)
    assert len(lines) == 2
    assert lines[0].endswith("word")
    assert lines[1].endswith("...")
    assert fitted("x" * 1000, 100, size=20).endswith("...")
    assert fitted("short", 100, size=20) == "short"
    assert wrapped("", 100, size=20, most_lines=2) == []


def test_picture_of_very_many_keyframes_stays_small() -> None:
    num_frames = 200
    times = np.arange(num_frames, dtype=np.float64)
    keyframes = Keyframes(np.arange(num_frames), np.arange(num_frames), times, times, times, times)
    answer = Answer(Question("What?"), None, "text", np.empty(0), keyframes)
    png = answer_picture(answer, video=VIDEO, model="m", frames=FRAMES * 100)
    assert Image.open(BytesIO(png)).height < 2500


def answer_of(num_frames: int, *, num_keyframes: int, text: str = "What?", options: tuple[str, ...] = ()) -> Answer:
    times = np.linspace(0.0, 4.0, num_frames)
    chosen = np.arange(num_keyframes)
    keyframes = Keyframes(chosen, chosen, times[chosen], times[chosen], times, times)
    return Answer(Question(text, options), 0 if options else None, "text", np.zeros(len(options)), keyframes)


def test_one_frame_and_a_thousand_frames_are_drawn() -> None:
    for num_frames in (1, 1000):
        png = answer_picture(answer_of(num_frames, num_keyframes=1), video=VIDEO, model="m", frames=FRAMES[:1])
        assert colours(png)[10, 200, 30] > 10_000


@pytest.mark.filterwarnings("error::UserWarning")  # of glyphs; others' garbage warns as it likes
@pytest.mark.parametrize(
    "text",
    [
        "$x_1^2$ and $",
        r"\frac{1}{2} \alpha",
        "\u8fd9\u4e2a\u89c6\u9891 \U0001f468\u200d\U0001f373",
        "\x00\udcff",
        "W" * 5000,
    ],
    ids=["dollars", "backslashes", "scripts no font has", "no characters", "one long word"],
)
def test_any_text_is_drawn_without_a_warning(text: str) -> None:
    answer = answer_of(4, num_keyframes=2, text=text, options=(text,) * 26)
    assert count(draw(answer), ACCENT_LIGHT) > 10_000


def test_an_empty_answer_says_so() -> None:
    empty, said = (dataclasses.replace(answer_of(4, num_keyframes=2), text=text) for text in ("", "(no answer)"))
    assert draw(empty) == draw(said)


def test_formulas_are_text_like_any_other() -> None:
    assert fitted(r"$x_1$ \alpha", 500, size=20) == r"$x_1$ \alpha"
    dollars, letters = (answer_of(4, num_keyframes=2, text=text) for text in ("$x_1^2$", "x"))
    assert draw(dollars) != draw(letters)


def test_characters_that_no_font_has_are_boxes_and_controls_are_left_out() -> None:
    assert fitted("a\u8fd9b\u202ec\udcff", 500, size=20) == "a\u25a1bc"


@pytest.mark.filterwarnings("error::UserWarning")  # of glyphs; others' garbage warns as it likes
def test_characters_that_only_another_installed_font_has_are_drawn_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_OTHER_FONTS", ("STIXGeneral", "not installed"))  # comes with matplotlib
    monkeypatch.setattr(pictures, "_families", cache(pictures._families.__wrapped__))
    monkeypatch.setattr(pictures, "_characters", cache(pictures._characters.__wrapped__))
    only_plain = "\u1d8e"  # is not in its bold face
    assert fitted(only_plain, 500, size=20) == only_plain
    assert fitted(only_plain, 500, size=20, weight="bold") == "\u25a1"
    draw(answer_of(4, num_keyframes=2, text=only_plain, options=(only_plain,)))


def test_a_script_without_spaces_is_broken_anywhere() -> None:
    lines = wrapped("\u8fd9" * 40, 300, size=20, most_lines=3)
    assert [len(line) for line in lines[:2]] == [len(lines[0])] * 2
    assert len(lines[0]) > 5


def test_the_same_answer_is_the_same_picture_in_any_thread() -> None:
    def png(_: int) -> bytes:
        return answer_picture(make_answer(), video=VIDEO, model="m", frames=FRAMES)

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(png, range(8))) == {png(0)}


def test_numbers_that_would_cover_each_other_move_aside() -> None:
    places = _spread(np.array([1.0, 1.1, 1.2, 9.0]), 1.0, (0.0, 10.0))
    assert np.diff(places).min() == pytest.approx(1.0)
    assert places[-1] == 9.0
    assert _spread(np.array([9.8, 9.9, 10.0]), 1.0, (0.0, 10.0)) == pytest.approx([8.0, 9.0, 10.0])
    assert len(_spread(np.empty(0), 1.0, (0.0, 10.0))) == 0


def test_learning_curves_are_a_panel_for_each_figure(tmp_path: Path) -> None:
    heights = []
    for number in (1, 2, 3):
        values = "".join(f', "metric{name}": {name}' for name in range(number))
        rows = [f'{{"kind": "{kind}", "iteration": 1, "epoch": 0{values}}}\n' for kind in ("train", "val")]
        (tmp_path / "log.jsonl").write_text("".join(rows))
        draw_learning_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            heights.append(picture.height)
    assert heights[2] - heights[1] == heights[1] - heights[0] > 200


def test_values_that_are_no_numbers_leave_a_gap_in_a_learning_curve(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "iteration": 1, "loss": NaN, "accuracy": 1}\n')
    draw_learning_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert count(colours((tmp_path / "curves.png").read_bytes()), ACCENT) > 5


def test_without_figures_no_learning_curve_is_drawn(tmp_path: Path) -> None:
    draw_learning_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_matplotlib_is_imported_only_to_draw() -> None:
    always = re.compile(r"^(from|import) (matplotlib|lavis\.export\.pictures)\b", re.MULTILINE)
    files = [path for path in python_files("lavis") if always.search((ROOT / path).read_text(encoding="utf-8"))]
    assert files == [Path("lavis/export/pictures.py")]

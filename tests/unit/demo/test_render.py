"""Results as HTML: what is shown and where on the timeline, and that nothing of a visitor's gets in as markup."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lavis.common.types import Moments, Question, Span, VideoInfo
from lavis.demo.render import (
    Curve,
    Pin,
    Timeline,
    answered_html,
    facts_text,
    found_html,
    high_spans,
    history_html,
    html,
)
from lavis.demo.service import AnswerResult, FindResult, PicturedAnswer, PicturedMoments
from lavis.demo.videos import Example
from tests.unit.demo.conftest import make_answer

TIMES = np.array([1.0, 3.0, 5.0, 7.0])
EVIL = "<img src=x onerror=alert(1)>"


def texts(html: str, name: str) -> list[str]:
    """The texts of elements of a class, without their tags."""
    found = re.findall(rf'class="{name}"[^>]*>(.*?)</(?:p|span|dd)>', html)
    return [re.sub("<[^>]+>", "", text) for text in found]


def test_an_answer_shows_its_option_shares_frames_and_times(answered: AnswerResult) -> None:
    page = answered_html(answered)
    assert texts(page, "asked") == ["Where is it?"]
    assert texts(page, "answer") == ["A"]  # the letter ends first
    assert "</span>sea</p>" in page
    assert texts(page, "text") == ["sea", "sky"]
    assert texts(page, "share") == ["73%", "27%"]
    assert re.findall(r'data-seek="([\d.]+)" aria-label="Keyframe (\d)', page) == [
        ("2.000", "1"),
        ("3.000", "2"),
        ("2.000", "1"),
        ("3.000", "2"),
    ]
    assert re.findall(r"<b>(.*?)</b> <i>(.*?)</i>", page) == [("2.00 s", "score 3.00"), ("3.00 s", "score 2.00")]
    assert "2 keyframes read of 4 frames watched" in page
    assert re.findall(r"<dd>(.*?)</dd>", page) == ["0.50 s", "1.25 s", "0.25 s", "0.12 s"]


def test_a_known_video_is_not_said_to_have_been_watched_again(answered: AnswerResult) -> None:
    page = answered_html(replace(answered, known=True))
    assert re.findall(r"<dd>(.*?)</dd>", page) == ["already done", "already done", "0.25 s", "0.12 s"]


def test_an_open_answer_has_no_options(answered: AnswerResult) -> None:
    page = answered_html(replace(answered, chosen=PicturedAnswer(make_answer(text="a boat", options=()), (b"", b""))))
    assert '<p class="answer">a boat</p>' in page
    assert 'class="option"' not in page


def test_options_without_scores_have_no_shares(answered: AnswerResult) -> None:
    assert answered_html(answered).count('class="bar"') == 2
    answer = replace(answered.chosen.answer, option_scores=np.empty(0))
    page = answered_html(replace(answered, chosen=replace(answered.chosen, answer=answer)))
    assert page.count('class="option"') == 2
    assert page.count('aria-current="true"') == 1
    for part in ('class="bar"', 'class="share"', "logit"):
        assert part not in page


@pytest.mark.parametrize(
    ("text", "verdict"), [("sea", "Both give the same answer."), ("sky", "The two answers differ.")]
)
def test_a_comparison_says_whether_the_answers_differ_and_scores_uniform_frames_too(
    answered: AnswerResult, text: str, verdict: str
) -> None:
    other = make_answer(text=text)
    unscored = replace(other.keyframes, positions=np.array([0, 3]), scores=np.empty(0), all_scores=np.empty(0))
    page = answered_html(replace(answered, uniform=PicturedAnswer(replace(other, keyframes=unscored), (b"", b""))))
    assert texts(page, "verdict") == [verdict]
    assert re.findall(r"<i>score (.*?)</i>", page) == ["3.00", "2.00", "0.50", "-1.00"]
    assert page.count('class="uniform"') == 2


def test_moments_are_listed_best_first(found: FindResult) -> None:
    page = found_html(found)
    assert '<p class="answer">2 moments found</p>' in page
    assert re.findall(r"<div><b>(.*?)</b>", page) == ["2.5 s to 3.5 s", "0.0 s to 1.5 s"]
    assert re.findall(r'data-cut="(\d)"', page) == ["0", "1"]
    assert page.count('class="span ') == 2


def test_several_sentences_share_a_timeline_and_have_a_legend(found: FindResult) -> None:
    one = found.searches[0]
    other = replace(one, moments=replace(one.moments, query="a boat", scores=one.moments.scores - 1))
    page = found_html(replace(found, searches=(one, other)))
    assert re.findall(r'<li class="(curve-\d)"><span class="swatch"></span><span class="text">(.*?)<', page) == [
        ("curve-0", "a ring"),
        ("curve-1", "a boat"),
    ]
    assert re.findall(r'class="curve (curve-\d)"', page) == ["curve-0", "curve-1"]
    assert re.findall(r'class="span (curve-\d)"', page) == ["curve-0", "curve-0", "curve-1", "curve-1"]
    assert re.findall(r'class="pin (curve-\d)"[^>]*>(\d)<', page) == [
        ("curve-0", "1"),
        ("curve-0", "2"),
        ("curve-1", "3"),
        ("curve-1", "4"),
    ]
    assert re.findall(r'data-cut="(\d)"', page) == ["0", "1", "2", "3"]
    assert "4 frames compared with the sentences" in page


def test_which_part_was_watched_is_said(answered: AnswerResult, found: FindResult) -> None:
    part = Span(1.0, 3.5)
    chosen = replace(answered.chosen, answer=replace(answered.chosen.answer, clip=part))
    assert "of 4 frames watched, from 1.0 s to 3.5 s of the video <" in answered_html(replace(answered, chosen=chosen))
    search = replace(found.searches[0], moments=replace(found.searches[0].moments, clip=part))
    assert "with the sentence, from 1.0 s to 3.5 s of the video <" in found_html(replace(found, searches=(search,)))


def test_where_there_is_no_moment_the_nearest_frame_is_named(found: FindResult) -> None:
    moments = found.searches[0].moments
    nothing = Moments("a ring", (), moments.times_s, moments.scores - 5)
    page = found_html(replace(found, searches=(PicturedMoments(nothing, ()),)))
    assert "No moment found" in page
    assert "The nearest frame, at 3.0 s, does not reach the line." in page


def test_whatever_is_written_by_others_is_text(answered: AnswerResult, found: FindResult) -> None:
    answer = make_answer(text=EVIL, options=(EVIL, "sky"))
    evil = replace(answer, question=replace(answer.question, text=EVIL))
    evil_search = replace(found.searches[0], moments=replace(found.searches[0].moments, query=EVIL))
    pages = [
        answered_html(replace(answered, chosen=PicturedAnswer(evil, (b"", b"")), caveats=(EVIL,))),
        found_html(replace(found, searches=(evil_search,), caveats=(EVIL,))),
        found_html(replace(found, searches=(evil_search, *found.searches))),
        html("share", EVIL),
        history_html([replace(answered, chosen=PicturedAnswer(evil, (b"", b"")))], None),
        html("error", EVIL),
        html("caveats", [EVIL]),
        html("preview", "gradio_api/file=a.mp4", EVIL, EVIL),
        html("examples", [Example(answered.source.path, (Question(EVIL),), "data:,", 1.0)]),
        html("more_questions", Example(answered.source.path, (Question(EVIL),), "data:,", 1.0)),
    ]
    assert [page for page in pages if EVIL in page] == []
    assert [page for page in pages if "&lt;img src=x onerror=alert(1)&gt;" not in page] == []


def test_nothing_to_say_takes_no_room() -> None:
    assert (html("error", ""), html("caveats", []), html("examples", []), html("share", "")) == ("", "", "", "")


def test_a_video_is_described_in_one_line() -> None:
    info = VideoInfo("clip.mp4", 2250, 29.97, 75.075, 640, 360)
    assert facts_text(info) == "1:15 · 2250 frames at 29.97 per second · 640 × 360"


WHOLE = Span(0.0, 8.0)


def timeline(
    scores: list[float], *, pins: tuple[float, ...] = (), threshold: float | None = None, part: Span = WHOLE
) -> str:
    made = [Pin(number, time_s, f"Keyframe {number}") for number, time_s in enumerate(pins, start=1)]
    curve = Curve(np.array(scores), [(2.0, 4.0)])
    return html("draw", Timeline(TIMES, [curve], part, made, "score", threshold))


def corners(page: str) -> list[tuple[float, ...]]:
    """The points of the first curve: 1000 units wide and 100 high, downwards."""
    points = re.findall(r'class="curve curve-0" points="(.*?)"', page)[0]
    return [tuple(float(number) for number in point.split(",")) for point in points.split()]


def test_the_curve_is_as_high_as_its_frame_for_as_long_as_that_stands_for() -> None:
    places = corners(timeline([0, 1, 0.5, 0]))
    assert [x for x, _ in places] == [0, 250, 250, 500, 500, 750, 750, 1000]
    assert [round(y, 1) for _, y in places] == [90.3, 90.3, 9.7, 9.7, 50.0, 50.0, 90.3, 90.3]


def test_the_axis_is_the_part_that_was_watched() -> None:
    page = timeline([0, 1, 0.5, 0], pins=(3.0,), part=Span(1.0, 5.0))
    assert [x for x, _ in corners(page)] == [0, 250, 250, 750, 750, 1000, 1000, 1000]
    assert re.findall(r'data-start="(.*?)" data-end="(.*?)"', page) == [("1.000", "5.000")]
    assert re.findall(r'class="pin curve-0".*?left:(.*?);', page) == ["50.00%"]
    assert re.findall(r'class="tick(?: last)?"[^>]*>(.*?)</span>', page) == ["1 s", "2 s", "3 s", "4 s", "5 s"]


def test_the_scale_has_round_scores_at_their_heights() -> None:
    page = timeline([-3, 5, 0, 2], threshold=0.0)
    marks = dict(re.findall(r'class="mark" style="top:(.*?)%">(.*?)</span>', page))
    assert list(marks.values()) == ["-2", "0", "2", "4"]
    (level,) = re.findall(r'class="threshold" x1="0" x2="1000" y1="(.*?)"', page)
    assert marks[level] == "0"
    assert 'class="axis">score<' in page


def test_spans_and_pins_stand_at_their_times() -> None:
    page = timeline([0, 1, 0.5, 0], pins=(2.0, 6.0))
    assert re.findall(r'class="span curve-0" x="(.*?)" y="0" width="(.*?)"', page) == [("250.0", "250.0")]
    assert re.findall(r'data-seek="(.*?)".*?left:(.*?);', page) == [("2.000", "25.00%"), ("6.000", "75.00%")]


def test_a_threshold_is_within_the_picture_even_where_no_score_reaches_it() -> None:
    page = timeline([-3, -2, -2.5, -3], threshold=0.0)
    (level,) = re.findall(r'class="threshold" x1="0" x2="1000" y1="(.*?)"', page)
    assert 0 < float(level) < 100


@pytest.mark.parametrize("scores", [[], [0.0, np.nan, 1.0, 2.0]])
def test_without_scores_there_is_no_curve_and_still_a_timeline(scores: list[float]) -> None:
    page = timeline(scores, pins=(2.0,))
    assert 'class="curve' not in page
    assert 'class="mark"' not in page
    assert 'class="pin ' in page


def test_numbers_that_are_near_each_other_stand_on_rows_of_their_own() -> None:
    page = timeline([0, 1, 0, 0], pins=(1.0, 1.1, 1.2, 5.0))
    assert re.findall(r"--level:(\d)", page) == ["0", "1", "2", "0"]
    assert "--levels:3" in page


def test_a_crowd_of_numbers_does_not_grow_without_end() -> None:
    page = timeline([0, 1, 0, 0], pins=(1.0,) * 9)
    assert max(int(level) for level in re.findall(r"--level:(\d)", page)) == 3


def test_the_label_is_text() -> None:
    line = Timeline(TIMES, [Curve(TIMES, [])], WHOLE, [Pin(1, 1.0, '"><b>')], '"><b>')
    assert "<b>" not in html("draw", line)


@pytest.mark.parametrize(
    ("scores", "spans", "middle"),
    [
        ([0.0, 4.0, 3.0, 0.0], [(2.0, 6.0)], 2.0),
        ([0.0, 0.0, 0.0, 4.0], [(6.0, 8.0)], 2.0),
        ([4.0, 0.0, 3.0, 3.0], [(0.0, 2.0), (4.0, 8.0)], 2.0),
        ([1.0, 1.0, 1.0, 1.0], [], None),
        ([], [], None),
        ([0.0, np.inf, 1.0, 2.0], [], None),
    ],
)
def test_shaded_is_wherever_scores_are_in_the_upper_half_of_their_range(
    scores: list[float], spans: list[tuple[float, float]], middle: float | None
) -> None:
    assert high_spans(TIMES, np.array(scores), part=WHOLE) == (spans, middle)


def test_what_is_shaded_is_said_and_lies_above_the_line(answered: AnswerResult) -> None:
    page = answered_html(answered)  # scores 0.5, 3, 2, -1 at 1, 2, 3, 4 s
    assert "<figcaption>Localizer&#39;s score of each frame; shaded, where it is in the upper half of its range" in page
    (level,) = re.findall(r'class="threshold" x1="0" x2="1000" y1="(.*?)"', page)
    (shaded,) = re.findall(r'class="span curve-0" x="(.*?)" y="0" width="(.*?)"', page)
    left, right = float(shaded[0]), float(shaded[0]) + float(shaded[1])
    above = [x for x, y in corners(page) if y < float(level)]
    assert (min(above), max(above)) == (left, right) == (375.0, 875.0)


def test_earlier_results_are_buttons_and_one_alone_needs_none(answered: AnswerResult, found: FindResult) -> None:
    page = history_html([answered, found], 1)
    assert re.findall(r'data-earlier="(\d)"(.*?)>(.*?) <b>(.*?)</b>', page) == [
        ("0", "", "Where is it?", "sea"),
        ("1", ' aria-current="true"', "a ring", "2 moments"),
    ]
    assert (history_html([], None), history_html([answered], 0)) == ("", "")
    assert "aria-current" not in history_html([answered], None)

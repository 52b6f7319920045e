"""Results as HTML: what is shown, and that nothing of a visitor's gets in as markup."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lavis.common.types import Moments, VideoInfo
from lavis.demo.render import (
    answered_html,
    caveats_html,
    error_html,
    examples_html,
    facts_text,
    found_html,
    more_questions_html,
    preview_html,
)
from lavis.demo.service import AnswerResult, FindResult, PicturedAnswer
from lavis.demo.videos import Example, ExampleQuestion
from tests.unit.demo.conftest import make_answer

EVIL = "<img src=x onerror=alert(1)>"


def texts(html: str, name: str) -> list[str]:
    """The texts of elements of a class, without their tags."""
    found = re.findall(rf'class="{name}"[^>]*>(.*?)</(?:p|span|dd)>', html)
    return [re.sub("<[^>]+>", "", text) for text in found]


def test_an_answer_shows_its_option_shares_frames_and_times(answered: AnswerResult) -> None:
    html = answered_html(answered)
    assert texts(html, "asked") == ["Where is it?"]
    assert texts(html, "answer") == ["A"]  # the letter ends first
    assert "</span>sea</p>" in html
    assert texts(html, "text") == ["sea", "sky"]
    assert texts(html, "share") == ["73%", "27%"]
    assert re.findall(r'data-seek="([\d.]+)" aria-label="Keyframe (\d)', html) == [
        ("2.000", "1"),
        ("3.000", "2"),
        ("2.000", "1"),
        ("3.000", "2"),
    ]
    assert re.findall(r"<b>(.*?)</b> <i>(.*?)</i>", html) == [("2.00 s", "score 3.00"), ("3.00 s", "score 2.00")]
    assert "2 keyframes read of 4 frames watched" in html
    assert re.findall(r"<dd>(.*?)</dd>", html) == ["0.50 s", "1.25 s", "0.25 s", "0.12 s"]


def test_a_known_video_is_not_said_to_have_been_watched_again(answered: AnswerResult) -> None:
    html = answered_html(replace(answered, known=True))
    assert re.findall(r"<dd>(.*?)</dd>", html) == ["already done", "already done", "0.25 s", "0.12 s"]


def test_an_open_answer_has_no_options(answered: AnswerResult) -> None:
    html = answered_html(replace(answered, chosen=PicturedAnswer(make_answer(text="a boat", options=()), (b"", b""))))
    assert '<p class="answer">a boat</p>' in html
    assert 'class="option"' not in html


@pytest.mark.parametrize(
    ("text", "verdict"), [("sea", "Both give the same answer."), ("sky", "The two answers differ.")]
)
def test_a_comparison_says_whether_the_answers_differ_and_scores_uniform_frames_too(
    answered: AnswerResult, text: str, verdict: str
) -> None:
    other = make_answer(text=text)
    unscored = replace(other.keyframes, positions=np.array([0, 3]), scores=np.empty(0), all_scores=np.empty(0))
    html = answered_html(replace(answered, uniform=PicturedAnswer(replace(other, keyframes=unscored), (b"", b""))))
    assert texts(html, "verdict") == [verdict]
    assert re.findall(r"<i>score (.*?)</i>", html) == ["3.00", "2.00", "0.50", "-1.00"]
    assert html.count('class="uniform"') == 2


def test_moments_are_listed_best_first(found: FindResult) -> None:
    html = found_html(found)
    assert '<p class="answer">2 moments found</p>' in html
    assert re.findall(r"<div><b>(.*?)</b>", html) == ["2.5 s to 3.5 s", "0.0 s to 1.5 s"]
    assert re.findall(r'data-cut="(\d)"', html) == ["0", "1"]
    assert html.count('class="span"') == 2


def test_where_there_is_no_moment_the_nearest_frame_is_named(found: FindResult) -> None:
    nothing = Moments("a ring", (), found.moments.times_s, found.moments.scores - 5)
    html = found_html(replace(found, moments=nothing, pictures=()))
    assert "No moment found" in html
    assert "The nearest frame, at 3.0 s, does not reach the line." in html


def test_whatever_is_written_by_others_is_text(answered: AnswerResult, found: FindResult) -> None:
    answer = make_answer(text=EVIL, options=(EVIL, "sky"))
    evil = replace(answer, question=replace(answer.question, text=EVIL))
    pages = [
        answered_html(replace(answered, chosen=PicturedAnswer(evil, (b"", b"")), caveats=(EVIL,))),
        found_html(replace(found, moments=replace(found.moments, query=EVIL), caveats=(EVIL,))),
        error_html(EVIL),
        caveats_html([EVIL]),
        preview_html("gradio_api/file=a.mp4", EVIL, EVIL),
        examples_html([Example(answered.source.path, (ExampleQuestion(EVIL, (), 0),), "data:,", 1.0)]),
        more_questions_html(Example(answered.source.path, (ExampleQuestion(EVIL, (), 0),), "data:,", 1.0)),
    ]
    assert [page for page in pages if EVIL in page] == []
    assert [page for page in pages if "&lt;img src=x onerror=alert(1)&gt;" not in page] == []


def test_nothing_to_say_takes_no_room() -> None:
    assert (error_html(""), caveats_html([]), examples_html([]), more_questions_html(None)) == ("", "", "", "")


def test_a_video_is_described_in_one_line() -> None:
    info = VideoInfo("clip.mp4", 2250, 29.97, 75.075, 640, 360)
    assert facts_text(info) == "1:15 · 2250 frames at 29.97 per second · 640 × 360"

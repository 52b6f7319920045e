"""A link says all that gives the same result again, and a changed one is refused in one line."""

import math

import pytest

from lavis.common.errors import UserError
from lavis.common.types import Span
from lavis.demo.links import link_to, read_link
from lavis.demo.service import AnswerRequest, FindRequest

EVERYTHING = AnswerRequest(
    "Where & why?", ("a=b", "c d", "<é>"), 16, 2, compare=True, clip=Span(1.5, 30.0), model="my model"
)


@pytest.mark.parametrize(
    "asked",
    [
        EVERYTHING,
        AnswerRequest("What happens?"),
        AnswerRequest("And then?", clip=Span(2.0, math.inf)),
        FindRequest(("a red ring", "a boat; at sea"), 8, 3, Span(0.0, 2.0)),
        FindRequest(("a ring",)),
    ],
)
def test_a_link_asks_the_same(asked: AnswerRequest | FindRequest) -> None:
    assert read_link(link_to("my clip.mp4", asked)) == ("my clip.mp4", asked)


def test_a_link_is_an_address_s_query() -> None:
    assert link_to("a.mp4", EVERYTHING) == (
        "?clip=a.mp4&question=Where+%26+why%3F&option=a%3Db&option=c+d&option=%3C%C3%A9%3E&keyframes=2&compare=1"
        "&frames=16&model=my+model&start=1.5&end=30"
    )


def test_people_may_write_times_as_they_do() -> None:
    assert read_link("?clip=a.mp4&question=Why%3F&start=1:30&end=2:00")[1].clip == Span(90.0, 120.0)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("", "This link has no clip."),
        ("?clip=a.mp4", "This link has no question."),
        ("?clip=a.mp4&question=Why&frames=-1", "This link asks for '-1' frames, which is no number."),
        ("?clip=a.mp4&query=x&moments=1e9", "This link asks for '1e9' moments, which is no number."),
        ("?clip=a.mp4&query=x&start=noon", "'noon' is no time; give seconds, mm:ss or hh:mm:ss"),
        ("?clip=a.mp4&question=" + "x" * 8000, "This link is too long."),
        ("?clip=a.mp4" + "&option=x" * 64, "This link has too many fields."),
    ],
)
def test_what_is_no_link_of_ours_is_said(link: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_link(link)
    assert str(refused.value) == message

from typing import Any

import pytest

from lavis.common.errors import QuestionError
from lavis.common.types import Question
from lavis.processors.prompts import check_question


@pytest.mark.parametrize(
    "options", [(), ("a", "b"), ("no", "No"), ("🐈", "قط"), tuple(f"option {number}" for number in range(26))]
)
def test_questions_with_none_or_2_to_26_different_options_can_be_asked(options: tuple[str, ...]) -> None:
    check_question(Question("What is shown?", options))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", (), "the question is empty; give some text"),
        (" \n", ("a", "b"), "the question is empty; give some text"),
        ("\u200b\x07\ufeff", (), "the question is empty; give some text"),
        ("x", ("a", "\u00ad\u3000"), "option B is empty; give some text or leave it out"),
        ("x", ("a",), "1 option given; give none, or 2 to 26"),
        ("x", tuple(map(str, range(27))), "27 options given; give none, or 2 to 26"),
        ("x", ("a", " "), "option B is empty; give some text or leave it out"),
        ("x", ("a", "b", "a"), "option C repeats 'a'; give different options"),
        ("x", ("a", "a "), "option B repeats 'a '; give different options"),
        ("x", (1, 2), "option A is 1, not text; put it in quotes"),
        (None, (), "the question is None, not text; put it in quotes"),
        ("\ud800", (), "the question is '\\ud800', which holds broken characters; mend its encoding"),
        ("x", ("a", "b\udcff"), "option B is 'b\\udcff', which holds broken characters; mend its encoding"),
    ],
)
def test_others_are_refused_in_one_line(text: Any, options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        check_question(Question(text, options))
    assert str(caught.value) == message

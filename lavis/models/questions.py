"""Which questions can be asked."""

import unicodedata

from lavis.common.errors import QuestionError
from lavis.common.types import Question
from lavis.processors.prompts import OPTION_LETTERS

# Control and formatting characters, and spaces of any kind.
_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")


def check_question(question: Question) -> None:
    """Refuse a question that cannot be asked.

    Raises:
        QuestionError: no text, a single option, more than 26, an empty or a doubled option.
    """
    _check_text(question.text, name="the question", way_out="give some text")
    options = question.options
    if len(options) == 1 or len(options) > len(OPTION_LETTERS):
        raise QuestionError(f"{len(options)} options given; give none, or 2 to {len(OPTION_LETTERS)}")
    seen: set[str] = set()
    for letter, option in zip(OPTION_LETTERS, options, strict=False):
        _check_text(option, name=f"option {letter}", way_out="give some text or leave it out")
        if option.strip() in seen:
            raise QuestionError(f"option {letter} repeats {option!r}; give different options")
        seen.add(option.strip())


def _check_text(text: str, *, name: str, way_out: str) -> None:
    # Annotations promise text, but questions come from notebooks and files.
    if not isinstance(text, str):
        raise QuestionError(f"{name} is {text!r}, not text; put it in quotes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QuestionError(f"{name} is {text!r}, which holds broken characters; mend its encoding") from None
    # Tokenizers drop control characters and the like, so nothing would be asked.
    if all(unicodedata.category(character) in _UNSEEN for character in text):
        raise QuestionError(f"{name} is empty; {way_out}")

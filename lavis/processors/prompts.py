"""What is asked of the language model, as exact strings, and which questions can be asked.

Each prompt class words one kind of question for both roles: `localizer` asks of a single frame
whether it helps, `answerer` asks for the answer, `target` is the text the Answerer is trained to
write. The wording is the published one (paper, section 3.2); trained weights depend on every
character of it.
"""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

from lavis.common.errors import QuestionError, counted
from lavis.common.registry import registry
from lavis.common.types import Floats, Question

QuestionLike: TypeAlias = str | Question | Mapping[str, Any]
"""What is taken as a question; see `as_question`."""
OPTION_LETTERS = string.ascii_uppercase
MAX_SUBTITLE_CHARS = 8000
"""What is read of subtitles at most, about 2,000 tokens; whole lines are left out, the last ones first."""
_LEAST_S = 1.0
_QUESTION_KEYS = {"text", "options", "id"}
_MAPPING = 'a mapping such as {"text": "Where?", "options": ["here", "there"]}'
# Control and formatting characters, and spaces of any kind.
_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")
_DETAILS = "Does the information within the frame provide the necessary details to"
_SELECT = "Considering the information presented in the frame, select the correct answer from the options."


def option_list(options: tuple[str, ...]) -> str:
    """Word options as "Option A: first Option B: second"."""
    return " ".join(f"Option {letter}: {text}" for letter, text in zip(OPTION_LETTERS, options, strict=False))


def option_target(index: int) -> str:
    """Return the text the Answerer writes to choose an option, such as "Option C"."""
    return f"Option {OPTION_LETTERS[index]}"


def as_prompt(prompt: "str | Prompt") -> "Prompt":
    """Return a prompt, looked up in `registry.prompts` where it is a name.

    Raises:
        ConfigError: no prompt has this name.
    """
    return registry.prompts.get(prompt)() if isinstance(prompt, str) else prompt


class Prompt(Protocol):
    """Words one kind of question for both roles."""

    def localizer(self, question: Question) -> str:
        """Ask of one frame whether it holds what the question needs; the model says "yes" or "no"."""
        ...

    def answerer(self, question: Question) -> str:
        """Ask for the answer, given the frames that stand before this text."""
        ...


@registry.prompts.register("multiple_choice")
class MultipleChoicePrompt:
    """A question with options (NExT-QA, STAR, How2QA, TVQA); without options, an open question."""

    def localizer(self, question: Question) -> str:
        """Ask whether the frame has the details to answer."""
        options = f" Options: ({' '.join(question.options)} )" if question.options else ""
        return f"Question: {question.text}{options} {_DETAILS} accurately answer the given question?"

    def answerer(self, question: Question) -> str:
        """Ask for the letter of the right option, or for a short answer where there are no options."""
        # Last, so that what is cut for length are subtitles and not the question.
        heard = f" Subtitles: {' '.join(question.heard.splitlines())}" if question.heard else ""
        if not question.options:
            return f"Question: {question.text} Short answer:{heard}"
        return f"Question: {question.text} {option_list(question.options)} {_SELECT}{heard}"


@registry.prompts.register("next_event")
class NextEventPrompt:
    """Which event comes next (VLEP); the question itself is the same for all rows."""

    question = "Upon observing the provided frames, what is the most probable subsequent event?"

    def localizer(self, question: Question) -> str:
        """Ask whether the frame has the details to predict the next event."""
        return f"{self.answerer(question)} {_DETAILS} predict next event?"

    def answerer(self, question: Question) -> str:
        """Ask for the letter of the most probable event."""
        return f"{self.question} {option_list(question.options)}" if question.options else self.question


@registry.prompts.register("moment")
class MomentPrompt:
    """Whether a frame shows what a sentence describes (QVHighlights)."""

    def localizer(self, question: Question) -> str:
        """Ask whether the frame lies in the described moment."""
        sentence = question.text if question.text.endswith(".") else f"{question.text}."
        return f"Question: {sentence} Option A: yes. Option B: no. {_DETAILS} accurately answer the given question?"

    def answerer(self, question: Question) -> str:  # noqa: ARG002  # the published wording never names the query
        """Return the published wording; moments are found by the Localizer alone."""
        return _SELECT


def as_questions(questions: Sequence[QuestionLike]) -> list[Question]:
    """Return what is asked of a list of texts, `Question` objects and mappings; see `as_question`.

    Raises:
        QuestionError: no list, or one of them cannot be asked.
    """
    if isinstance(questions, (str, Mapping, Question)):
        raise QuestionError(f"the questions are {questions!r:.80}; give a list of them")
    asked = [as_question(question) for question in questions]
    for question in asked:
        check_question(question)
    return asked


def as_question(question: QuestionLike) -> Question:
    """Return a question of a text, or of a mapping with "text" (or "question"), "options" and "id"; not checked.

    Raises:
        QuestionError: it is neither, or has other keys.
    """
    if isinstance(question, Question):
        return question
    if isinstance(question, str):
        return Question(text=question)
    if not isinstance(question, Mapping):
        raise QuestionError(f"a question is {question!r:.80}; give a text, or {_MAPPING}")
    fields = dict(question)
    if "text" not in fields and "question" in fields:
        fields["text"] = fields.pop("question")
    if unknown := sorted(map(str, fields.keys() - _QUESTION_KEYS)):
        raise QuestionError(f"a question has {unknown[0]!r}; give {_MAPPING}")
    options = fields.get("options") or ()
    if isinstance(options, str):
        raise QuestionError(f"options are the text {options!r}; give a list of texts")
    return Question(text=fields.get("text", ""), options=tuple(options), id=str(fields.get("id", "")))


def check_question(question: Question) -> None:
    """Refuse a question that cannot be asked.

    Raises:
        QuestionError: no text, a single option, more than 26, an empty or a doubled option.
    """
    _check_text(question.text, name="the question", way_out="give some text")
    options = question.options
    if len(options) == 1 or len(options) > len(OPTION_LETTERS):
        raise QuestionError(f"{counted(len(options), 'option')} given; give none, or 2 to {len(OPTION_LETTERS)}")
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


def hearing(question: Question, times_s: Floats) -> tuple[Question, int]:
    """Give a question the subtitles of the frames that it is answered from, in the order of time.

    A subtitle shorter than a second counts for a second around its middle, as LongVideoBench's loader has it.

    Args:
        times_s: [K], the times of the frames.

    Returns:
        the question, and how many of these subtitles were left out, since they were too long together.
    """
    if not question.subtitles:
        return question, 0
    lines = []
    for subtitle in question.subtitles:
        middle_s = (subtitle.start_s + subtitle.end_s) / 2
        reach_s = max(subtitle.end_s - subtitle.start_s, _LEAST_S) / 2
        if (abs(times_s - middle_s) <= reach_s).any():
            lines.append(f"{subtitle.start_s:.1f} s: {subtitle.text}")
    kept, length = 0, 0
    for line in lines:
        length += len(line) + 1
        if length > MAX_SUBTITLE_CHARS:
            break
        kept += 1
    lost = len(lines) - kept
    ending = [f"({lost} more lines are left out)"] if lost else []
    return replace(question, heard="\n".join([*lines[:kept], *ending])), lost

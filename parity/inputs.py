"""Questions of a golden case: its prompts are given as text, so they are asked word for word."""

from lavis.common.types import Question, Span
from lavis.processors.prompts import OPTION_LETTERS
from parity.directory import Case


class GivenPrompt:
    """Asks the case's own texts; a question's id is its row."""

    def __init__(self, *, localizer: list[str], answerer: list[str]) -> None:
        self._localizer = localizer
        self._answerer = answerer

    def localizer(self, question: Question) -> str:
        """Return the row's text for the Localizer."""
        return self._localizer[int(question.id)]

    def answerer(self, question: Question) -> str:
        """Return the row's text for the Answerer."""
        return self._answerer[int(question.id)]


def given_prompt(case: Case) -> GivenPrompt:
    """Return the texts of a case."""
    inputs = case["inputs"]
    return GivenPrompt(localizer=inputs["loc_input"], answerer=inputs["qa_input"])


def choice_questions(case: Case) -> list[Question]:
    """Return questions with as many options as the case has, and the right one from "Option X"."""
    options = tuple(OPTION_LETTERS[: case["answer_num"]])
    return [
        Question(text="given", options=options, id=str(row), answer=OPTION_LETTERS.index(target.split()[-1]))
        for row, target in enumerate(case["inputs"]["qa_output"])
    ]


def moment_questions(targets: list[str]) -> list[Question]:
    """Return queries whose windows hold just the "yes" frames of texts such as "yes_no_no", at 1 frame a second."""
    return [
        Question(
            text="given",
            id=str(row),
            windows=tuple(Span(i, i) for i, verdict in enumerate(target.split("_")) if verdict == "yes"),
        )
        for row, target in enumerate(targets)
    ]

import numpy as np
import pytest

from lavis.common.types import Question, Subtitle
from lavis.processors import prompts
from lavis.processors.chat_prompts import MultipleChoiceChat
from lavis.processors.prompts import MultipleChoicePrompt, hearing

QUESTION = Question(
    "Who sings?",
    ("Ann", "Bob"),
    subtitles=(Subtitle(0.0, 4.0, "hello"), Subtitle(10.0, 10.2, "short"), Subtitle(20.0, 30.0, "goodbye")),
)


@pytest.mark.parametrize(
    ("times_s", "heard"),
    [
        ([2.0], "0.0 s: hello"),
        ([0.0, 4.0], "0.0 s: hello"),
        ([25.0, 1.0], "0.0 s: hello\n20.0 s: goodbye"),
        ([4.1, 9.0, 19.9, 30.1], ""),
        # 10.1 is the middle of the short one, which counts for a second.
        ([9.61], "10.0 s: short"),
        ([10.59], "10.0 s: short"),
        ([9.59, 10.61], ""),
    ],
)
def test_only_what_is_said_while_frames_are_shown_is_heard(times_s: list[float], heard: str) -> None:
    question, lost = hearing(QUESTION, np.array(times_s))
    assert (question.heard, lost) == (heard, 0)
    assert (question.text, question.options) == ("Who sings?", ("Ann", "Bob"))


def test_a_question_without_subtitles_stays_what_it_is() -> None:
    question = Question("Who sings?")
    assert hearing(question, np.array([1.0])) == (question, 0)


def test_what_is_too_long_loses_its_last_lines_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    # "0.0 s: hello" and "10.0 s: short" with their ends of line.
    for limit, heard, lost in (
        (27, "0.0 s: hello\n10.0 s: short\n(1 more lines are left out)", 1),
        (26, "0.0 s: hello\n(2 more lines are left out)", 2),
        (5, "(3 more lines are left out)", 3),
    ):
        monkeypatch.setattr(prompts, "MAX_SUBTITLE_CHARS", limit)
        question, found = hearing(QUESTION, np.array([1.0, 10.0, 20.0]))
        assert (question.heard, found) == (heard, lost)


def test_prompts_word_what_is_heard_and_are_the_same_without() -> None:
    heard, _ = hearing(QUESTION, np.array([1.0, 25.0]))
    prompt, chat = MultipleChoicePrompt(), MultipleChoiceChat()
    assert prompt.answerer(heard) == (
        "Question: Who sings? Option A: Ann Option B: Bob Considering the information presented in the frame, select "
        "the correct answer from the options. Subtitles: 0.0 s: hello 20.0 s: goodbye"
    )
    assert chat.answerer(heard) == (
        "Subtitles of these frames:\n0.0 s: hello\n20.0 s: goodbye\nQuestion: Who sings?\nOptions:\nA. Ann\nB. Bob\n"
        "Answer with the letter of the right option only."
    )
    silent = Question("Who sings?", ("Ann", "Bob"))
    for wording in (prompt, chat):
        assert wording.answerer(QUESTION) == wording.answerer(silent)
        assert wording.localizer(heard) == wording.localizer(silent)

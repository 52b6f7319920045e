import pytest

from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.processors.chat_prompts import MultipleChoiceChat, as_chat_prompt, spellings

CHOICE = Question("What does he do?", ("He cycles", "He\nB. swims"))
OPEN = Question("What does he do?")
SAID = "Question: What does he do?\nOptions:\nA. He cycles\nB. He B. swims\n"


def test_every_kind_of_prompt_has_a_wording_for_chat_models() -> None:
    assert set(registry.chat_prompts.names()) >= {"multiple_choice", "next_event", "moment"}
    assert set(registry.chat_prompts.names()) <= set(registry.prompts.names())


@pytest.mark.parametrize(
    ("name", "question", "localizer", "answerer"),
    [
        (
            "multiple_choice",
            CHOICE,
            f"{SAID}Does this frame show what is needed to answer the question? Answer with yes or no only.",
            f"{SAID}Answer with the letter of the right option only.",
        ),
        (
            "multiple_choice",
            OPEN,
            "Question: What does he do?\n"
            "Does this frame show what is needed to answer the question? Answer with yes or no only.",
            "Question: What does he do?\nAnswer in a few words.",
        ),
        (
            "next_event",
            Question("whatever the row says", ("It rains.", "The sun shines.")),
            "Question: What most likely happens after what is shown?\n"
            "Options:\nA. It rains.\nB. The sun shines.\n"
            "Does this frame show what is needed to tell what happens next? Answer with yes or no only.",
            "Question: What most likely happens after what is shown?\n"
            "Options:\nA. It rains.\nB. The sun shines.\n"
            "Answer with the letter of the right option only.",
        ),
        (
            "moment",
            Question("A dog runs"),
            "Description: A dog runs\nDoes this frame show what is described? Answer with yes or no only.",
            "Question: A dog runs\nAnswer in a few words.",
        ),
    ],
)
def test_prompts_are_these_strings(name: str, question: Question, localizer: str, answerer: str) -> None:
    prompt = as_chat_prompt(name)
    assert prompt.localizer(question) == localizer
    assert prompt.answerer(question) == answerer


@pytest.mark.parametrize(
    ("time_s", "label"), [(0, "Frame at 0.0 s:"), (12.34, "Frame at 12.3 s:"), (3600, "Frame at 3600.0 s:")]
)
@pytest.mark.parametrize("name", ["multiple_choice", "next_event", "moment"])
def test_frames_are_labelled_with_their_time(name: str, time_s: float, label: str) -> None:
    assert as_chat_prompt(name).frame_label(time_s) == label


def test_words_may_begin_with_a_space_and_in_any_case_but_letters_are_capitals() -> None:
    assert spellings("yes") == ("yes", " yes", "Yes", " Yes", "YES", " YES")
    assert spellings("A") == ("A", " A")


def test_a_prompt_object_is_taken_as_it_is() -> None:
    prompt = MultipleChoiceChat()
    assert as_chat_prompt(prompt) is prompt


def test_what_has_no_wording_for_chat_models_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = registry.prompts.get("moment")
    monkeypatch.setitem(registry.prompts._parts, "brief", own)
    with pytest.raises(ConfigError, match=r"'brief' has no wording for chat models; register one of this name in"):
        as_chat_prompt("brief")
    with pytest.raises(ConfigError, match="MomentPrompt is not worded for chat models: it has no frame_label"):
        as_chat_prompt(own())
    with pytest.raises(ConfigError, match="unknown chat prompt 'multiple_choise'; did you mean 'multiple_choice'"):
        as_chat_prompt("multiple_choise")

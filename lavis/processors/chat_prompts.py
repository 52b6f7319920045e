"""What is asked of chat models, as exact strings: models that follow instructions, in this process or on a server.

A prompt of each name in `registry.prompts` words the same kind of question for such models. Pictures come first in
a message, so that what a model made of a frame serves every question about it; the text follows them.
"""

from typing import Protocol, cast

from lavis.common.errors import ConfigError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.processors.prompts import OPTION_LETTERS, Prompt

_YES_NO = "Answer with yes or no only."
_LETTER = "Answer with the letter of the right option only."


class ChatPrompt(Prompt, Protocol):
    """Words one kind of question for both roles of a chat model."""

    def localizer(self, question: Question) -> str:
        """Ask of the one frame before this text whether it helps, to be answered with "yes" or "no" alone."""
        ...

    def answerer(self, question: Question) -> str:
        """Ask for the letter of the right option, or for a short answer, given the frames before this text."""
        ...

    def frame_label(self, time_s: float) -> str:
        """Return the text that stands before a frame when the Answerer reads several."""
        ...


def as_chat_prompt(prompt: str | Prompt) -> ChatPrompt:
    """Return a chat prompt, looked up in `registry.chat_prompts` where it is a name.

    Raises:
        ConfigError: no chat prompt has this name, or the prompt is not worded for chat models.
    """
    if isinstance(prompt, str):
        if prompt in registry.prompts and prompt not in registry.chat_prompts:
            raise ConfigError(
                f"the prompt {prompt!r} has no wording for chat models; register one of this name in "
                f"registry.chat_prompts, or use one of {', '.join(registry.chat_prompts.names())}"
            )
        return cast("ChatPrompt", registry.chat_prompts.get(prompt)())
    if not hasattr(prompt, "frame_label"):
        raise ConfigError(f"the prompt {type(prompt).__name__} is not worded for chat models: it has no frame_label")
    return cast("ChatPrompt", prompt)


def option_lines(options: tuple[str, ...]) -> str:
    """List options one per line, as "A. first"; line breaks within an option become spaces."""
    lines = (f"{letter}. {' '.join(text.split())}" for letter, text in zip(OPTION_LETTERS, options, strict=False))
    return "\n".join(lines)


def spellings(word: str) -> tuple[str, ...]:
    """Return how a model may begin an answer of one word: with a space or without, and a longer word in any case."""
    cases = (word,) if len(word) == 1 else (word.lower(), word.capitalize(), word.upper())
    return tuple(f"{space}{case}" for case in cases for space in ("", " "))


@registry.chat_prompts.register("multiple_choice")
class MultipleChoiceChat:
    """A question with options; without options, an open question."""

    def localizer(self, question: Question) -> str:
        """Ask whether the frame shows what the answer needs."""
        return f"{self._asked(question)}\nDoes this frame show what is needed to answer the question? {_YES_NO}"

    def answerer(self, question: Question) -> str:
        """Ask for a letter, or for a few words where there are no options."""
        heard = f"Subtitles of these frames:\n{question.heard}\n" if question.heard else ""
        return f"{heard}{self._asked(question)}\n{_LETTER if question.options else 'Answer in a few words.'}"

    def frame_label(self, time_s: float) -> str:
        """Give the time of the frame, in seconds."""
        return f"Frame at {time_s:.1f} s:"

    def _asked(self, question: Question) -> str:
        options = f"\nOptions:\n{option_lines(question.options)}" if question.options else ""
        return f"Question: {question.text}{options}"


@registry.chat_prompts.register("next_event")
class NextEventChat(MultipleChoiceChat):
    """Which event comes next; the question itself is the same for all rows."""

    question = "What most likely happens after what is shown?"

    def localizer(self, question: Question) -> str:
        """Ask whether the frame shows what the next event follows from."""
        return f"{self._asked(question)}\nDoes this frame show what is needed to tell what happens next? {_YES_NO}"

    def _asked(self, question: Question) -> str:
        return super()._asked(Question(self.question, question.options))


@registry.chat_prompts.register("moment")
class MomentChat(MultipleChoiceChat):
    """Whether a frame shows what a sentence describes."""

    def localizer(self, question: Question) -> str:
        """Ask whether the frame lies in the described moment."""
        return f"Description: {question.text}\nDoes this frame show what is described? {_YES_NO}"

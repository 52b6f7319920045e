"""A model behind an OpenAI-compatible server, in both roles: frames go there as JPEG, and words come back.

What it is surest of is read from the log-probabilities of its first token, where the server gives them. T frames of one
video, B questions about it, K keyframes, O options.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from lavis.common.errors import ConfigError, NoAnswerError, QuestionError
from lavis.common.logging import visible
from lavis.common.registry import registry
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.models.api.client import ChatClient
from lavis.models.base import FrameScores, KnownWeights, Mask, Reading
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.models.watching import WatchesVideos
from lavis.processors.chat_prompts import ChatPrompt, as_chat_prompt, spellings
from lavis.processors.prompts import OPTION_LETTERS, Prompt

NAME = "openai"
_EXAMPLE = f"{NAME}:http://127.0.0.1:8000/v1#NAME-OF-THE-MODEL"
# OpenAI and Ollama allow no more.
_MOST_LISTED = 20
# A letter or a word takes one; this leaves room for "The answer is B." where a model does not do as it is told.
_SHORT_ANSWER_TOKENS, _WORD_TOKENS = 16, 4
_JPEG_QUALITY = 90
# Understands "B", "b.", "(B) He swims", "Option B:", "The answer is B."
_LETTER = re.compile(
    r"(?:(?i:(?:the )?(?:(?:correct|right|best) )?(?:answer|option)(?: is)?)[:\s]\s*(?i:option )?)?"
    r"\(?(?:([A-Z])(?=\s*$|[).:\n])|([a-z])(?=[).]?$))[).:]*"
)
_OTHER_LETTER = re.compile(r"(?<![\w'])([A-Z])(?=[).:]|\s*$)")
_THINKING = "; a model that thinks first needs to be told not to (see docs/servers.md)"
# What requests say by themselves.
_OWN_KEYS = ("model", "messages", "stream", "n", "logprobs", "top_logprobs")


@dataclass(frozen=True)
class ServedConfig:
    """What others ask of a model's configuration.

    Attributes:
        image_mean, image_std: of frames prepared for models in this process; a server prepares its own.
    """

    name: str
    weights: KnownWeights
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Said:
    """What a model said.

    Attributes:
        first: the first token that is not blank; "" where the server tells no tokens.
        listed: log-probabilities of the likeliest tokens in its place; empty where the server tells none.
    """

    text: str
    first: str
    listed: Mapping[str, float]

    def log_probability(self, word: str) -> float | None:
        """Return the log-probability of a word in any of its spellings; None where none of them is listed."""
        found = [self.listed[one] for one in spellings(word) if one in self.listed]
        return float(np.logaddexp.reduce(found)) if found else None

    @property
    def floor(self) -> float:
        """The weakest log-probability that is listed: no token that is not listed has a higher one."""
        return min(self.listed.values())


class ServedModel(nn.Module, WatchesVideos):
    """A model on a server, by the address that was named.

    It has no encoders: frames are decoded when they are asked about, and sent.

    Args:
        url: base address, such as "http://127.0.0.1:8000/v1".
        model: its name on the server.
        timeout_s, retries, concurrency: see `ChatClient`.
        max_side: pixels of a picture's longer side; larger frames are sent smaller.
        max_tokens: of an open answer.
        body: what else each request says, such as {"temperature": 1}; None takes a key out.

    Raises:
        ConfigError: an address or a number that cannot be.

    Example:
        >>> model = lavis.load_model(model_type="openai:http://127.0.0.1:8000/v1#qwen3-vl")
        >>> model.watch("clip.mp4").ask("What happens?", ["rain", "sun"], selector="uniform").text
    """

    device = torch.device("cpu")
    encoders: tuple[FrameEncoder, ...] = ()
    # Frames that are prepared for models in this process, which nobody looks at here.
    image_size = 32

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout_s: float = 120.0,
        retries: int = 4,
        concurrency: int = 4,
        max_side: int = 768,
        max_tokens: int = 64,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.client = ChatClient(url, timeout_s=timeout_s, retries=retries, concurrency=concurrency)
        if not isinstance(model, str) or not model.strip():
            raise ConfigError(f"the server {url} needs the name of a model; give it as in {_EXAMPLE}")
        for name, value in (("max_side", max_side), ("max_tokens", max_tokens)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 1 or more")
        if body is not None and not isinstance(body, Mapping):
            raise ConfigError(f"body is {body!r}; give a mapping of what requests say beside the rest")
        self.model, self.max_side, self.max_tokens, self.body = model, max_side, max_tokens, dict(body or {})
        for key in self.body:
            if key in _OWN_KEYS:
                raise ConfigError(f"body: {key!r} is said already by each request; leave it out")
        name = f"{visible(model)} on {self.client.url}"
        note = f"answered by {name}, of whose weights nothing is known here"
        self.config = ServedConfig(name, KnownWeights("unknown", note))

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: str = "fp32",
        device: str = "cpu",
        url: str | None = None,
        timeout_s: float | None = None,
        retries: int | None = None,
        concurrency: int | None = None,
        max_side: int | None = None,
        max_tokens: int | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> "ServedModel":
        """Return the model at "ADDRESS#NAME"; with `url`, the source is the name alone.

        Precision and device are the server's own; None is the default.

        Raises:
            ConfigError: it is neither.
        """
        del dtype, device
        limits = {"timeout_s": timeout_s, "retries": retries, "concurrency": concurrency}
        given = {**limits, "max_side": max_side, "max_tokens": max_tokens, "body": body}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if url is not None:
            return cls(str(url), str(source), **settings)
        address, _, model = str(source).partition("#")
        if not model or "://" not in address:
            raise ConfigError(f"a model on a server needs an address and a name, as in {_EXAMPLE}")
        return cls(address, model, **settings)

    @classmethod
    def check_weights(cls, source: str | Path, *, partial: Sequence[Path] = (), **settings: Any) -> None:
        """Make sure that a source names a server, and that nothing is to be laid over its weights; asks nobody."""
        cls.from_pretrained(source, **settings).load_partial(*partial)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What goes with every answer."""
        return (self.config.weights.note,)

    def make_digest(self) -> str:
        """Return a digest of what names the model and of all that requests depend on; keys are no part of it."""
        facts = ("model", "max_side", "max_tokens", "body")
        return digest({"name": NAME, "url": self.client.url, **{name: getattr(self, name) for name in facts}})

    def watching_key(self) -> str:
        """Return a digest of what goes to the server."""
        return self.make_digest()

    def as_scorer(self, *, prompt: str | Prompt) -> "ServedLocalizer":
        """Return the role that scores frames."""
        return ServedLocalizer(model=self, prompt=as_chat_prompt(prompt))

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> "ServedAnswerer":
        """Return the role that answers."""
        reads_alone = registry.frame_packings.get(packing).reads_alone
        return ServedAnswerer(model=self, prompt=as_chat_prompt(prompt), reads_alone=reads_alone)

    def prompt_warnings(self) -> list[str]:
        """Return nothing: a server refuses what it cannot read."""
        return []

    def parts(self) -> dict[str, nn.Module]:
        """Return nothing: no part of the model is here."""
        return {}

    def published_names(self) -> dict[str, str]:
        """Return nothing: there is no published code of it."""
        return {}

    def quantize(self, name: str) -> NoReturn:
        """Refuse."""
        self._refuse(f"quantised to {name} here")

    def compile_parts(self) -> NoReturn:
        """Refuse."""
        self._refuse("compiled here")

    def checkpoint_activations(self, *, method: str) -> NoReturn:  # noqa: ARG002  # what training asks for first
        """Refuse."""
        self._refuse("trained here")

    def load_partial(self, *paths: str | Path) -> list[str]:
        """Refuse weights."""
        if paths:
            self._refuse("given the weights of model.finetuned")
        return []

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigError(f"{self.config.name} runs on a server and cannot be {what}; name a model of this machine")

    def ask(self, contents: Iterable[list[dict[str, Any]]], *, max_tokens: int, scored: bool) -> Iterator[Said]:
        """Yield what the model says to each message, in their order.

        Args:
            scored: ask for log-probabilities.

        Raises:
            ConfigError: the server refuses a request, or does not answer as such a server does.
            FaultError: it cannot be reached, is too slow, or fails after all retries.
        """
        listing = {"logprobs": True, "top_logprobs": _MOST_LISTED} if scored else {}
        fixed = {
            "model": self.model,
            "stream": False,
            "temperature": 0,
            "max_tokens": max_tokens,
            **listing,
            **self.body,
        }
        settings = {key: value for key, value in fixed.items() if value is not None}
        bodies = ({**settings, "messages": [{"role": "user", "content": content}]} for content in contents)
        for response in self.client.complete_all(bodies):
            yield self._said(response)

    def _said(self, response: Mapping[str, Any]) -> Said:
        """Read a chat completion.

        Raises:
            ConfigError: it is something else.
        """
        try:
            choice = response["choices"][0]
            tokens = (choice.get("logprobs") or {}).get("content") or []
            first: dict[str, Any] = next((token for token in tokens if token["token"].strip()), {"token": ""})
            listed = [(one["token"], one["logprob"]) for one in first.get("top_logprobs") or []]
            if listed and first["token"] not in dict(listed):
                listed.append((first["token"], first["logprob"]))
            said = Said(choice["message"]["content"] or "", first["token"], _by_token(listed))
        except (LookupError, TypeError, AttributeError):
            said = None
        if said is None or not isinstance(said.text, str):
            raise ConfigError(f"{self.client.url} answers with something else than a chat completion; see what it is")
        return said


class ServedLocalizer:
    """Scores frames by the log-probability of "yes"; the margin is that less the one of "no"."""

    def __init__(self, *, model: ServedModel, prompt: ChatPrompt) -> None:
        self._model, self._prompt = model, prompt

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score all frames for each question, or only those where `where` [B, T] is true; the rest are NaN.

        Raises:
            ConfigError: the server gives no log-probabilities.
            NoAnswerError: neither "yes" nor "no" is among the likeliest words.
        """
        asked = np.ones((len(questions), len(frames)), dtype=bool) if where is None else where
        prompts = [_text(self._prompt.localizer(question)) for question in questions]
        cells: list[tuple[int, int]] = []

        def contents() -> Iterator[list[dict[str, Any]]]:
            # All questions about a frame follow each other: servers may keep what they made of the picture.
            for chunk, batch in frames.decoded(np.flatnonzero(asked.any(0))):
                for position, picture in zip(chunk.tolist(), batch.frames, strict=True):
                    shown = _image(picture, max_side=self._model.max_side)
                    for row in np.flatnonzero(asked[:, position]).tolist():
                        cells.append((row, position))
                        yield [shown, prompts[row]]

        yes, no = np.full((2, *asked.shape), np.nan)
        unlisted = [False] * len(questions)
        for number, said in enumerate(self._model.ask(contents(), max_tokens=_WORD_TOKENS, scored=True)):
            row, position = cells[number]
            found = [said.log_probability(word) for word in ("yes", "no")]
            if not said.listed:
                raise ConfigError(
                    f"{self._model.config.name} gives no log-probabilities, by which frames are scored; choose frames "
                    "another way (--selector uniform), or serve the model by vLLM, llama.cpp or Ollama"
                )
            if found == [None, None]:
                raise NoAnswerError(
                    f"{_named(questions[row])}: of the frame at {frames.times_s[position]:.2f} s the model said "
                    f"{said.text!r:.80}, and neither yes nor no is among its likeliest words"
                )
            yes[row, position], no[row, position] = (said.floor if one is None else one for one in found)
            unlisted[row] |= None in found
        note = (
            "of some frames only yes or no is among the likeliest words of the model; the other counts as its weakest"
        )
        unread = tuple(Unread(notes=(note,) if missing else ()) for missing in unlisted)
        return FrameScores(scores=yes, margins=yes - no, unread=unread)


class ServedAnswerer:
    """Reads chosen frames and picks an option, or writes an open answer.

    Args:
        reads_alone: each frame is asked about alone, and the option that most of them choose wins.
    """

    def __init__(self, *, model: ServedModel, prompt: ChatPrompt, reads_alone: bool) -> None:
        self._model, self._prompt, self._reads_alone = model, prompt, reads_alone

    # Servers are sent pictures of any size; what they make of them is their own.
    reads_sizes = True

    def answer(
        self, frames: FrameSource, positions: Integers, questions: Sequence[Question], *, sizes: Floats | None = None
    ) -> list[Reading]:
        """Answer each question from its own frames, `positions` [B, K], at `sizes` [B, K] where they are given.

        Raises:
            NoAnswerError: what the model said about a question is none of its options.
        """
        has_options = bool(questions[0].options)
        if self._reads_alone and not has_options:
            raise QuestionError("an open answer needs frames read together; use the reader 'joint' or give options")
        scales = np.ones(positions.shape) if sizes is None else sizes
        shown: dict[tuple[int, float], list[dict[str, Any]]] = {}
        for chunk, batch in frames.decoded(np.unique(positions)):
            for position, picture in zip(chunk.tolist(), batch.frames, strict=True):
                label = _text(self._prompt.frame_label(float(frames.times_s[position])))
                for scale in np.unique(scales[positions == position]).tolist():
                    image = _image(picture, max_side=self._model.max_side, scale=scale)
                    shown[position, scale] = [label, image]
        keys = np.stack([positions, scales], axis=-1)
        rows = keys.reshape(-1, 1, 2) if self._reads_alone else keys
        per_question = len(rows) // len(questions)
        prompts = [_text(self._prompt.answerer(question)) for question in questions]
        contents = (
            [*(item for place, scale in row for item in shown[int(place), scale]), prompts[number // per_question]]
            for number, row in enumerate(rows.tolist())
        )
        max_tokens = _SHORT_ANSWER_TOKENS if has_options else self._model.max_tokens
        heard = list(self._model.ask(contents, max_tokens=max_tokens, scored=has_options))
        return [
            self._reading(question, heard[number * per_question : (number + 1) * per_question])
            for number, question in enumerate(questions)
        ]

    def _reading(self, question: Question, heard: Sequence[Said]) -> Reading:
        nothing = np.empty(0, np.int64)
        if not question.options:
            text = heard[0].text.strip()
            if not text:
                raise NoAnswerError(f"{_named(question)}: the model said nothing{_THINKING}")
            return Reading(None, text, np.empty(0), nothing)
        choices = [read_choice(said, question) for said in heard]
        indices = np.array([choice.index for choice in choices])
        are_scored = all(len(choice.scores) for choice in choices)
        scores = np.mean([choice.scores for choice in choices], axis=0) if are_scored else np.empty(0)
        votes = np.bincount(indices, minlength=len(question.options))
        # Ties go to the higher score, and without scores to the first option.
        best = np.lexsort((scores if are_scored else -np.arange(len(votes)), votes))[-1]
        notes = tuple(dict.fromkeys(choice.note for choice in choices if choice.note))
        frame_choices = indices if self._reads_alone else nothing
        return Reading(int(best), question.options[best], scores, frame_choices, Unread(notes=notes))


@dataclass(frozen=True)
class Choice:
    """An option that was chosen, the log-probabilities of all letters [O] where they are known, and what to note."""

    index: int
    scores: Floats
    note: str = ""


def read_choice(said: Said, question: Question) -> Choice:
    """Read which option a model chose.

    The letters are scored by the first token, where that is the letter that the text names.

    Raises:
        NoAnswerError: the text names no option, or several.
    """
    letters = OPTION_LETTERS[: len(question.options)]
    index = named_option(said.text, question.options)
    if index is None:
        hint = _THINKING if not said.text.strip() or "<think" in said.text else ""
        wanted = f"none of the options A to {letters[-1]}"
        raise NoAnswerError(f"{_named(question)}: the model said {said.text!r:.80}, which is {wanted}{hint}")
    if not said.listed:
        return Choice(index, np.empty(0), "the server gives no log-probabilities: only the choice is known")
    if said.first.strip() != letters[index]:
        return Choice(index, np.empty(0), "the model did not begin with a letter: only its choice is known")
    found = [said.log_probability(letter) for letter in letters]
    missing = [letter for letter, value in zip(letters, found, strict=True) if value is None]
    scores = np.array([said.floor if value is None else value for value in found])
    note = f"not among the likeliest words of the model: {', '.join(missing)}; such options count as its weakest word"
    return Choice(int(scores.argmax()), scores, note if missing else "")


def named_option(text: str, options: Sequence[str]) -> int | None:
    """Return the option that a text names, by its letter at the beginning or by all of its words; None if unclear."""
    cleaned = text.replace("*", "").strip().strip("\"'`").strip()
    same = [index for index, option in enumerate(options) if _words(option) == _words(cleaned)]
    if len(same) == 1:
        return same[0]
    letters = OPTION_LETTERS[: len(options)]
    found = _LETTER.match(cleaned)
    letter = (found[1] or found[2]).upper() if found else ""
    if found is None or letter not in letters:
        return None
    index, rest = letters.index(letter), cleaned[found.end() :]
    others = set(_OTHER_LETTER.findall(rest)) & (set(letters) - {letter})
    return None if others and _words(rest) != _words(options[index]) else index


def _words(text: str) -> list[str]:
    return text.casefold().rstrip(" .").split()


def _named(question: Question) -> str:
    return f"question {question.id or question.text!r:.80}"


def _by_token(listed: Sequence[tuple[str, float | None]]) -> dict[str, float]:
    """Add up the probabilities of tokens of the same text; what is no number is left out."""
    found: dict[str, float] = {}
    for token, value in listed:
        if value is not None and math.isfinite(value):
            found[token] = float(np.logaddexp(found.get(token, -math.inf), value))
    return found


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(picture: npt.NDArray[np.uint8], *, max_side: int, scale: float = 1.0) -> dict[str, Any]:
    """Return a picture [H, W, 3] as a part of a message: a JPEG in the request itself, `scale` times as large."""
    image = Image.fromarray(picture)
    if scale != 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    image.thumbnail((max_side, max_side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    address = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": address}}

"""A model of lmms-eval that shows chosen frames, in place of the video, to another one."""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from lmms_eval.api.model import lmms
from lmms_eval.models import get_model

from lavis.common.errors import EXIT_USER_ERROR, QuestionError, UserError
from lavis.selection.harness import Asked, Fields, chosen_pictures, frame_chooser

Place = tuple[str, str, int]  # task, split, doc_id
_PLACE_PARTS = 3
# Where the function stands that makes of a document what a model sees: in requests of simple models, which are
# (ctx, gen_kwargs or continuation, doc_to_visual, doc_id, task, split), and of chat models, which are
# (ctx, doc_to_messages, gen_kwargs, doc_id, task, split).
_SIMPLE, _CHAT = 2, 1


class Document(dict[str, Any]):
    """A document that knows its place: models that take several at once call the first one's function for all."""

    def __init__(self, content: Mapping[str, Any], place: Place) -> None:
        super().__init__(content)
        self.place = place


class Documents:
    """What the harness has of tasks, splits and documents, each document with its place."""

    def __init__(self, found: Any, place: tuple[Any, ...] = ()) -> None:
        self._found, self._place = found, place

    def __getitem__(self, key: Any) -> Any:
        place = (*self._place, key)
        found = self._found[key]
        return Document(found, place) if len(place) == _PLACE_PARTS else Documents(found, place)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)


class SevilaFrames(lmms):
    """Asks the model `answerer` of lmms-eval, and shows it the frames that were chosen for each question.

    A mistake, such as a question without frames, ends the process, since lmms-eval goes on after errors.

    Args:
        answerer: name of a model of lmms-eval; arguments that are not named here are its own.
        frames: file of chosen frames, schema `sevila.frames/1`; or
        selector: a way to choose them; then `selector_model`, `k` and `num_watched` are as for `BySelector`.
        frames_task: the task's name in the file, where it is another one.
        id_field, question_field, options_field: names in the task's documents.
        force_simple: take the simple one, where the answerer has two classes.
    """

    def __init__(
        self,
        answerer: str,
        *,
        frames: str | None = None,
        selector: str | None = None,
        selector_model: str | None = None,
        k: int | None = None,
        num_watched: int | None = None,
        frames_task: str | None = None,
        id_field: str = "question_id",
        question_field: str = "question",
        options_field: str | None = None,
        force_simple: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        try:
            self._chooser = frame_chooser(
                frames=frames,
                task=frames_task,
                selector=selector,
                model=selector_model,
                k=k,
                num_frames=num_watched,
                fields=Fields(id_field, question_field, options_field),
            )
        except UserError as error:
            _end(error)
        self._answerer = get_model(answerer, force_simple)(**settings)
        self._answerer.task_dict = Documents(self.task_dict)
        self.is_simple = self._answerer.is_simple
        self._rank, self._world_size = self._answerer.rank, self._answerer.world_size
        self._mistakes: list[UserError] = []
        self._shown: dict[Place, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "_answerer":
            raise AttributeError(name)
        return getattr(self._answerer, name)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """Let the answerer answer."""
        return self._asked("generate_until", requests)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Let the answerer tell how likely continuations are."""
        return self._asked("loglikelihood", requests)

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Refuse: frames are chosen for one question, and what is asked in later rounds is not known."""
        del requests
        _end(QuestionError("sevila_frames asks in one round; this task asks in several"))

    def clean(self) -> None:
        """Free what the answerer holds."""
        self._answerer.clean()
        super().clean()

    def _asked(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        places = {_place_of(request) for request in requests if len(request.args) > _SIMPLE}  # else it is text alone
        try:
            for task, split, doc_id in sorted(places):
                self._chooser.check(Asked(self.task_dict[task][split][doc_id], task, doc_id, split))
            answers: list[Any] = getattr(self._answerer, kind)([self._with_pictures(request) for request in requests])
        except UserError as error:
            _end(error)
        if self._mistakes:  # some models answer nothing where they meet an error
            _end(self._mistakes[0])
        _tell(f"{len(self._shown)} of {len(places)} questions were shown {sum(self._shown.values())} frames")
        self._shown.clear()
        return answers

    def _with_pictures(self, request: Any) -> Any:
        arguments, place = list(request.args), _SIMPLE if self.is_simple else _CHAT
        if len(arguments) > _SIMPLE:
            arguments[place] = partial(self._visuals if self.is_simple else self._messages, arguments[place])
        changed = copy.copy(request)
        changed.arguments = tuple(arguments)
        return changed

    def _visuals(self, doc_to_visual: Callable[..., Any], document: Document) -> list[Any]:
        visuals = doc_to_visual(document)
        pictures = self._pictures(document, map(_path_of, visuals))
        return _swapped(visuals, _path_of, pictures)

    def _messages(self, doc_to_messages: Callable[..., Any], document: Document, **rounds: Any) -> list[Any]:
        messages = doc_to_messages(document, **rounds)
        pictures = self._pictures(document, (_url_of(part) for message in messages for part in message["content"]))
        # As a list of pictures, a "video" would be given times that nobody measured.
        parts = [{"type": "image", "url": picture} for picture in pictures]
        return [{**message, "content": _swapped(message["content"], _url_of, parts)} for message in messages]

    def _pictures(self, document: Document, found: Iterable[str | None]) -> list[Any]:
        """Return the chosen pictures of the one video that a document shows."""
        try:
            task, split, doc_id = document.place
            videos = [Path(video) for video in found if video is not None]
            if len(videos) != 1:
                raise QuestionError(f"{task!r} shows {len(videos)} video files in document {doc_id}; one is needed")
            chosen = self._chooser.choose(Asked(document, task, doc_id, split), videos[0])
            pictures = chosen_pictures(videos[0], chosen)
        except UserError as error:
            self._mistakes.append(error)
            raise
        self._shown[document.place] = len(pictures)
        return pictures


def _place_of(request: Any) -> Place:
    doc_id, task, split = request.args[-3:]
    return task, split, doc_id


def _path_of(visual: Any) -> str | None:
    return visual if isinstance(visual, str) else None


def _url_of(part: Mapping[str, Any]) -> str | None:
    return part["url"] if part["type"] == "video" else None


def _swapped(parts: Sequence[Any], video_of: Callable[[Any], str | None], pictures: Sequence[Any]) -> list[Any]:
    """Put pictures where the video stands."""
    return [new for part in parts for new in ([part] if video_of(part) is None else pictures)]


def _tell(text: str) -> None:
    print(f"sevila_frames: {text}", file=sys.stderr)  # noqa: T201 - lmms-eval shows the log of no other package


def _end(error: UserError) -> NoReturn:
    _tell(str(error))
    sys.exit(EXIT_USER_ERROR)

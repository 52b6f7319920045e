"""The page's two functions for programs: `/answer` and `/find`."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from lavis.common.errors import UserError
from lavis.demo.callbacks import run_job
from lavis.demo.jobs import Job, Jobs
from lavis.demo.problems import FieldError
from lavis.demo.service import AnswerRequest, FindRequest, Service
from lavis.export.records import Record

_VIDEO = (
    'video: an uploaded file, {"path": ..., "meta": {"_type": "gradio.FileData"}}, as `handle_file` of gradio_client '
    'makes it; or a shipped clip, {"clip": "test_0001.mp4"}. '
)
_ANSWER = (
    "Answer a question about a video from its keyframes. "
    f"{_VIDEO}question: the text. options: 2 or more texts to choose from; an empty list asks for an open answer. "
    "num_frames: frames that are watched. num_keyframes: frames that are read; null is 4, or all of a shorter video. "
    "Returns the record that `sevila answer --json` prints, with the video's name for its path."
)
_FIND = (
    "Find the moments of a video that a sentence describes. "
    f"{_VIDEO}query: the sentence. num_frames: frames that are compared. max_moments: how many are returned at most. "
    "Returns the record that `sevila find --json` prints, with the video's name for its path."
)


def add_api(service: Service, jobs: Jobs) -> None:
    """Add both functions to the current `gr.Blocks`."""
    settings = service.settings

    def answer(
        video: dict,
        question: str,
        options: list[str] = [],  # noqa: B006  # Gradio documents the default, and nothing changes it
        num_frames: int = settings.num_frames,
        num_keyframes: int | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict:
        def work(job: Job) -> Record:
            if not isinstance(options, list):
                raise FieldError("options", "options are not a list of texts")
            texts = tuple(_text("options", option) for option in options)
            count = None if num_keyframes is None else _count("keyframes", num_keyframes)
            asked = AnswerRequest(_text("question", question), texts, _count("frames", num_frames), count)
            return service.answer(service.sources.find(video), asked, job).record

        return _run(work, request, jobs)

    def find(
        video: dict,
        query: str,
        num_frames: int = settings.num_frames,
        max_moments: int = settings.max_moments,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict:
        def work(job: Job) -> Record:
            asked = FindRequest(_text("query", query), _count("frames", num_frames), _count("query", max_moments))
            return service.find(service.sources.find(video), asked, job).record

        return _run(work, request, jobs)

    gr.api(answer, api_name="answer", api_description=_ANSWER, concurrency_limit=None)
    gr.api(find, api_name="find", api_description=_FIND, concurrency_limit=None)


def _run(work: Callable[[Job], Record], request: gr.Request, jobs: Jobs) -> Record:
    try:
        record = run_job(jobs, work, request, listener=lambda *_: None)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    # Gradio's client would take whatever has a path for a file to fetch.
    video = dict(record["video"])
    return {**record, "video": {"name": video.pop("path"), **video}}


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise FieldError(field, f"{value!r:.80} is not text")
    return value


def _count(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(field, f"{value!r:.80} is not a whole number")
    return value

"""The page as one Gradio app: which event calls which function, two functions for programs, and its launch."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components.api_component import Api
from starlette.middleware import Middleware

from lavis.common.errors import UserError
from lavis.demo.callbacks import Callbacks, file_address, run_job
from lavis.demo.files import VisitorFiles
from lavis.demo.guard import Guard, Uploads, bound_connections
from lavis.demo.jobs import Job, Jobs
from lavis.demo.layout import AskTab, FindTab, Page, build_page, theme
from lavis.demo.service import AnswerRequest, FindRequest, Service, part_between
from lavis.demo.settings import MEGABYTE, FieldError
from lavis.export.records import Record

_HERE = Path(__file__).parent
# An open page has up to eight connections, and most visitors of an address are not asking at the moment.
_CONNECTIONS_PER_JOB = 32
# For what is no job: checks of uploads, changes of the fields, files to take away.
_SPARE_THREADS = 24
# Our own queue (`Jobs`) orders the jobs, so Gradio's lets all of them in.
_JOB: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_VIDEO = (
    'video: an uploaded file, {"path": ..., "meta": {"_type": "gradio.FileData"}}, as `handle_file` of gradio_client '
    'makes it; or a shipped clip, {"clip": "test_0001.mp4"}. '
)
_PART = (
    "start: of the part that is watched, in seconds or as mm:ss or hh:mm:ss; null is the video's. end: likewise. "
    "model: the name of one that the page offers; an empty one is the first. "
)
_ANSWER = (
    "Answer a question about a video from its keyframes. "
    f"{_VIDEO}question: the text. options: 2 or more texts to choose from; an empty list asks for an open answer. "
    "num_frames: frames that are watched. num_keyframes: frames that are read; null is 4, or all of a shorter video. "
    f"{_PART}"
    "Returns the record that `sevila answer --json` prints, with the video's name for its path."
)
_FIND = (
    "Find the moments of a video that a sentence describes. "
    f"{_VIDEO}query: the sentence. num_frames: frames that are compared. max_moments: how many are returned at most. "
    f"{_PART}"
    "Returns the record that `sevila find --json` prints, with the video's name for its path."
)


def launch(
    service: Service, jobs: Jobs, files: VisitorFiles, *, host: str, port: int | None, auth: tuple[str, str] | None
) -> tuple[gr.Blocks, str]:
    """Start the server in threads of its own; returns the app and its address."""
    settings = service.settings
    block = _build(service, jobs, files)
    # A job that waits keeps a thread, and a visitor who finds the queue full is told so in a spare one.
    threads = settings.max_waiting + 1 + _SPARE_THREADS
    block.queue(max_size=threads, default_concurrency_limit=None)
    _, url, _ = block.launch(
        server_name=host,
        server_port=port,
        auth=auth,
        theme=theme(),
        css_paths=[_HERE / "style.css"],
        head=f"<script>{(_HERE / 'player.js').read_text(encoding='utf-8')}</script>",
        # Gradio keeps a copy of the page's configuration for each; each plain call of a function counts as one.
        state_session_capacity=settings.max_sessions,
        max_file_size=settings.max_upload_mb * MEGABYTE,
        app_kwargs={"middleware": [Middleware(Guard, files=files, upload=Uploads(files, settings))]},
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        share=False,
        show_error=False,
        quiet=True,
        # Else Gradio gives up where one look at the page takes three seconds, as on a busy machine or behind a proxy.
        _frontend=False,
        prevent_thread_lock=True,
        max_threads=threads,
    )
    bound_connections(block.server, per_address=_CONNECTIONS_PER_JOB * settings.max_jobs_per_address)
    return block, url


class _App(gr.Blocks):
    """Gradio's app, where a program may leave out the last inputs over plain HTTP too, as with Gradio's client."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Complete inputs by their defaults."""
        left_out = block_fn.inputs[len(inputs) :]
        if all(isinstance(one, Api) for one in left_out):
            inputs = [*inputs, *(one.value for one in left_out)]
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)


def _build(service: Service, jobs: Jobs, files: VisitorFiles) -> gr.Blocks:
    settings, examples = service.settings, service.sources.examples
    # Copied to where browsers may read.
    clips = files.keep_forever("clips")
    copies = {example.clip.name: Path(shutil.copy(example.clip, clips / example.clip.name)) for example in examples}
    addresses = {name: file_address(copy) for name, copy in copies.items()}
    with _App(title="SeViLA", analytics_enabled=False, delete_cache=(600, settings.keep_s)) as block:
        page = build_page(
            model_names=service.model_names, caveats=service.caveats, examples=examples, settings=settings
        )
        calls = Callbacks(page, service, jobs, files, addresses)
        # They come first: Gradio gives a name once, to the page's functions too.
        _add_api(service, jobs)
        _wire_fields(page, calls)
        _wire_jobs(page, calls)
        block.load(None, js="() => pageIsThere()", api_visibility="private")
        block.unload(calls.leave)
    return block


def _wire_fields(page: Page, calls: Callbacks) -> None:
    """Connect the fields: a new video, an example, a question about it, and the rows of options."""
    ask, find, options = page.ask, page.find, page.ask.options
    rows = options.all_rows()
    texts: set[Block] = {options.count, *options.texts}
    question = [ask.question, options.mode, *rows]
    fresh = [page.stage, page.example, ask.more, *calls.cleared()]
    page.stage.unplayable(calls.preview, inputs={page.stage}, outputs=[page.stage], show_progress="hidden", **_JOB)
    page.stage.taken(calls.look, inputs={page.stage, page.example}, outputs=[*fresh, *question], **_QUICK)
    picked = page.examples.picked(calls.pick_example, outputs=[*fresh, *question], **_QUICK)
    more = ask.more.picked(calls.pick_question, inputs={page.example}, outputs=question, **_QUICK)
    for chosen in (picked, more):
        _wire_job(chosen.success, ask, page, calls)
    part = [page.model, page.frames, page.start, page.end, page.tabs]
    depth = [ask.keyframes, ask.wished, ask.compare]
    filled = [*fresh, *question, *part, *depth, find.query, find.most, ask.linked, find.linked]
    # Through Gradio's queue: else it does not tell that a state has changed.
    page.stage.linked(calls.open_link, outputs=filled, show_progress="hidden", **_JOB)
    for tab in (ask, find):
        _wire_job(tab.linked.change, tab, page, calls)
    options.mode.change(calls.set_mode, inputs={options.mode}, outputs=[options.block], **_QUICK)
    options.add.click(calls.add_option, inputs=texts, outputs=rows, **_QUICK)
    for index, remove in enumerate(options.removes):
        remove.click(partial(calls.remove_option, index=index), inputs=texts, outputs=rows, **_QUICK)
    ask.keyframes.input(lambda: True, outputs=[ask.wished], **_QUICK)


def _wire_jobs(page: Page, calls: Callbacks) -> None:
    """Connect what asks, finds, cuts clips and cancels."""
    ask, find = page.ask, page.find
    for tab, text in ((ask, ask.question), (find, find.query)):
        tab.cancel.click(calls.cancel, **_QUICK)
        shown = [*tab.no_result(), tab.history, *page.errors.values()]
        look_back = calls.look_back_ask if isinstance(tab, AskTab) else calls.look_back_find
        again = tab.history.picked(look_back, inputs={tab.earlier}, outputs=shown, **_QUICK)
        _wire_files(again.then, tab, calls)
        for first in (tab.run.click, text.submit):
            _wire_job(first, tab, page, calls)
    shown = [find.preview, *page.errors.values()]
    find.result.picked(calls.cut, inputs={find.kept}, outputs=shown, show_progress_on=find.preview, **_JOB)


def _wire_job(first: Callable[..., Any], tab: AskTab | FindTab, page: Page, calls: Callbacks) -> None:
    """Let an event begin a job: offer to cancel it, run it, offer to ask again, and then make the files."""
    errors, buttons = [*page.errors.values()], [tab.run, tab.cancel]
    inputs: set[Block] = {page.stage, page.model, page.start, page.end, page.frames, tab.earlier}
    rows: list[Block] = []
    if isinstance(tab, AskTab):
        job, options = calls.ask, tab.options
        inputs |= {tab.question, options.mode, options.count, *options.texts, tab.keyframes, tab.wished, tab.compare}
        rows = options.all_rows()
    else:
        job = calls.find
        inputs |= {tab.query, tab.most}
    begun = first(partial(calls.begin, tab), inputs=inputs, outputs=[*buttons, *errors, *rows], **_QUICK)
    shown = [*tab.no_result(), tab.history, tab.earlier, *errors]
    done = begun.then(job, inputs=inputs, outputs=shown, show_progress_on=tab.result, **_JOB)
    ended = done.then(
        partial(calls.end, tab), outputs=buttons, js=f"() => showResult('{tab.result.elem_id}')", **_QUICK
    )
    _wire_files(ended.then, tab, calls)


def _wire_files(then: Callable[..., Any], tab: AskTab | FindTab, calls: Callbacks) -> None:
    """Let the files of what is shown be made after an event."""
    files = [tab.take_away, tab.share, *tab.downloads.values()]
    then(partial(calls.make_files, tab), inputs={tab.kept}, outputs=files, show_progress="hidden", **_JOB)


def _add_api(service: Service, jobs: Jobs) -> None:
    """Add the functions for programs, `/answer` and `/find`, to the current `gr.Blocks`."""
    settings = service.settings

    def answer(
        video: dict,
        question: str,
        options: list[str] = [],  # noqa: B006  # Gradio documents the default, and nothing changes it
        num_frames: int = settings.num_frames,
        num_keyframes: int | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
        model: str = "",
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict:
        def work(job: Job) -> Record:
            if not isinstance(options, list):
                raise FieldError("options", "options are not a list of texts")
            texts = tuple(_text("options", option) for option in options)
            count = None if num_keyframes is None else _count("keyframes", num_keyframes)
            asked = AnswerRequest(
                _text("question", question),
                texts,
                _count("frames", num_frames),
                count,
                clip=part_between(start, end),
                model=_text("model", model),
            )
            return service.answer(service.sources.find(video), asked, job).record

        return _run(work, request, jobs)

    def find(
        video: dict,
        query: str,
        num_frames: int = settings.num_frames,
        max_moments: int = settings.max_moments,
        start: float | str | None = None,
        end: float | str | None = None,
        model: str = "",
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict:
        def work(job: Job) -> Record:
            queries = (_text("query", query),)
            frames, most, part = _count("frames", num_frames), _count("query", max_moments), part_between(start, end)
            asked = FindRequest(queries, frames, most, part, _text("model", model))
            return service.find(service.sources.find(video), asked, job).records[0]

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

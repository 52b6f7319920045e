"""The page as one Gradio app: its parts, which event calls which function, and its launch."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from starlette.middleware import Middleware

from lavis.demo.api import add_api
from lavis.demo.callbacks import Callbacks, Changes, Values, file_address
from lavis.demo.files import VisitorFiles
from lavis.demo.guard import Guard, Uploads, bound_connections
from lavis.demo.jobs import Jobs
from lavis.demo.layout import AskTab, FindTab, Page, build_page, theme
from lavis.demo.service import Service
from lavis.demo.settings import MEGABYTE, Settings
from lavis.demo.videos import Sources, read_examples

_HERE = Path(__file__).parent
# An open page has up to eight connections, and most visitors of an address are not asking at the moment.
_CONNECTIONS_PER_JOB = 32
# For what is no job: checks of uploads, changes of the fields, files to take away.
_SPARE_THREADS = 24
# Our own line in front of the model orders the jobs, so Gradio's lets them all in.
_JOB: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def launch(
    model: Any,
    *,
    model_name: str,
    files: VisitorFiles,
    jobs: Jobs,
    host: str,
    port: int | None,
    auth: tuple[str, str] | None,
    settings: Settings,
) -> tuple[gr.Blocks, str]:
    """Start the server in threads of its own; returns the app and its address."""
    block = _build(model, model_name=model_name, files=files, jobs=jobs, settings=settings)
    # A job that waits keeps its thread. Whoever finds the line full is told so by it, in a spare one.
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
        prevent_thread_lock=True,
        max_threads=threads,
    )
    bound_connections(block.server, per_address=_CONNECTIONS_PER_JOB * settings.max_jobs_per_address)
    return block, url


def _build(model: Any, *, model_name: str, files: VisitorFiles, jobs: Jobs, settings: Settings) -> gr.Blocks:
    examples = read_examples()
    sources = Sources(files, examples, settings=settings)
    service = Service(model, model_name=model_name, sources=sources, settings=settings)
    addresses = _serve_clips([example.clip for example in examples], files)
    with gr.Blocks(title="SeViLA", analytics_enabled=False, delete_cache=(600, settings.keep_s)) as block:
        page = build_page(model_name=model_name, caveats=service.caveats, examples=examples, settings=settings)
        calls = Callbacks(
            page,
            service,
            jobs=jobs,
            files=files,
            examples=examples,
            clip_addresses=addresses,
            settings=settings,
        )
        # The functions for programs come first: Gradio gives a name once, to the page's functions too.
        add_api(service, jobs=jobs, settings=settings)
        wire(page, calls)
        block.unload(calls.leave)
    return block


def _serve_clips(clips: list[Path], files: VisitorFiles) -> dict[str, str]:
    """Copy the shipped clips to where browsers may read; returns their addresses by name."""
    folder = files.keep_forever("clips")
    return {clip.name: file_address(Path(shutil.copy(clip, folder / clip.name))) for clip in clips}


def wire(page: Page, calls: Callbacks) -> None:
    """Connect everything inside the current `gr.Blocks`."""
    _wire_fields(page, calls)
    _wire_ask(page, calls)
    _wire_find(page, calls)


def _wire_fields(page: Page, calls: Callbacks) -> None:
    ask, find, options = page.ask, page.find, page.ask.options
    rows = [options.count, options.add, *options.rows, *options.texts, *options.removes]
    texts: set[Block] = {options.count, *options.texts}
    cleared = [
        *page.errors.values(),
        *(part for tab in (ask, find) for part in (tab.result, tab.kept, tab.take_away)),
        find.preview,
    ]
    page.stage.taken(calls.look, inputs={page.stage}, outputs=[page.stage, page.example, ask.more, *cleared], **_QUICK)
    options.mode.change(calls.set_mode, inputs={options.mode}, outputs=[options.block], **_QUICK)
    options.add.click(calls.add_option, inputs=texts, outputs=rows, **_QUICK)
    for index, remove in enumerate(options.removes):
        remove.click(partial(calls.remove_option, index=index), inputs=texts, outputs=rows, **_QUICK)


def _wire_ask(page: Page, calls: Callbacks) -> None:
    tab, options = page.ask, page.ask.options
    question = [tab.question, options.mode, options.count, options.add, *options.rows, *options.texts, *options.removes]
    cleared = [tab.result, tab.kept, tab.take_away]
    found = [page.find.result, page.find.kept, page.find.take_away, page.find.preview]
    picked = page.examples.picked(
        calls.pick_example,
        outputs=[page.stage, page.example, tab.more, *question, *page.errors.values(), *cleared, *found],
        **_QUICK,
    )
    more = tab.more.picked(calls.pick_question, inputs={page.example}, outputs=question, **_QUICK)
    inputs = {page.stage, page.frames, tab.question, options.mode, options.count, *options.texts}
    inputs |= {tab.keyframes, tab.compare}
    outputs = [tab.result, tab.kept, tab.take_away, *page.errors.values()]

    def ask(values: Values, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Changes:  # noqa: B008
        return calls.ask(values, request, progress)

    tab.cancel.click(calls.cancel, **_QUICK)
    for first in (tab.run.click, tab.question.submit, picked.success, more.success):
        _wire_job(first, tab, page, calls, ask, inputs, outputs, tab.result, calls.answer_downloads)


def _wire_find(page: Page, calls: Callbacks) -> None:
    tab = page.find
    inputs = {page.stage, page.frames, tab.query, tab.most}
    outputs = [tab.result, tab.kept, tab.take_away, tab.preview, *page.errors.values()]

    def find(values: Values, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Changes:  # noqa: B008
        return calls.find(values, request, progress)

    def cut(
        values: Values,
        event: gr.EventData,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Changes:
        return calls.cut(values, event, request, progress)

    tab.cancel.click(calls.cancel, **_QUICK)
    for first in (tab.run.click, tab.query.submit):
        _wire_job(first, tab, page, calls, find, inputs, outputs, tab.result, calls.moment_downloads)
    tab.result.picked(
        cut, inputs={tab.kept}, outputs=[tab.preview, *page.errors.values()], show_progress_on=tab.preview, **_JOB
    )


def _wire_job(
    first: Callable[..., Any],
    tab: AskTab | FindTab,
    page: Page,
    calls: Callbacks,
    job: Callable[..., Changes],
    inputs: set[Any],
    outputs: list[Any],
    shown: Any,
    downloads: Callable[[Values], Changes],
) -> None:
    """Let an event begin a job: offer to cancel it, run it, offer to ask again, and then make the files."""
    buttons = [tab.run, tab.cancel]
    begun = first(partial(calls.begin, tab), outputs=[*buttons, tab.take_away, *page.errors.values()], **_QUICK)
    done = begun.then(job, inputs=inputs, outputs=outputs, show_progress_on=shown, **_JOB)
    ended = done.then(partial(calls.end, tab), outputs=buttons, js=f"() => showResult('{shown.elem_id}')", **_QUICK)
    ended.then(
        downloads,
        inputs={tab.kept},
        outputs=[tab.take_away, *tab.downloads.values()],
        show_progress="hidden",
        **_JOB,
    )

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
from lavis.demo.callbacks import Callbacks, file_address
from lavis.demo.files import VisitorFiles
from lavis.demo.guard import Guard, Uploads, bound_connections
from lavis.demo.jobs import Jobs
from lavis.demo.layout import AskTab, FindTab, Page, build_page, theme
from lavis.demo.service import Service
from lavis.demo.settings import MEGABYTE

_HERE = Path(__file__).parent
# An open page has up to eight connections, and most visitors of an address are not asking at the moment.
_CONNECTIONS_PER_JOB = 32
# For what is no job: checks of uploads, changes of the fields, files to take away.
_SPARE_THREADS = 24
# Our own queue (`Jobs`) orders the jobs, so Gradio's lets all of them in.
_JOB: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


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
        prevent_thread_lock=True,
        max_threads=threads,
    )
    bound_connections(block.server, per_address=_CONNECTIONS_PER_JOB * settings.max_jobs_per_address)
    return block, url


def _build(service: Service, jobs: Jobs, files: VisitorFiles) -> gr.Blocks:
    settings, examples = service.settings, service.sources.examples
    addresses = _serve_clips([example.clip for example in examples], files)
    with gr.Blocks(title="SeViLA", analytics_enabled=False, delete_cache=(600, settings.keep_s)) as block:
        page = build_page(model_name=service.model_name, caveats=service.caveats, examples=examples, settings=settings)
        calls = Callbacks(page, service, jobs, files, addresses)
        # The functions for programs come first: Gradio gives a name once, to the page's functions too.
        add_api(service, jobs)
        _wire_fields(page, calls)
        _wire_jobs(page, calls)
        block.unload(calls.leave)
    return block


def _serve_clips(clips: list[Path], files: VisitorFiles) -> dict[str, str]:
    """Copy the shipped clips to where browsers may read; returns their addresses by name."""
    folder = files.keep_forever("clips")
    return {clip.name: file_address(Path(shutil.copy(clip, folder / clip.name))) for clip in clips}


def _wire_fields(page: Page, calls: Callbacks) -> None:
    """Connect the fields: a new video, an example, a question about it, and the rows of options."""
    ask, find, options = page.ask, page.find, page.ask.options
    rows = [options.count, options.add, *options.rows, *options.texts, *options.removes]
    texts: set[Block] = {options.count, *options.texts}
    question = [ask.question, options.mode, *rows]
    fresh = [page.stage, page.example, ask.more, *page.errors.values(), *ask.no_result(), *find.no_result()]
    page.stage.taken(calls.look, inputs={page.stage}, outputs=fresh, **_QUICK)
    picked = page.examples.picked(calls.pick_example, outputs=[*fresh, *question], **_QUICK)
    more = ask.more.picked(calls.pick_question, inputs={page.example}, outputs=question, **_QUICK)
    for chosen in (picked, more):
        _wire_job(chosen.success, ask, page, calls)
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
        for first in (tab.run.click, text.submit):
            _wire_job(first, tab, page, calls)
    shown = [find.preview, *page.errors.values()]
    find.result.picked(calls.cut, inputs={find.kept}, outputs=shown, show_progress_on=find.preview, **_JOB)


def _wire_job(first: Callable[..., Any], tab: AskTab | FindTab, page: Page, calls: Callbacks) -> None:
    """Let an event begin a job: offer to cancel it, run it, offer to ask again, and then make the files."""
    errors, buttons = [*page.errors.values()], [tab.run, tab.cancel]
    inputs: set[Block] = {page.stage, page.frames}
    if isinstance(tab, AskTab):
        job, options = calls.ask, tab.options
        inputs |= {tab.question, options.mode, options.count, *options.texts, tab.keyframes, tab.wished, tab.compare}
    else:
        job = calls.find
        inputs |= {tab.query, tab.most}
    begun = first(partial(calls.begin, tab), outputs=[*buttons, *errors], **_QUICK)
    done = begun.then(job, inputs=inputs, outputs=[*tab.no_result(), *errors], show_progress_on=tab.result, **_JOB)
    ended = done.then(
        partial(calls.end, tab), outputs=buttons, js=f"() => showResult('{tab.result.elem_id}')", **_QUICK
    )
    files = [tab.take_away, *tab.downloads.values()]
    ended.then(partial(calls.make_files, tab), inputs={tab.kept}, outputs=files, show_progress="hidden", **_JOB)

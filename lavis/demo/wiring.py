"""Which event of the page calls which function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from gradio.blocks import Block

from lavis.demo.callbacks import Callbacks, Changes, Values
from lavis.demo.layout import AskTab, FindTab, Page

# Our own line in front of the model orders the jobs, so Gradio's lets them all in.
_JOB: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


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

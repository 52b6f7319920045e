"""What happens on the page: each function takes what stands in the fields and returns what changes."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lavis.common.errors import UserError
from lavis.demo import exports
from lavis.demo.files import VisitorFiles
from lavis.demo.jobs import Job, Jobs, Listener
from lavis.demo.layout import OPEN, AskTab, FindTab, Page
from lavis.demo.problems import DefectsLogged, FieldError
from lavis.demo.render import answered_html, error_html, facts_text, found_html, more_questions_html, preview_html
from lavis.demo.service import Answered, Asked, Found, Service, Sought
from lavis.demo.settings import Settings
from lavis.demo.videos import Example, cut_clip

Values = Mapping[Any, Any]
Changes = dict[Any, Any]
_Export = Callable[[Any], tuple[str, bytes]]

_ANSWER_EXPORTS: dict[str, _Export] = {
    "json": exports.answer_json,
    "csv": exports.answer_csv,
    "zip": exports.answer_zip,
    "png": exports.answer_png,
}
_MOMENT_EXPORTS: dict[str, _Export] = {
    "json": exports.moments_json,
    "csv": exports.moments_csv,
    "vtt": exports.moments_chapters,
    "png": exports.moments_png,
}


class Callbacks:
    """The page's functions, for all visitors; whatever belongs to one of them comes in with the call."""

    def __init__(
        self,
        page: Page,
        service: Service,
        *,
        jobs: Jobs,
        files: VisitorFiles,
        examples: Sequence[Example],
        clip_addresses: Mapping[str, str],
        settings: Settings,
    ) -> None:
        self._page = page
        self._service = service
        self._jobs = jobs
        self._files = files
        self._examples = examples
        self._clip_addresses = clip_addresses
        self._settings = settings

    def look(self, values: Values) -> Changes:
        """Check a video that was just uploaded, and say what it is."""
        page, value = self._page, values[self._page.stage]
        fresh = {**self._cleared(), page.example: None, page.ask.more: gr.HTML("", visible=False)}
        try:
            with DefectsLogged():
                info = self._service.sources.check(self._service.sources.find(value))
        except UserError as error:
            return {**fresh, page.stage: {}, **self._problem(error, beside="video")}
        return {**fresh, page.stage: {**value, "facts": facts_text(info)}}

    def pick_example(self, event: gr.EventData) -> Changes:
        """Put a shipped clip on the page, with its first question."""
        page, number = self._page, _number(event, len(self._examples))
        example = self._examples[number]
        info = self._service.sources.check(self._service.sources.find({"clip": example.clip.name}))
        name = example.clip.name
        stage = {"clip": name, "name": name, "url": self._clip_addresses[name], "facts": facts_text(info)}
        return {
            **self._cleared(),
            page.stage: stage,
            page.example: number,
            page.ask.more: gr.HTML(more_questions_html(example), visible=True),
            **self._question_of(number, 0),
        }

    def pick_question(self, values: Values, event: gr.EventData) -> Changes:
        """Put another question about the shipped clip into the fields."""
        example = values[self._page.example]
        return self._question_of(example, _number(event, len(self._examples[example].questions)))

    def set_mode(self, values: Values) -> Changes:
        """Show the options only where there is something to choose."""
        options = self._page.ask.options
        return {options.block: gr.Column(visible=values[options.mode] != OPEN)}

    def add_option(self, values: Values) -> Changes:
        """Show one more row."""
        options = self._page.ask.options
        texts = [values[text] for text in options.texts[: values[options.count]]]
        return self._rows([*texts, ""])

    def remove_option(self, values: Values, index: int) -> Changes:
        """Take one row away; those below it move up."""
        options = self._page.ask.options
        texts = [values[text] for text in options.texts[: values[options.count]]]
        return self._rows(texts[:index] + texts[index + 1 :])

    def begin(self, tab: AskTab | FindTab) -> Changes:
        """Offer to cancel, and forget what was wrong before."""
        errors = dict.fromkeys(self._page.errors.values(), "")
        return {**errors, tab.run: gr.Button(visible=False), tab.cancel: gr.Button(visible=True)}

    def end(self, tab: AskTab | FindTab) -> Changes:
        """Offer to ask again."""
        return {tab.run: gr.Button(visible=True), tab.cancel: gr.Button(visible=False)}

    def ask(self, values: Values, request: gr.Request, progress: gr.Progress) -> Changes:
        """Answer the question in the fields."""
        page, tab = self._page, self._page.ask

        def work(job: Job) -> Changes:
            source = self._service.sources.find(values[page.stage])
            answered = self._service.answer(source, self._asked(values), job)
            return {tab.result: answered_html(answered), tab.kept: answered}

        nothing = {tab.result: "", tab.kept: None, tab.take_away: gr.Column(visible=False)}
        return self._guarded(request, progress, work, nothing, beside="result")

    def find(self, values: Values, request: gr.Request, progress: gr.Progress) -> Changes:
        """Find the sentence in the field."""
        page, tab = self._page, self._page.find
        sought = Sought(values[tab.query], int(values[page.frames]), int(values[tab.most]))

        def work(job: Job) -> Changes:
            found = self._service.find(self._service.sources.find(values[page.stage]), sought, job)
            return {tab.result: found_html(found), tab.kept: found, tab.preview: ""}

        nothing = {tab.result: "", tab.kept: None, tab.preview: "", tab.take_away: gr.Column(visible=False)}
        return self._guarded(request, progress, work, nothing, beside="query")

    def cut(self, values: Values, event: gr.EventData, request: gr.Request, progress: gr.Progress) -> Changes:
        """Cut a moment out of the video and show it."""
        tab = self._page.find
        found: Found | None = values[tab.kept]
        if found is None:
            return {tab.preview: ""}
        number = _number(event, len(found.moments.moments))
        moment = found.moments.moments[number]
        end_s = min(moment.end_s, moment.start_s + self._settings.max_clip_s)

        def work(job: Job) -> Changes:
            name = f"{Path(found.source.name).stem}_{moment.start_s:.1f}s_{end_s:.1f}s.mp4"
            target = self._files.new_path(name)
            with found.source.problems():
                cut_clip(
                    found.source.path,
                    target,
                    start_s=moment.start_s,
                    end_s=end_s,
                    step=lambda: job.report("cutting the clip"),
                )
            title = f"Moment {number + 1}: {moment.start_s:.1f} to {end_s:.1f} s"
            return {tab.preview: preview_html(file_address(target), target.name, title)}

        return self._guarded(request, progress, work, {tab.preview: ""}, beside="query")

    def answer_downloads(self, values: Values) -> Changes:
        """Make the files of the answer that is shown."""
        return self._made(self._page.ask, values, _ANSWER_EXPORTS)

    def moment_downloads(self, values: Values) -> Changes:
        """Make the files of the search that is shown."""
        return self._made(self._page.find, values, _MOMENT_EXPORTS)

    def cancel(self, request: gr.Request) -> None:
        """End the visitor's job."""
        self._jobs.cancel(visitor_of(request))

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor who closed the page."""
        self._jobs.cancel(visitor_of(request))
        self._service.watched_videos.forget(visitor_of(request))

    def _guarded(
        self,
        request: gr.Request,
        progress: gr.Progress,
        work: Callable[[Job], Changes],
        nothing: Changes,
        *,
        beside: str,
    ) -> Changes:
        """Run a job; whatever goes wrong becomes a message on the page, and never one about the inside.

        Args:
            nothing: what changes where there is no result.
            beside: the field for what is no one field's mistake, on the tab that the job was started from.
        """
        visitor, address = visitor_of(request), address_of(request)
        try:
            with DefectsLogged():
                return self._jobs.run(work, visitor, address=address, listener=_told(progress))
        except UserError as error:
            return {**nothing, **self._problem(error, beside=beside)}

    def _problem(self, error: UserError, *, beside: str) -> Changes:
        field = error.field if isinstance(error, FieldError) else beside
        return {self._page.errors[field]: error_html(str(error))}

    def _cleared(self) -> Changes:
        """Return changes that take away everything said about an earlier video."""
        ask, find = self._page.ask, self._page.find
        hidden = {tab.take_away: gr.Column(visible=False) for tab in (ask, find)}
        shown = dict.fromkeys([*self._page.errors.values(), ask.result, find.result, find.preview], "")
        return {**hidden, **shown, ask.kept: None, find.kept: None}

    def _question_of(self, example: int, number: int) -> Changes:
        question = self._examples[example].questions[number]
        return {
            self._page.ask.question: question.text,
            self._page.ask.options.mode: self._page.ask.options.mode.choices[0][1],
            **self._rows(question.options[: self._settings.max_options]),
        }

    def _rows(self, texts: Sequence[str]) -> Changes:
        options = self._page.ask.options
        changes: Changes = {options.count: len(texts)}
        for index, (row, text, remove) in enumerate(zip(options.rows, options.texts, options.removes, strict=True)):
            changes[row] = gr.Row(visible=index < len(texts))
            changes[text] = texts[index] if index < len(texts) else ""
            changes[remove] = gr.Button(interactive=len(texts) > 2)
        changes[options.add] = gr.Button(visible=len(texts) < len(options.rows))
        return changes

    def _asked(self, values: Values) -> Asked:
        tab, options = self._page.ask, self._page.ask.options
        texts = () if values[options.mode] == OPEN else options.texts[: values[options.count]]
        return Asked(
            question=values[tab.question],
            options=tuple(values[text] for text in texts),
            num_frames=int(values[self._page.frames]),
            num_keyframes=int(values[tab.keyframes]),
            compare=bool(values[tab.compare]),
        )

    def _made(self, tab: AskTab | FindTab, values: Values, kinds: Mapping[str, _Export]) -> Changes:
        kept: Answered | Found | None = values[tab.kept]
        if kept is None:
            return {tab.take_away: gr.Column(visible=False)}
        made = {kind: export(kept) for kind, export in kinds.items()}
        buttons = {
            tab.downloads[kind]: gr.DownloadButton(value=str(self._files.write(name, content)))
            for kind, (name, content) in made.items()
        }
        return {**buttons, tab.take_away: gr.Column(visible=True)}


def visitor_of(request: gr.Request) -> str:
    """Return who asks: one open page, or one client."""
    return request.session_hash or secrets.token_hex(16)


def address_of(request: gr.Request) -> str:
    """Return the network address of who asks."""
    return str(request.client.host) if request.client else ""


def file_address(path: Path) -> str:
    """Return where a browser finds a visitor's file, relative to the page."""
    return f"gradio_api/file={path.as_posix()}"


def _told(progress: gr.Progress) -> Listener:
    def tell(what: str, done: int, total: int) -> None:
        # Without a number Gradio shows no text either.
        progress((done, total) if total else 0.0, desc=what[:1].upper() + what[1:], unit="frames")

    return tell


def _number(event: gr.EventData, count: int) -> int:
    """Return which of so many buttons was clicked; a client may send anything."""
    number = getattr(event, "number", None)
    if not isinstance(number, int) or not 0 <= number < count:
        raise gr.Error("There is no such button.", print_exception=False)
    return number

"""What happens on the page: each function takes what stands in the fields and returns what changes."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lavis.common.errors import UserError
from lavis.common.types import Span
from lavis.demo.files import VisitorFiles
from lavis.demo.jobs import Job, Jobs, Listener, Result
from lavis.demo.layout import CHOOSE, FIRST_OPTIONS, OPEN, AskTab, Page, Tab
from lavis.demo.links import link_to, read_link
from lavis.demo.previews import write_preview
from lavis.demo.render import answered_html, facts_text, found_html, history_html, html
from lavis.demo.service import AnswerRequest, AnswerResult, FindRequest, FindResult, Service, part_between
from lavis.demo.settings import DefectsLogged, FieldError
from lavis.demo.videos import Source
from lavis.export.clips import cut_clip

Values = Mapping[Any, Any]
Changes = dict[Any, Any]

_MAX_CLIP_SIDE = 720  # the shorter one, of a clip that is shown on the page
_PREVIEW = "/preview"
_PROGRESS = gr.Progress()  # Gradio gives each call its own where a default is one


@dataclass(frozen=True)
class Callbacks:
    """The page's functions, for all visitors; whatever belongs to one of them comes in with the call."""

    page: Page
    service: Service
    jobs: Jobs
    files: VisitorFiles
    clip_addresses: Mapping[str, str]

    def look(self, values: Values) -> Changes:
        """Check a video that was just uploaded, and say what it is; what was asked of the video before it goes."""
        page, value = self.page, values[self.page.stage]
        fresh = {**self.cleared(), page.example: None, page.ask.more: gr.HTML("", visible=False)}
        if isinstance(value, dict) and value.get("replaces"):  # what is written before there is any video stays
            fresh |= self._rows([""] * FIRST_OPTIONS)
            if values[page.example] is not None:
                fresh[page.ask.question] = ""
        try:
            with DefectsLogged():
                info = self.service.sources.check(self._source(values))
        except UserError as error:
            return {**fresh, page.stage: {}, **self._problem(error, beside="video")}
        return {**fresh, page.stage: {**value, "facts": facts_text(info)}}

    def preview(self, values: Values, request: gr.Request) -> Any:
        """Make a preview of an upload that the visitor's browser cannot play."""
        stage = self.page.stage
        value = values[stage]

        def work(job: Job) -> Changes:
            source = self._source(values)
            self.service.sources.check(source)
            target = self.files.new_path(f"{Path(source.name).stem}_preview.mp4")
            with source.problems():
                made = write_preview(source.path, target, step=partial(job.report, "making a preview"))
            return {stage: {**value, "preview": file_address(target), "note": str(made)}}

        try:
            # A visitor of its own, so that a question may wait behind it.
            return run_job(self.jobs, work, request, listener=lambda *_: None, aside=_PREVIEW)
        except UserError as error:
            note = f"Your browser cannot play this format, and there is no preview: {error}"
            return {stage: {**value, "note": note}} if isinstance(value, dict) else gr.skip()

    def pick_example(self, event: gr.EventData) -> Changes:
        """Put a shipped clip on the page, with its first question."""
        number = _number(event, len(self.service.sources.examples))
        return {**self._example(number), **self._question_of(number, 0)}

    def open_link(self, event: gr.EventData) -> Changes:
        """Fill in what a link asks about a shipped clip, and have it asked."""
        page, names = self.page, [example.clip.name for example in self.service.sources.examples]
        try:
            name, asked = read_link(str(getattr(event, "link", "")))
            self.service.sources.find({"clip": name})
            self.service.check(asked)
        except UserError as error:
            return self._problem(error, beside="video")
        tab = page.ask if isinstance(asked, AnswerRequest) else page.find
        return {
            **self._example(names.index(name)),
            **self._part(asked),
            **(self._asked_again(asked) if isinstance(asked, AnswerRequest) else self._sought_again(asked)),
            page.tabs: gr.Tabs(selected="ask" if tab is page.ask else "find"),
            tab.linked: True,
        }

    def _asked_again(self, asked: AnswerRequest) -> Changes:
        tab = self.page.ask
        return {
            **self._question(asked.question, asked.options),
            tab.keyframes: asked.num_keyframes or self.service.settings.num_keyframes,
            tab.wished: asked.num_keyframes is not None,
            tab.compare: asked.compare,
        }

    def _sought_again(self, asked: FindRequest) -> Changes:
        tab = self.page.find
        return {
            tab.query: "\n".join(asked.queries),
            tab.most: asked.max_moments or self.service.settings.max_moments,
        }

    def pick_question(self, values: Values, event: gr.EventData) -> Changes:
        """Put another question about the shipped clip into the fields."""
        example = values[self.page.example]
        return self._question_of(example, _number(event, len(self.service.sources.examples[example].questions)))

    def set_mode(self, values: Values) -> Changes:
        """Show the options only where there is something to choose."""
        options = self.page.ask.options
        return {options.block: gr.Column(visible=values[options.mode] != OPEN)}

    def add_option(self, values: Values) -> Changes:
        """Show one more row."""
        return self._rows([*self._options(values), ""])

    def remove_option(self, values: Values, index: int) -> Changes:
        """Take one row away; those below it move up."""
        texts = self._options(values)
        return self._rows(texts[:index] + texts[index + 1 :])

    def begin(self, tab: Tab, values: Values) -> Changes:
        """Offer to cancel, forget what was wrong before, and let options move up into empty fields."""
        errors = dict.fromkeys(self.page.errors.values(), "")
        changes: Changes = {**errors, tab.run: gr.Button(visible=False), tab.cancel: gr.Button(visible=True)}
        if isinstance(tab, AskTab):
            texts = self._options(values)
            moved = sorted(texts, key=lambda text: not text.strip())  # or a result's letters would be others
            changes |= self._rows(moved) if moved != texts else {}
        return changes

    def end(self, tab: Tab) -> Changes:
        """Offer to ask again."""
        return {tab.run: gr.Button(visible=True), tab.cancel: gr.Button(visible=False)}

    def ask(self, values: Values, request: gr.Request, progress: gr.Progress = _PROGRESS) -> Changes:
        """Answer the question in the fields."""
        tab = self.page.ask

        def work(job: Job) -> Changes:
            return self._shown(tab, self.service.answer(self._source(values), self._asked(values), job), values)

        return self._guarded(request, progress, work, self._nothing_shown(tab, values), beside="result")

    def find(self, values: Values, request: gr.Request, progress: gr.Progress = _PROGRESS) -> Changes:
        """Find the sentence in the field."""
        tab = self.page.find
        queries = tuple(line.strip() for line in values[tab.query].splitlines() if line.strip())

        def work(job: Job) -> Changes:
            asked = FindRequest(
                queries, int(values[self.page.frames]), int(values[tab.most]), self._clip(values), self._model(values)
            )
            return self._shown(tab, self.service.find(self._source(values), asked, job), values)

        return self._guarded(request, progress, work, self._nothing_shown(tab, values), beside="query")

    # Two of them, because Gradio passes no event to a `partial`.
    def look_back_ask(self, values: Values, event: gr.EventData) -> Changes:
        """Show an earlier answer again."""
        return self._look_back(self.page.ask, values, event)

    def look_back_find(self, values: Values, event: gr.EventData) -> Changes:
        """Show an earlier search again."""
        return self._look_back(self.page.find, values, event)

    def _look_back(self, tab: Tab, values: Values, event: gr.EventData) -> Changes:
        results: Sequence[AnswerResult | FindResult] = values[tab.earlier] or ()
        number = _number(event, len(results))
        errors = dict.fromkeys(self.page.errors.values(), "")
        return {**errors, **self._result(tab, results, number)}

    def cut(
        self, values: Values, event: gr.EventData, request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> Changes:
        """Cut a moment out of the video and show it."""
        preview = self.page.find.preview
        found: FindResult | None = values[self.page.find.kept]
        if found is None:
            return {preview: ""}
        source, number = found.source, _number(event, len(found.all_moments))
        moment = found.all_moments[number]
        start_s, end_s = moment.start_s, min(moment.end_s, moment.start_s + self.service.settings.max_clip_s)

        def work(job: Job) -> Changes:
            target = self.files.new_path(f"{Path(source.name).stem}_{start_s:.1f}s_{end_s:.1f}s.mp4")
            with source.problems():
                step = partial(job.report, "cutting the clip")
                cut_clip(source.path, target, start_s=start_s, end_s=end_s, max_side=_MAX_CLIP_SIDE, step=step)
            title = f"Moment {number + 1}: {start_s:.1f} to {end_s:.1f} s"
            return {preview: html("preview", file_address(target), target.name, title)}

        return self._guarded(request, progress, work, {preview: ""}, beside="query")

    def make_files(self, tab: Tab, values: Values) -> Changes:
        """Make the files of the result that is shown."""
        kept: AnswerResult | FindResult | None = values[tab.kept]
        if kept is None:
            return {tab.take_away: gr.Column(visible=False)}
        buttons = {
            tab.downloads[kind]: gr.DownloadButton(value=str(self.files.write(name, content)))
            for kind, (name, content) in kept.files().items()
        }
        # A link to an upload would be one to somebody's own file.
        link = link_to(kept.source.name, kept.asked) if kept.source.is_shipped else ""
        return {**buttons, tab.share: html("share", link), tab.take_away: gr.Column(visible=True)}

    def cancel(self, request: gr.Request) -> None:
        """End the visitor's job."""
        self.jobs.cancel(visitor_of(request))

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor who closed the page."""
        self.jobs.cancel(visitor_of(request))
        self.jobs.cancel(f"{visitor_of(request)}{_PREVIEW}")
        self.service.watched_videos.forget(visitor_of(request))

    def _guarded(
        self,
        request: gr.Request,
        progress: gr.Progress,
        work: Callable[[Job], Changes],
        nothing: Changes,
        *,
        beside: str,
    ) -> Changes:
        """Run a job; a mistake becomes a message on the page, a defect only a number.

        Args:
            nothing: what changes where there is no result.
            beside: the field for what is no one field's mistake, on the tab that the job was started from.
        """

        def tell(what: str, done: int, total: int) -> None:
            # Without a number Gradio shows no text either.
            progress((done, total) if total else 0.0, desc=what[:1].upper() + what[1:], unit="frames")

        try:
            return run_job(self.jobs, work, request, listener=tell)
        except UserError as error:
            return {**nothing, **self._problem(error, beside=beside)}

    def _source(self, values: Values) -> Source:
        return self.service.sources.find(values[self.page.stage])

    def _problem(self, error: UserError, *, beside: str) -> Changes:
        field = error.field if isinstance(error, FieldError) else beside
        return {self.page.errors[field]: html("error", str(error))}

    def _shown(self, tab: Tab, result: AnswerResult | FindResult, values: Values) -> Changes:
        """Return changes that show a new result and keep it among the earlier ones."""
        results = (*(values[tab.earlier] or ()), result)[-self.service.settings.max_earlier :]
        return {tab.earlier: results, **self._result(tab, results, len(results) - 1)}

    def _result(self, tab: Tab, results: Sequence[AnswerResult | FindResult], number: int) -> Changes:
        result = results[number]
        shown = answered_html(result) if isinstance(result, AnswerResult) else found_html(result)
        # The files of what was shown before go at once, and not when the new ones are made.
        history = {tab.history: history_html(results, number)}
        return {**tab.no_result(), tab.result: shown, tab.kept: result, **history}

    def _nothing_shown(self, tab: Tab, values: Values) -> Changes:
        return {**tab.no_result(), tab.history: history_html(values[tab.earlier] or (), None)}

    def cleared(self) -> Changes:
        """Return changes that take away everything said about an earlier video, and which part of it was meant."""
        page = self.page
        nothing = {**page.ask.nothing_asked(), **page.find.nothing_asked(), page.start: "", page.end: ""}
        return {**dict.fromkeys(page.errors.values(), ""), **nothing}

    def _example(self, number: int) -> Changes:
        """Return changes that put a shipped clip on the page."""
        page, sources = self.page, self.service.sources
        example = sources.examples[number]
        name = example.clip.name
        info = sources.check(sources.find({"clip": name}))
        return {
            **self.cleared(),
            page.stage: {"clip": name, "name": name, "url": self.clip_addresses[name], "facts": facts_text(info)},
            page.example: number,
            page.ask.more: gr.HTML(html("more_questions", example), visible=True),
        }

    def _part(self, asked: AnswerRequest | FindRequest) -> Changes:
        page, clip = self.page, asked.clip
        start, end = (f"{clip.start_s:g}", "" if math.isinf(clip.end_s) else f"{clip.end_s:g}") if clip else ("", "")
        model = {page.model: asked.model or self.service.model_names[0]}
        return {**model, page.frames: asked.num_frames, page.start: start, page.end: end}

    def _model(self, values: Values) -> str:
        """Return the model that is asked; links need not name the first."""
        model = values[self.page.model]
        return "" if model == self.service.model_names[0] else str(model or "")

    def _clip(self, values: Values) -> Span | None:
        """Return the part of the video that is meant; None is all of it."""
        return part_between(values[self.page.start], values[self.page.end])

    def _question_of(self, example: int, number: int) -> Changes:
        question = self.service.sources.examples[example].questions[number]
        return self._question(question.text, question.options)

    def _question(self, text: str, options: Sequence[str]) -> Changes:
        mode = self.page.ask.options.mode
        return {
            self.page.ask.question: text,
            mode: CHOOSE if options else OPEN,
            **self._rows(list(options[: self.service.settings.max_options]) or [""] * FIRST_OPTIONS),
        }

    def _options(self, values: Values) -> list[str]:
        options = self.page.ask.options
        return [values[text] for text in options.texts[: values[options.count]]]

    def _written_options(self, values: Values) -> tuple[str, ...]:
        """Return the options without empty fields; without any option the question would become an open one."""
        written = tuple(text for text in self._options(values) if text.strip())
        if not written:
            raise FieldError("options", "There are no options yet; write 2 or more, or ask for its own words.")
        return written

    def _rows(self, texts: Sequence[str]) -> Changes:
        options = self.page.ask.options
        changes: Changes = {options.count: len(texts)}
        for index, (row, text, remove) in enumerate(zip(options.rows, options.texts, options.removes, strict=True)):
            changes[row] = gr.Row(visible=index < len(texts))
            changes[text] = texts[index] if index < len(texts) else ""
            changes[remove] = gr.Button(interactive=len(texts) > 2)
        changes[options.add] = gr.Button(visible=len(texts) < len(options.rows))
        return changes

    def _asked(self, values: Values) -> AnswerRequest:
        tab = self.page.ask
        return AnswerRequest(
            question=values[tab.question],
            options=() if values[tab.options.mode] == OPEN else self._written_options(values),
            num_frames=int(values[self.page.frames]),
            num_keyframes=int(values[tab.keyframes]) if values[tab.wished] else None,
            compare=bool(values[tab.compare]),
            clip=self._clip(values),
            model=self._model(values),
        )


def visitor_of(request: gr.Request) -> str:
    """Return who asks: one open page, or one client."""
    return request.session_hash or secrets.token_hex(16)


def run_job(
    jobs: Jobs, work: Callable[[Job], Result], request: gr.Request, *, listener: Listener, aside: str = ""
) -> Result:
    """Run a job for whoever asks; one that goes `aside` does not take the visitor's place in the queue.

    Raises:
        UserError: what the visitor is told; of a defect, only the number that it was logged under.
    """
    address = str(request.client.host) if request.client else ""
    with DefectsLogged():
        return jobs.run(work, f"{visitor_of(request)}{aside}", address=address, listener=listener)


def file_address(path: Path) -> str:
    """Return where a browser finds a visitor's file, relative to the page."""
    return f"gradio_api/file={path.as_posix()}"


def _number(event: gr.EventData, count: int) -> int:
    """Return which of so many buttons was clicked; a client may send anything."""
    number = getattr(event, "number", None)
    if not isinstance(number, int) or not 0 <= number < count:
        raise gr.Error("There is no such button.", print_exception=False)
    return number

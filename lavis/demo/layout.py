"""What stands on the page, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lavis.demo.render import html
from lavis.demo.settings import FIELDS, MEGABYTE, Settings
from lavis.demo.videos import Example
from lavis.export.records import LETTERS

CHOOSE, OPEN = "Choose from options", "In its own words"
FIRST_OPTIONS = 3
# Kind of file -> what its button says.
ANSWER_FILES = {"json": "JSON", "csv": "CSV", "zip": "Keyframes (zip)", "png": "Picture"}
MOMENT_FILES = {"json": "JSON", "csv": "CSV", "vtt": "Chapters (WebVTT)", "png": "Picture"}

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Options:
    """The rows that options are written in; the first `count` of them are shown."""

    mode: gr.Radio
    block: gr.Column
    count: gr.State
    rows: Sequence[gr.Row]
    texts: Sequence[gr.Textbox]
    removes: Sequence[gr.Button]
    add: gr.Button

    def all_rows(self) -> list[Any]:
        """Return all that changes where rows come and go."""
        return [self.count, self.add, *self.rows, *self.texts, *self.removes]


@dataclass(frozen=True)
class Tab:
    """What both tabs have: buttons, earlier results, the result as it is shown, the result itself, and files of it.

    `linked` changes where a link has filled in the fields. It stands outside of the tabs: of a part of the tab that is
    not open Gradio says that it changed whenever an event might have changed it.
    """

    linked: gr.State
    run: gr.Button
    cancel: gr.Button
    history: gr.HTML
    earlier: gr.State
    result: gr.HTML
    kept: gr.State
    take_away: gr.Column
    share: gr.HTML
    downloads: dict[str, gr.DownloadButton]

    def no_result(self) -> dict[Any, Any]:
        """Return changes that take a result away."""
        return {self.result: "", self.kept: None, self.take_away: gr.Column(visible=False)}

    def nothing_asked(self) -> dict[Any, Any]:
        """Return changes that take the earlier results away too."""
        return {**self.no_result(), self.history: "", self.earlier: ()}


@dataclass(frozen=True)
class AskTab(Tab):
    """Asking; `wished` is whether the visitor has chosen a number of keyframes."""

    more: gr.HTML
    question: gr.Textbox
    options: Options
    keyframes: gr.Slider
    wished: gr.State
    compare: gr.Checkbox


@dataclass(frozen=True)
class FindTab(Tab):
    """Finding; `preview` shows a cut clip."""

    query: gr.Textbox
    most: gr.Slider
    preview: gr.HTML

    def no_result(self) -> dict[Any, Any]:
        """Return changes that take a result and its clip away."""
        return {**super().no_result(), self.preview: ""}


@dataclass(frozen=True)
class Page:
    """Everything that callbacks read and write."""

    stage: gr.HTML
    examples: gr.HTML
    example: gr.State
    model: gr.Radio
    start: gr.Textbox
    end: gr.Textbox
    frames: gr.Slider
    tabs: gr.Tabs
    errors: dict[str, gr.HTML]
    ask: AskTab
    find: FindTab


def build_page(
    *, model_names: Sequence[str], caveats: Sequence[str], examples: Sequence[Example], settings: Settings
) -> Page:
    """Lay out the page inside the current `gr.Blocks`."""
    errors = {field: gr.HTML(elem_classes="error-slot", render=False) for field in FIELDS}
    gr.HTML(html("header", model_names) + html("caveats", caveats), elem_id="masthead")
    ask_linked, find_linked = gr.State(value=False), gr.State(value=False)
    with gr.Row(elem_id="columns", equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="left"):
            stage = _stage(settings)
            errors["video"].render()
            cards = gr.HTML(
                html("examples", examples), elem_id="examples", js_on_load=_script("pick.js"), visible=bool(examples)
            )
            with gr.Column(elem_classes="card"):
                model = gr.Radio(
                    list(model_names),
                    value=model_names[0],
                    label="Model",
                    info="One that was not asked for a while is loaded first.",
                    visible=len(model_names) > 1,
                    elem_id="model",
                )
                errors["model"].render()
                start, end = _part()
                errors["clip"].render()
                frames = _slider(
                    "frames",
                    "Frames to watch",
                    settings.num_frames,
                    most=settings.max_frames,
                    info="Spread evenly over this part. They are watched once, however much you ask.",
                )
                errors["frames"].render()
        with gr.Column(scale=7, min_width=320, elem_id="right"), gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Ask", id="ask"):
                ask = _ask_tab(ask_linked, errors, settings)
            with gr.Tab("Find", id="find"):
                find = _find_tab(find_linked, errors, settings)
    example = gr.State(None)
    return Page(stage, cards, example, model, start, end, frames, tabs, errors, ask, find)


def _part() -> tuple[gr.Textbox, gr.Textbox]:
    """Lay out where the part to watch starts and ends, each with a button that takes it from the player."""
    fields = []
    with gr.Row(elem_classes="part", equal_height=True):
        for name, placeholder in (("Start", "0:00"), ("End", "the end")):
            with gr.Column(min_width=120):
                field = gr.Textbox(label=name, placeholder=placeholder, max_lines=1, elem_id=f"clip-{name.lower()}")
                here = gr.Button(f"{name} where the player is", size="sm", elem_classes="here")
                here.click(None, outputs=[field], js="() => playerTime()", api_visibility="private")
            fields.append(field)
    return fields[0], fields[1]


def _stage(settings: Settings) -> gr.HTML:
    return gr.HTML(
        {},
        html_template=_script("stage.html"),
        js_on_load=_script("stage.js"),
        elem_id="stage",
        max_bytes=settings.max_upload_mb * MEGABYTE,
        limits=f"up to {settings.max_upload_mb} MB and {settings.max_duration_s / 60:g} minutes; "
        f"removed after {settings.keep_s / 60:g} minutes",
    )


def _ask_tab(linked: gr.State, errors: dict[str, gr.HTML], settings: Settings) -> AskTab:
    with gr.Column(elem_classes="card"):
        more = gr.HTML(elem_id="more", js_on_load=_script("pick.js"), visible=False)
        question = gr.Textbox(
            label="Question", placeholder="What is the man holding?", lines=1, max_lines=3, elem_id="question"
        )
        errors["question"].render()
        options = _options(settings)
        errors["options"].render()
        with gr.Row(elem_classes="pair", equal_height=False):
            keyframes = _slider(
                "keyframes",
                "Keyframes to read",
                settings.num_keyframes,
                most=settings.max_keyframes,
                info="The best of the watched frames; fewer in a shorter video.",
            )
            compare = gr.Checkbox(
                label="Compare with uniform frames",
                info="The answer from frames spread evenly, side by side.",
                elem_id="compare",
            )
        errors["keyframes"].render()
        buttons = _buttons("Ask", "ask")
        errors["result"].render()
    results = _results("answer", settings)
    block, share, downloads = _downloads("answer", ANSWER_FILES)
    wished = gr.State(value=False)
    shown = (*buttons, *results)
    return AskTab(linked, *shown, block, share, downloads, more, question, options, keyframes, wished, compare)


def _options(settings: Settings) -> Options:
    mode = gr.Radio([CHOOSE, OPEN], value=CHOOSE, label="Answer", elem_id="mode")
    rows, texts, removes = [], [], []
    with gr.Column(elem_id="options") as block:
        for number in range(settings.max_options):
            letter = LETTERS[number]
            with gr.Row(elem_classes="option-row", visible=number < FIRST_OPTIONS) as row:
                texts.append(
                    gr.Textbox(
                        label=f"Option {letter}",
                        show_label=False,
                        container=False,
                        placeholder=f"Option {letter}",
                        max_lines=1,
                        elem_id=f"option-{letter}",
                        scale=1,
                    )
                )
                removes.append(gr.Button(f"Remove option {letter}", elem_classes="remove", scale=0, min_width=40))
            rows.append(row)
        add = gr.Button("Add an option", elem_id="add-option", size="sm")
    return Options(mode, block, gr.State(FIRST_OPTIONS), rows, texts, removes, add)


def _find_tab(linked: gr.State, errors: dict[str, gr.HTML], settings: Settings) -> FindTab:
    with gr.Column(elem_classes="card"):
        query = gr.Textbox(
            label="What the moment shows",
            info=f"One sentence per line, up to {settings.max_queries}; their curves are laid over each other.",
            placeholder="A man opens the door",
            lines=2,
            max_lines=settings.max_queries,
            elem_id="query",
        )
        errors["query"].render()
        most = _slider(
            "most-moments", "Moments at most, of each sentence", settings.max_moments, most=settings.max_moments
        )
        buttons = _buttons("Find", "find")
    results = _results("moments", settings)
    preview = gr.HTML(elem_id="preview")
    block, share, downloads = _downloads("moments", MOMENT_FILES)
    return FindTab(linked, *buttons, *results, block, share, downloads, query, most, preview)


def _slider(name: str, label: str, value: int, *, most: int, info: str | None = None) -> gr.Slider:
    return gr.Slider(1, most, value=value, step=1, buttons=[], label=label, info=info, elem_id=name)


def _buttons(label: str, name: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row(elem_classes="actions"):
        run = gr.Button(label, variant="primary", elem_id=f"{name}-run")
        cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"{name}-cancel")
    return run, cancel


def _results(name: str, settings: Settings) -> tuple[gr.HTML, gr.State, gr.HTML, gr.State]:
    history = gr.HTML(elem_id=f"{name}-history", elem_classes="history-slot", js_on_load=_script("pick.js"))
    earlier = gr.State((), time_to_live=settings.keep_s)
    result = gr.HTML(elem_id=name, elem_classes="result-slot", js_on_load=_script("pick.js"))
    return history, earlier, result, gr.State(None, time_to_live=settings.keep_s)


def _downloads(name: str, kinds: dict[str, str]) -> tuple[gr.Column, gr.HTML, dict[str, gr.DownloadButton]]:
    with gr.Column(visible=False, elem_classes="card take-away") as block:
        gr.HTML('<p class="eyebrow">Take it with you</p>')
        with gr.Row(elem_classes="downloads"):
            buttons = {
                kind: gr.DownloadButton(label, size="sm", elem_id=f"{name}-{kind}") for kind, label in kinds.items()
            }
        share = gr.HTML(elem_id=f"{name}-share", elem_classes="share-slot")
    return block, share, buttons


def _script(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Return the page's fonts and sizes; its colours are in style.css."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.stone,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    )
    return base.set(
        block_border_width="0px",
        block_padding="0px",
        block_shadow="none",
        block_label_text_weight="600",
        block_title_text_weight="600",
        input_border_width="1px",
        input_shadow="none",
        button_large_radius="10px",
        layout_gap="18px",
    )

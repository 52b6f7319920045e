"""The Gradio side of serving: the theme, the page as one app, and its launch."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from lavis.demo.api import add_api
from lavis.demo.callbacks import Callbacks, file_address
from lavis.demo.connections import bound_connections
from lavis.demo.examples import read_examples
from lavis.demo.files import VisitorFiles
from lavis.demo.guard import Guard
from lavis.demo.jobs import Jobs
from lavis.demo.layout import build_page
from lavis.demo.service import Service
from lavis.demo.settings import MEGABYTE, Settings
from lavis.demo.sources import Sources
from lavis.demo.uploads import Uploads
from lavis.demo.wiring import wire

_HERE = Path(__file__).parent
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
# What each colour of the theme is in light and in dark.
_COLOURS = {
    "body_background_fill": ("#f6f5f2", "#121317"),
    "body_text_color": ("#1d1c1a", "#ecebe8"),
    "body_text_color_subdued": ("#65625c", "#a5a29b"),
    "background_fill_primary": ("#ffffff", "#1b1c21"),
    "background_fill_secondary": ("#efede8", "#272930"),
    "border_color_primary": ("#e2dfd8", "#32343c"),
    "border_color_accent": ("#c3c0d8", "#4a4d63"),
    "block_background_fill": ("transparent", "transparent"),
    "block_title_text_color": ("#1d1c1a", "#ecebe8"),
    "block_info_text_color": ("#65625c", "#a5a29b"),
    "input_background_fill": ("#ffffff", "#15161a"),
    "input_border_color": ("#d6d2ca", "#3c3e47"),
    "input_border_color_focus": ("#3f51c9", "#98a5ff"),
    "input_placeholder_color": ("#8d8a83", "#7d7b76"),
    "color_accent_soft": ("#eceefb", "#262a44"),
    "slider_color": ("#3f51c9", "#98a5ff"),
    "checkbox_background_color_selected": ("#3f51c9", "#5666e0"),
    "checkbox_border_color_selected": ("#3f51c9", "#5666e0"),
    "checkbox_label_background_fill": ("#ffffff", "#1b1c21"),
    "checkbox_label_background_fill_selected": ("#eceefb", "#262a44"),
    "checkbox_label_border_color": ("#d6d2ca", "#3c3e47"),
    "checkbox_label_text_color_selected": ("#1d1c1a", "#ecebe8"),
    "button_primary_background_fill": ("#3f51c9", "#5666e0"),
    "button_primary_background_fill_hover": ("#3444ad", "#6676ee"),
    "button_secondary_background_fill": ("#ffffff", "#22242a"),
    "button_secondary_background_fill_hover": ("#f6f5f2", "#2b2d35"),
    "button_secondary_border_color": ("#d6d2ca", "#3c3e47"),
    "button_secondary_text_color": ("#1d1c1a", "#ecebe8"),
}
# An open page has up to eight connections, and most visitors of an address are not asking at the moment.
_CONNECTIONS_PER_JOB = 32
# For what is no job: checks of uploads, changes of the fields, files to take away.
_SPARE_THREADS = 24


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
        theme=_theme(),
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


def _theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.stone,
        font=_FONT,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    )
    plain = {
        "color_accent": "#3f51c9",
        "block_border_width": "0px",
        "block_padding": "0px",
        "block_shadow": "none",
        "block_label_text_weight": "600",
        "block_title_text_weight": "600",
        "input_border_width": "1px",
        "input_shadow": "none",
        "button_large_radius": "10px",
        "button_primary_text_color": "#ffffff",
        "layout_gap": "18px",
    }
    coloured = {name: light for name, (light, _) in _COLOURS.items()}
    dark = {f"{name}_dark": dark for name, (_, dark) in _COLOURS.items()}
    return theme.set(**plain, **coloured, **dark)

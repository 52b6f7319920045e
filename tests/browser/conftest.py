"""The page in a real browser: Debian's chromium, driven by Playwright.

With SEVILA_SCREENSHOTS=FOLDER the tests leave pictures of the page there; those of docs/images are made so.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

import lavis
from lavis.demo.serve import Served, serving
from lavis.demo.settings import Settings
from lavis.demo.videos import Example, read_examples

CHROMIUM = os.environ.get("SEVILA_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 60_000  # a slow machine with two cores; nothing waits for longer than it takes
DESKTOP = {"width": 1280, "height": 960}

expect.set_options(timeout=WAIT_MS)

Open = Callable[..., Page]
Shoot = Callable[[Page, str], None]


# Until this folder's last test only: Playwright keeps an event loop running, which other tests would not expect.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def served() -> Iterator[Served]:
    model = lavis.load_model("sevila", "tiny", device="cpu")
    with serving(model, model_name=model.config.name, port=None, settings=Settings(max_upload_mb=1)) as running:
        yield running


@pytest.fixture(scope="session")
def examples() -> tuple[Example, ...]:
    return read_examples()


class Watch:
    """Notes what a page must not do."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.problems: list[str] = []
        self._url = url
        context.on("request", self._request)
        context.on("console", lambda message: self._note(message.type == "error", f"console: {message.text}"))
        context.on("weberror", lambda error: self._note(True, f"error: {error.error}"))

    def _request(self, request: object) -> None:
        address = request.url  # type: ignore[attr-defined]
        self._note(not address.startswith((self._url, "data:", "blob:")), f"request to {address}")

    def _note(self, is_problem: bool, text: str) -> None:
        if is_problem:
            self.problems.append(text)


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open the page as a visitor of its own; afterwards nothing may have left the machine or gone wrong."""
    context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    context.set_default_timeout(WAIT_MS)
    watch = Watch(context, url.partition("?")[0])
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_role("tab", name="Ask")).to_be_visible()
    yield page
    context.close()
    assert watch.problems == []


@pytest.fixture
def open_page(browser: Browser, served: Served) -> Iterator[Open]:
    """Opens the page, as often as a test likes."""
    with ExitStack() as visits:
        yield lambda url=served.url, **options: visits.enter_context(visit(browser, url, **options))


@pytest.fixture(scope="package")
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """One visitor's page for many tests, because opening it takes longer than using it; see `steps.ask_example`."""
    with visit(browser, served.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def shoot() -> Shoot:
    """Saves a picture of what a visitor sees, where somebody wants to look at it."""
    folder = os.environ.get("SEVILA_SCREENSHOTS")

    def save(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{name}.png")

    return save

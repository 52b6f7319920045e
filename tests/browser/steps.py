"""What visitors do, in one place."""

from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from lavis.common.defaults import NUM_FRAMES
from lavis.demo.videos import Example


def ask_example(page: Page, example: Example, *, compare: bool = False) -> Locator:
    """Click a shipped example, whatever was on the page before, and wait for its answer and its files."""
    page.get_by_role("tab", name="Ask").click()
    page.get_by_label("Compare with uniform frames").set_checked(compare)
    set_frames(page, NUM_FRAMES)
    forget(page)
    page.locator(".example", has_text=example.questions[0].text).click()
    return answer_to(page, example.questions[0].text)


def ask(page: Page, question: str) -> Locator:
    """Ask what stands in the fields, and wait for the answer and its files."""
    page.get_by_label("Question", exact=True).fill(question)
    forget(page)
    press_ask(page)
    return answer_to(page, question)


def press_ask(page: Page) -> None:
    """Press the button."""
    page.get_by_role("button", name="Ask", exact=True).click()


def forget(page: Page) -> None:
    """Mark the result that is shown, so that it is not taken for the next one."""
    page.evaluate("document.querySelectorAll('.result').forEach(one => one.dataset.old = 'yes')")


def answer_to(page: Page, question: str) -> Locator:
    """Wait for a new answer to a question, and for its files."""
    result = page.locator("#answer .result:not([data-old])")
    expect(result.locator(".asked")).to_have_text(question)
    expect(page.locator("#answer-json")).to_be_visible()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    return result


def set_frames(page: Page, count: int) -> None:
    """Choose how many frames are watched."""
    field = page.locator("#frames input[type=number]")
    field.fill(str(count))
    field.press("Tab")


def set_keyframes(page: Page, count: int) -> None:
    """Choose how many keyframes are read."""
    field = page.locator("#keyframes input[type=number]")
    field.fill(str(count))
    field.press("Tab")


def write_options(page: Page, options: Sequence[str]) -> None:
    """Fill in options, with as many rows as it takes."""
    for number, text in enumerate(options):
        field = page.get_by_label(f"Option {'ABCDEFGH'[number]}", exact=True)
        if not field.is_visible():
            page.get_by_role("button", name="Add an option").click()
            expect(field).to_be_visible()
        field.fill(text)


def upload(page: Page, path: str) -> None:
    """Choose a file, and wait until the page says what it is."""
    page.get_by_label("Upload a video").set_input_files(path)
    expect(page.locator(".stage .facts")).to_contain_text("frames")


def expect_player_at(page: Page, time_s: float, *, within_s: float = 0.3) -> None:
    """Wait until the player is somewhere."""
    page.wait_for_function(
        "([wanted, within]) => Math.abs(document.querySelector('.stage video').currentTime - wanted) <= within",
        arg=[time_s, within_s],
    )


def saved(page: Page, button: str | Locator) -> Path:
    """Click something that saves a file."""
    target = page.locator(button) if isinstance(button, str) else button
    with page.expect_download() as started:
        target.click()
    return Path(started.value.path())

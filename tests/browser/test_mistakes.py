"""Every mistake has its message beside its field."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lavis.demo.videos import Example
from tests.browser.conftest import Open
from tests.browser.steps import ask, ask_example, press_ask, set_frames, set_keyframes, write_options


def expect_message(page: Page, message: str) -> None:
    """Exactly one message stands on the page."""
    expect(page.locator("[role=alert]:visible", has_text=message)).to_have_count(1)


def test_without_a_video_there_is_nothing_to_ask(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("Question", exact=True).fill("What happens?")
    write_options(page, ["this", "that", "more"])
    press_ask(page)
    expect_message(page, "There is no video yet; upload one or choose an example.")
    expect(page.locator("#answer .result")).to_have_count(0)


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        ("", ["a", "b", "c"], "the question is empty"),
        ("Why?", ["", " ", ""], "There are no options yet; write 2 or more, or ask for its own words."),
        ("Why?", ["", "b", ""], "1 option given"),
        ("Why?", ["a", "b", "a"], "option C repeats 'a'"),
    ],
)
def test_what_cannot_be_asked_is_said_beside_its_field(
    page: Page, examples: tuple[Example, ...], question: str, options: list[str], message: str
) -> None:
    ask_example(page, examples[0])
    page.get_by_label("Question", exact=True).fill(question)
    for left in range(len(examples[0].questions[0].options), len(options), -1):
        gone = "ABCDEFGH"[left - 1]
        page.get_by_role("button", name=f"Remove option {gone}").click()
        expect(page.get_by_label(f"Option {gone}", exact=True)).to_be_hidden()
    write_options(page, options)
    press_ask(page)
    expect_message(page, message)
    expect(page.locator("#answer .result")).to_have_count(0)


def test_more_keyframes_than_frames_is_said_and_goes_away_once_mended(
    page: Page, examples: tuple[Example, ...]
) -> None:
    ask_example(page, examples[0])
    set_frames(page, 2)
    expect(ask(page, "Which two?").locator(".took")).to_contain_text("2 keyframes read of 2 frames watched")
    for wished in (4, 5):  # 4 is where the slider stands before anybody touches it
        set_keyframes(page, 5)
        set_keyframes(page, wished)
        press_ask(page)
        expect_message(page, f"Cannot read {wished} keyframes of 2 frames; read at most 2, or watch more frames.")
    set_frames(page, 8)
    result = ask(page, "Which frames?")
    expect(result.locator(".took")).to_contain_text("5 keyframes read of 8 frames watched")
    expect(page.locator("[role=alert]:visible")).to_have_count(0)


def test_a_text_that_is_called_a_video_is_refused(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "clip.mp4"
    text.write_text("This is text, whatever its name says.\n" * 40)
    page.get_by_label("Upload a video").set_input_files(str(text))
    expect_message(page, "clip.mp4: not a video file")
    expect(page.locator(".stage video")).to_be_hidden()


def test_a_file_that_is_too_large_is_not_even_sent(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(1_500_000))
    page.get_by_label("Upload a video").set_input_files(str(large))
    expect_message(page, "This file has 2 MB; at most 1 MB go.")

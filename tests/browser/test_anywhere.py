"""On a phone, in the dark, with the keyboard alone, and with a job that takes too long."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from lavis.demo.serve import Served, serving
from lavis.demo.videos import Example
from tests.browser.conftest import Open, Shoot
from tests.browser.steps import answer_to, ask_example
from tests.integration.demo.test_hostile import GatedModel

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


def overflowing(page: Page) -> list[str]:
    """Elements that reach beyond the window's right edge, where nobody sees them."""
    return page.evaluate(
        """() => [...document.querySelectorAll('main *')]
            .filter(one => one.checkVisibility() && !one.closest('.sr, svg'))
            .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1)
            .map(one => one.className || one.tagName)"""
    )


def test_a_phone_shows_everything(open_page: Open, examples: tuple[Example, ...], shoot: Shoot) -> None:
    page = open_page(**PHONE)
    ask_example(page, examples[0], compare=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert overflowing(page) == []
    shoot(page, "demo-phone")


def test_the_dark_is_dark_and_readable(open_page: Open, examples: tuple[Example, ...], shoot: Shoot) -> None:
    page = open_page(color_scheme="dark")
    result = ask_example(page, examples[0])
    shoot(page, "demo-dark")
    for text in (result.locator(".answer"), result.locator(".option .share").first, result.locator(".caveats p")):
        assert contrast(page, text) >= 4.5


def test_the_light_is_readable(page: Page, examples: tuple[Example, ...]) -> None:
    result = ask_example(page, examples[0])
    for text in (result.locator(".answer"), result.locator(".option .share").first, result.locator(".caveats p")):
        assert contrast(page, text) >= 4.5


def contrast(page: Page, text: object) -> float:
    """The contrast of a text to what is behind it, as WCAG 2 reckons."""
    return text.evaluate(  # type: ignore[attr-defined]
        """element => {
            const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
            const luminance = colour => numbers(colour).slice(0, 3)
                .map(value => value / 255)
                .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
                .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
            let behind = element;
            const seeThrough = one => (numbers(getComputedStyle(one).backgroundColor)[3] ?? 1) === 0;
            while (behind.parentElement && seeThrough(behind)) behind = behind.parentElement;
            const both = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(luminance);
            return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        }"""
    )


def test_the_keyboard_alone_asks_and_looks(open_page: Open, examples: tuple[Example, ...]) -> None:
    page = open_page()
    tab_to(page, ".example")
    page.keyboard.press("Enter")
    result = answer_to(page, examples[0].questions[0].text)
    tab_to(page, ".strip .frame")
    wanted = float(result.locator(".strip .frame").first.get_attribute("data-seek") or "nan")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "wanted => Math.abs(document.querySelector('.stage video').currentTime - wanted) < 0.3", arg=wanted
    )


def tab_to(page: Page, selector: str, *, most: int = 80) -> None:
    """Press Tab until something has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the keyboard does not reach {selector}")


def test_every_control_has_a_name(page: Page, examples: tuple[Example, ...]) -> None:
    ask_example(page, examples[0])
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('main :is(button, input, textarea, select, a, video, [role=slider])')]
            .filter(one => one.checkVisibility())
            .filter(one => !(one.ariaLabel || one.title || one.innerText || one.labels?.length || one.ariaLabelledBy
                || one.closest('label')?.innerText))
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


@pytest.fixture(scope="module")
def slow_model() -> GatedModel:
    return GatedModel()


@pytest.fixture(scope="module")
def slow(slow_model: GatedModel) -> Iterator[Served]:
    with serving(slow_model, model_name="slow", port=None) as running:
        yield running


def test_a_job_shows_its_progress_and_can_be_cancelled(
    open_page: Open, slow: Served, slow_model: GatedModel, examples: tuple[Example, ...]
) -> None:
    page = open_page(slow.url)
    page.locator(".example").first.click()
    expect(page.locator("#answer")).to_contain_text("Watching frames")
    page.get_by_role("button", name="Cancel").click()
    slow_model.gate.set()
    expect(page.locator("[role=alert]:visible")).to_have_text("Cancelled.")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    page.get_by_role("button", name="Ask", exact=True).click()
    answer_to(page, examples[0].questions[0].text)

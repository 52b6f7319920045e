"""Several models on one page: a visitor chooses, and the result and its link say which it was."""

from playwright.sync_api import expect

from lavis.demo.serve import serving
from lavis.demo.videos import Example
from tests.browser.conftest import Open, Shoot
from tests.browser.steps import answer_to, ask, ask_example
from tests.unit.demo.conftest import BrightnessModel


def test_a_visitor_chooses_between_models(open_page: Open, examples: tuple[Example, ...], shoot: Shoot) -> None:
    loaded: list[str] = []

    def load() -> BrightnessModel:
        loaded.append("second")
        return BrightnessModel()

    question = examples[0].questions[0].text
    with serving(BrightnessModel(), model_name="first", port=None, other_models={"second": load}) as served:
        page = open_page(served.url)
        expect(page.locator(".masthead .model")).to_have_text("models first, second")
        expect(ask_example(page, examples[0]).locator(".took .hint")).to_have_text("by first")
        assert loaded == []
        page.get_by_label("second").check()
        result = ask(page, question)
        expect(result.locator(".took .hint")).to_have_text("by second")
        expect(result.locator("[data-part=watch] dd")).not_to_have_text("already done")
        shoot(page, "demo-models")
        link = page.locator("#answer-share a").get_attribute("href") or ""
        other = open_page(served.url + link)
        expect(answer_to(other, question).locator(".took .hint")).to_have_text("by second")
        expect(other.get_by_label("second")).to_be_checked()
        assert loaded == ["second"]
        page.get_by_label("first").check()
        expect(ask(page, question).locator("[data-part=watch] dd")).to_have_text("already done")

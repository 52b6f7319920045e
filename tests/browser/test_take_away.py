"""What can be taken away holds what the page shows."""

import csv
import io
import json
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from lavis.demo.videos import Example
from tests.browser.conftest import Shoot
from tests.browser.steps import ask_example, forget, saved


def test_the_answer_s_files(page: Page, examples: tuple[Example, ...]) -> None:
    result = ask_example(page, examples[0])
    times = [text.split(" s")[0] for text in result.locator(".strip .caption b").all_inner_texts()]

    record = json.loads(saved(page, "#answer-json").read_bytes())
    assert record["answer_index"] == int(result.get_attribute("data-answer") or "")
    assert [option["text"] for option in record["option_scores"]] == result.locator(".option .text").all_inner_texts()
    assert [f"{frame['time_s']:.2f}" for frame in record["keyframes"]] == times
    assert record["video"]["path"] == examples[0].clip.name

    rows = list(csv.DictReader(io.StringIO(saved(page, "#answer-csv").read_text(encoding="utf-8"))))
    assert len(rows) == 32
    assert [f"{float(row['time_s']):.2f}" for row in rows if row["keyframe"] == "1"] == times

    with zipfile.ZipFile(saved(page, "#answer-zip")) as archive:
        names = archive.namelist()
        sizes = {Image.open(archive.open(name)).size for name in names}
    assert [name.split("_frame")[1] for name in names] == [f"{frame['frame_idx']}.jpg" for frame in record["keyframes"]]
    assert sizes == {(256, 256)}

    assert Image.open(saved(page, "#answer-png")).format == "PNG"


@pytest.fixture
def found(page: Page, examples: tuple[Example, ...]) -> Page:
    """The page with the moments of an example."""
    ask_example(page, examples[0])
    page.get_by_role("tab", name="Find").click()
    page.get_by_label("What the moment shows").fill(examples[0].questions[0].text)
    forget(page)
    page.get_by_label("What the moment shows").press("Enter")
    expect(page.locator("#moments .found:not([data-old])")).to_be_visible()
    expect(page.locator("#moments-json")).to_be_visible()
    return page


def test_moments_are_found_cut_and_saved(found: Page, shoot: Shoot) -> None:
    result = found.locator("#moments .found")
    count = int(result.get_attribute("data-moments") or "0")
    assert count >= 1
    expect(result.locator(".timeline .span")).to_have_count(count)
    expect(result.locator("[data-part=watch] dd")).to_have_text("already done")

    record = json.loads(saved(found, "#moments-json").read_bytes())
    assert len(record["moments"]) == count
    rows = list(csv.DictReader(io.StringIO(saved(found, "#moments-csv").read_text(encoding="utf-8"))))
    assert [float(row["start_s"]) for row in rows] == pytest.approx([m["start_s"] for m in record["moments"]], abs=1e-3)
    chapters = saved(found, "#moments-vtt").read_text(encoding="utf-8")
    assert chapters.startswith("WEBVTT\n")
    assert chapters.count(" --> ") == count
    assert Image.open(saved(found, "#moments-png")).format == "PNG"

    result.get_by_role("button", name="preview the cut clip").first.click()
    preview = found.locator("#preview video")
    expect(preview).to_be_visible()
    found.wait_for_function("document.querySelector('#preview video').readyState >= 1")
    best = record["moments"][0]
    length = float(preview.evaluate("video => video.duration"))
    assert length == pytest.approx(best["end_s"] - best["start_s"], abs=0.5)
    shoot(found, "demo-find")
    assert b"ftyp" in saved(found, found.get_by_role("link", name="Save this clip")).read_bytes()[:16]


def test_a_moment_moves_the_player(found: Page) -> None:
    button = found.locator("#moments .frame").first
    wanted = float(button.get_attribute("data-seek") or "nan")
    button.click()
    found.wait_for_function(
        "wanted => Math.abs(document.querySelector('.stage video').currentTime - wanted) < 0.3", arg=wanted
    )

"""What can be taken away holds what the page shows."""

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from av.stream import Disposition
from PIL import Image
from playwright.sync_api import Page, expect

from lavis.demo.videos import Example
from tests.browser.conftest import Open, Shoot
from tests.browser.steps import ask_example, forget, saved, upload
from tests.unit.export.test_clips import heard
from tests.videos import join_streams, write_sound


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
    find(page)
    return page


def find(page: Page) -> None:
    """Find what stands in the field, and wait for the moments and their files."""
    forget(page)
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.locator("#moments .found:not([data-old])")).to_be_visible()
    expect(page.locator("#moments-json")).to_be_visible()
    expect(page.get_by_role("button", name="Find", exact=True)).to_be_visible()


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


def test_several_sentences_are_laid_over_each_other(found: Page, examples: tuple[Example, ...], shoot: Shoot) -> None:
    queries = [question.text for question in examples[0].questions[:2]]
    found.get_by_label("What the moment shows").fill("\n\n".join(queries))
    find(found)
    result = found.locator("#moments .found")
    expect(result.locator(".legend .text")).to_have_text(queries)
    expect(result.locator(".timeline .curve")).to_have_count(2)
    swatches = result.locator(".legend .swatch")
    colours = [swatches.nth(number).evaluate("one => getComputedStyle(one).backgroundColor") for number in range(2)]
    lines = result.locator(".timeline .curve")
    assert [lines.nth(number).evaluate("one => getComputedStyle(one).stroke") for number in range(2)] == colours
    assert colours[0] != colours[1]
    records = json.loads(saved(found, "#moments-json").read_bytes())
    assert [record["query"] for record in records] == queries
    count = sum(len(record["moments"]) for record in records)
    expect(result.locator(".timeline .pin")).to_have_count(count)
    expect(result.locator(".moments .frame .number")).to_have_text([str(number + 1) for number in range(count)])
    expect(found.locator("#moments-history .chip")).to_have_count(2)
    shoot(found, "demo-several")
    found.get_by_label("What the moment shows").fill("\n".join(queries[:1] * 2))
    found.get_by_role("button", name="Find", exact=True).click()
    expect(found.locator("[role=alert]:visible")).to_contain_text("stands there twice; give different sentences.")


def test_a_cut_clip_keeps_its_sound(open_page: Open, examples: tuple[Example, ...], tmp_path: Path) -> None:
    page = open_page()
    sound = write_sound(tmp_path / "sound.mp4", seconds=examples[0].duration_s)
    parts, both = [examples[0].clip, sound], [Disposition.default] * 2
    upload(page, str(join_streams(tmp_path / "both.mp4", parts, dispositions=both)))
    page.get_by_role("tab", name="Find").click()
    page.get_by_label("What the moment shows").fill(examples[0].questions[0].text)
    find(page)
    best = json.loads(saved(page, "#moments-json").read_bytes())["moments"][0]
    expect(page.locator("#moments-share a")).to_have_count(0)  # nobody else may see an upload
    page.get_by_role("button", name="preview the cut clip").first.click()
    clip = saved(page, page.get_by_role("link", name="Save this clip"))
    _, sounds_s = heard(clip)
    assert sounds_s == pytest.approx(best["end_s"] - best["start_s"], abs=0.2)

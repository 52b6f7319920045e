"""Asking: the answer, its evidence, and the way into the video."""

import json
import re
import shutil
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from lavis.common.defaults import NUM_KEYFRAMES
from lavis.demo.links import link_to
from lavis.demo.serve import Served
from lavis.demo.service import FindRequest
from lavis.demo.videos import Example
from tests.architecture.source import ROOT
from tests.browser.conftest import Open, Shoot
from tests.browser.steps import (
    answer_to,
    ask,
    ask_example,
    expect_player_at,
    forget,
    press_ask,
    saved,
    set_keyframes,
    upload,
    write_options,
)
from tests.videos import write_video


def test_an_example_gives_the_right_answer_with_its_evidence(
    open_page: Open, examples: tuple[Example, ...], shoot: Shoot
) -> None:
    page, example = open_page(), examples[0]
    asked = example.questions[0]
    shoot(page, "demo-start")
    result = ask_example(page, example)
    expect(result.locator(".answer")).to_contain_text(asked.options[asked.answer])
    assert result.get_attribute("data-answer") == str(asked.answer)
    expect(result.locator(".option .text")).to_have_text(list(asked.options))
    expect(result.locator(".option[aria-current] .text")).to_have_text(asked.options[asked.answer])
    expect(result.locator(".strip .frame")).to_have_count(NUM_KEYFRAMES)
    expect(result.locator(".timeline .pin")).to_have_count(NUM_KEYFRAMES)
    expect(result.locator(".timeline .curve")).to_have_count(1)
    expect(result.locator(".timeline .span")).to_have_count(1)
    marks = result.locator(".timeline .mark").all_inner_texts()
    assert [float(mark) for mark in marks] == sorted(map(float, marks))
    assert len(marks) >= 3
    expect(result.locator(".timeline .axis")).to_have_text("score")
    expect(result.locator(".took")).to_contain_text("4 keyframes read of 32 frames watched")
    expect(result.locator(".took dt")).to_have_text(["Decode frames", "Watch (encode)", "Localize", "Answer"])
    expect(page.locator("#masthead .caveats")).to_have_count(1)
    expect(result.locator(".caveats")).to_have_text(page.locator("#masthead .caveats").inner_text())
    assert len({card.evaluate("card => card.getBoundingClientRect().bottom") for card in cards(page)}) == 1
    result.locator(".strip .frame").first.click()
    expect_player_at(page, float(result.locator(".strip .frame").first.get_attribute("data-seek") or "nan"))
    shoot(page, "demo-answer")


def cards(page: Page) -> list[Locator]:
    return page.locator(".example").all()


def test_keyframes_stand_in_time_order_with_time_and_score(page: Page, examples: tuple[Example, ...]) -> None:
    captions = ask_example(page, examples[0]).locator(".strip .caption").all_inner_texts()
    times = [float(caption.split(" s")[0]) for caption in captions]
    assert times == sorted(times)
    assert all("score" in caption for caption in captions)


def test_a_keyframe_and_its_number_move_the_player(page: Page, examples: tuple[Example, ...]) -> None:
    result = ask_example(page, examples[0])
    for button in (result.locator(".strip .frame").nth(2), result.locator(".timeline .pin").nth(1)):
        wanted = float(button.get_attribute("data-seek") or "nan")
        button.click()
        expect_player_at(page, wanted)


def test_the_timeline_moves_the_player_by_click_and_by_arrow_keys(page: Page, examples: tuple[Example, ...]) -> None:
    result = ask_example(page, examples[0])
    track = result.get_by_role("slider")
    track.click()
    end = float(track.get_attribute("data-end") or "nan")
    expect_player_at(page, end / 2, within_s=0.5)
    times = [float(time) for time in (track.get_attribute("data-times") or "").split()]
    track.focus()
    page.keyboard.press("Home")
    expect_player_at(page, times[0])
    page.keyboard.press("ArrowRight")
    expect_player_at(page, times[1])
    page.keyboard.press("End")
    expect_player_at(page, times[-1])
    page.keyboard.press("ArrowLeft")
    expect_player_at(page, times[-2])
    expect(track).to_have_attribute("aria-valuenow", f"{times[-2]:.2f}")


def test_a_further_question_does_not_watch_again_and_the_first_answer_can_be_gone_back_to(
    page: Page, examples: tuple[Example, ...], shoot: Shoot
) -> None:
    ask_example(page, examples[0])
    further = examples[0].questions[1]
    forget(page)
    page.get_by_role("button", name=further.text).click()
    result = answer_to(page, further.text)
    expect(result.locator(".answer")).to_contain_text(further.options[further.answer])
    expect(result.locator("[data-part=decode] dd")).to_have_text("already done")
    expect(result.locator("[data-part=watch] dd")).to_have_text("already done")
    expect(result.locator("[data-part=localize] dd")).to_contain_text(" s")
    first = examples[0].questions[0]
    history = page.locator("#answer-history .chip")
    outcomes = [f"{asked.text} {asked.options[asked.answer]}" for asked in (first, further)]
    expect(history).to_have_text(outcomes)
    expect(history.nth(1)).to_have_attribute("aria-current", "true")
    forget(page)
    history.nth(0).click()
    earlier = answer_to(page, first.text)
    expect(earlier.locator(".answer")).to_contain_text(first.options[first.answer])
    expect(history.nth(0)).to_have_attribute("aria-current", "true")
    assert json.loads(saved(page, "#answer-json").read_bytes())["question"] == first.text
    shoot(page, "demo-history")
    ask_example(page, examples[1])
    expect(history).to_have_count(0)


def test_an_upload_is_asked_with_options_of_one_s_own(
    open_page: Open, examples: tuple[Example, ...], tmp_path: Path
) -> None:
    page, asked = open_page(), examples[0].questions[0]
    upload(page, str(shutil.copy(examples[0].clip, tmp_path / "My holiday.mp4")))
    expect(page.locator(".stage .name")).to_have_text("My holiday.mp4")
    write_options(page, ["to be removed", *asked.options])
    page.get_by_role("button", name="Remove option A").click()
    expect(page.get_by_label("Option A", exact=True)).to_have_value(asked.options[0])
    result = ask(page, asked.text)
    expect(result.locator(".option .text")).to_have_text(list(asked.options))
    assert result.get_attribute("data-answer") == str(asked.answer)


def test_another_video_takes_the_last_one_s_options_away_and_empty_fields_are_passed_over(
    page: Page, examples: tuple[Example, ...], tmp_path: Path
) -> None:
    ask_example(page, examples[0])
    upload(page, str(shutil.copy(examples[1].clip, tmp_path / "mine.mp4")))
    expect(page.locator("#options textarea:visible, #options input:visible")).to_have_count(3)
    for letter in "ABC":
        expect(page.get_by_label(f"Option {letter}", exact=True)).to_have_value("")
    expect(page.get_by_label("Question", exact=True)).to_have_value("")
    write_options(page, ["", "left", "  ", "right"])
    result = ask(page, "Where to?")
    expect(result.locator(".option .letter")).to_have_text(["A", "B"])
    expect(result.locator(".option .text")).to_have_text(["left", "right"])
    expect(page.get_by_label("Option B", exact=True)).to_have_value("right")


def test_two_options_remain_and_eight_are_the_most(page: Page, examples: tuple[Example, ...]) -> None:
    ask_example(page, examples[0])
    for left in range(len(examples[0].questions[0].options), 2, -1):
        gone = "ABCDEFGH"[left - 1]
        page.get_by_role("button", name=f"Remove option {gone}").click()
        expect(page.get_by_label(f"Option {gone}", exact=True)).to_be_hidden()
    expect(page.get_by_role("button", name="Remove option A")).to_be_hidden()
    write_options(page, "abcdefgh")
    expect(page.get_by_role("button", name="Add an option")).to_be_hidden()


def test_an_open_answer_comes_in_words(page: Page, examples: tuple[Example, ...]) -> None:
    ask_example(page, examples[0])
    page.get_by_label("In its own words").check()
    expect(page.get_by_label("Option A", exact=True)).to_be_hidden()
    result = ask(page, "What happens?")
    expect(result.locator(".option")).to_have_count(0)
    expect(result.locator(".answer")).not_to_be_empty()


def test_comparing_shows_uniform_frames_beside(page: Page, examples: tuple[Example, ...], shoot: Shoot) -> None:
    result = ask_example(page, examples[0], compare=True)
    expect(result.locator(".panel")).to_have_count(2)
    expect(result.locator(".panel .strip")).to_have_count(2)
    expect(result.locator(".timeline .uniform")).to_have_count(NUM_KEYFRAMES)
    answers = result.locator(".panel .answer").all_inner_texts()
    verdict = "Both give the same answer." if answers[0] == answers[1] else "The two answers differ."
    expect(result.locator(".verdict")).to_have_text(verdict)
    shoot(page, "demo-compare")


def test_visitors_do_not_see_each_other(page: Page, open_page: Open, examples: tuple[Example, ...]) -> None:
    ask_example(page, examples[0])
    other = open_page()
    expect(other.locator("#answer .result")).to_have_count(0)
    asked = ask_example(other, examples[0])
    # What was watched for one visitor is not there for another.
    expect(asked.locator("[data-part=watch] dd")).not_to_have_text("already done")


def test_a_part_is_asked_about_and_a_link_opens_the_same_result(
    open_page: Open, served: Served, examples: tuple[Example, ...], shoot: Shoot
) -> None:
    page, example = open_page(), examples[0]
    question = example.questions[0].text
    ask_example(page, example, compare=True)
    page.get_by_label("Start", exact=True).fill("0:20")
    page.locator(".stage video").evaluate("video => { video.currentTime = 34.5 }")
    page.get_by_role("button", name="End where the player is").click()
    expect(page.get_by_label("End", exact=True)).to_have_value("34.5")
    set_keyframes(page, 3)
    result = ask(page, question)
    expect(result.locator(".took")).to_contain_text("from 20.0 s to 34.5 s of the video")
    track = result.locator(".track")
    assert (track.get_attribute("data-start"), track.get_attribute("data-end")) == ("20.000", "34.500")
    track.click()
    expect_player_at(page, 27.25, within_s=0.3)
    record = json.loads(saved(page, "#answer-json").read_bytes())
    assert record["clip"] == {"start_s": 20.0, "end_s": 34.5}
    page.get_by_role("button", name="Copy link").click()
    link = page.get_by_role("textbox", name="Link to this result").input_value()
    assert link.startswith(f"{served.url.rstrip('/')}/?clip=")
    shoot(page, "demo-part")

    other = open_page(link)
    answer_to(other, question)
    again = json.loads(saved(other, "#answer-json").read_bytes())
    for changing in ("timings_s", "cost"):
        del record[changing], again[changing]
    assert again == record
    expect(other.get_by_label("Start", exact=True)).to_have_value("20")
    expect(other.locator("#answer .panel")).to_have_count(2)
    other.get_by_label("Start", exact=True).fill("soon")
    press_ask(other)
    expect(other.locator("[role=alert]:visible")).to_have_text("'soon' is no time; give seconds, mm:ss or hh:mm:ss")

    queries = [asked.text for asked in example.questions[:2]]
    sought = open_page(served.url + link_to(example.clip.name, FindRequest(tuple(queries), 16, 3)))
    expect(sought.locator("#moments .legend .text")).to_have_text(queries)
    expect(sought.locator("#moments .took")).to_contain_text("16 frames compared")


def test_a_link_to_a_clip_that_does_not_exist_says_so(open_page: Open, served: Served) -> None:
    bad = open_page(f"{served.url}?clip=nobody.mp4&question=Why")
    expect(bad.locator("[role=alert]:visible")).to_contain_text("There is no clip 'nobody.mp4'")
    # Nothing is asked afterwards, which would take the message away.
    sent: list[str] = []
    bad.on("request", lambda request: sent.append(request.post_data or "") if request.method == "POST" else None)
    bad.get_by_role("tab", name="Find").click()
    expect(bad.get_by_label("What the moment shows")).to_be_visible()
    expect(bad.locator("[role=alert]:visible")).to_contain_text("There is no clip 'nobody.mp4'")
    assert sent == []


def test_the_link_of_the_page_s_documentation_opens_a_result(open_page: Open, served: Served) -> None:
    (link,) = re.findall(r"`/(\?clip=.*)`", (ROOT / "docs" / "demo.md").read_text(encoding="utf-8"))
    result = answer_to(open_page(served.url + link), "Where is the triangle?")
    expect(result.locator(".option .text")).to_have_text(["sky", "beach"])
    expect(result.locator(".took")).to_contain_text("from 0.0 s to 30.0 s of the video")


def test_a_file_that_the_browser_cannot_play_gets_a_preview(
    open_page: Open, examples: tuple[Example, ...], tmp_path: Path, shoot: Shoot
) -> None:
    page = open_page()
    note = page.locator(".stage .unplayable")
    kinds = [("old.mpg", "mpeg2video", 50), ("old.wmv", "wmv2", 75), ("old.avi", "mpeg4", 100)]
    for name, codec, num_frames in kinds:
        upload(page, str(write_video(tmp_path / name, num_frames=num_frames, codec=codec, b_frames=0)))
        expect(note).to_contain_text(f"this preview has {num_frames} pictures, without sound")
        lasts_s = num_frames / 25
        page.wait_for_function(
            "([lasts]) => Math.abs(document.querySelector('.stage video').duration - lasts) < 0.1", arg=[lasts_s]
        )
        expect(page.locator(".stage .facts")).to_contain_text(f"{num_frames} frames")
    write_options(page, ["this", "that"])
    result = ask(page, "Which is it?")
    result.locator(".strip .frame").nth(1).click()
    expect_player_at(page, float(result.locator(".strip .frame").nth(1).get_attribute("data-seek") or "nan"))
    shoot(page, "demo-preview")
    ask_example(page, examples[0])
    expect(note).to_be_hidden()

"""The page with an image-text model of transformers that lies in a folder."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import lavis
from lavis.demo.serve import serving
from tests.browser.conftest import visit
from tests.browser.steps import ask, set_frames, upload, write_options
from tests.videos import write_video

pytestmark = pytest.mark.vlm

OPTIONS = ["a circle", "a square", "a cross"]


def test_an_upload_is_asked_with_options(browser: Browser, tmp_path: Path) -> None:
    from tests.vlm.families import save_tiny

    clip = write_video(tmp_path / "clip.mp4", num_frames=50, width=64, height=48)
    model = lavis.load_model(model_type=str(save_tiny("smolvlm", tmp_path / "mine")), device="cpu")
    with (
        serving(model, model_name=model.config.name, port=None) as served,
        visit(browser, served.url) as page,
    ):
        upload(page, str(clip))
        set_frames(page, 8)
        write_options(page, OPTIONS)
        result = ask(page, "What is it?")
        expect(result.locator(".option .text")).to_have_text(OPTIONS)
        expect(result.locator(".strip .frame")).to_have_count(4)
        expect(result.locator(".took")).to_contain_text("4 keyframes read of 8 frames watched")
        expect(page.locator("#masthead .caveats")).to_contain_text("Mine chooses frames by being asked in words")
        wanted = model.watch(clip, num_frames=8).ask("What is it?", OPTIONS)
        assert result.get_attribute("data-answer") == str(wanted.index)

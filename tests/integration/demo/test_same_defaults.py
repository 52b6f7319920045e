"""Python, the command line, the page and its API have the same defaults, and do the same with them."""

import argparse
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import lavis
from lavis.cli.main import build_parser, main
from lavis.common import defaults
from lavis.common.errors import QuestionError, counted
from lavis.demo.layout import build_page
from lavis.demo.serve import serving
from lavis.demo.service import AnswerRequest, FindRequest
from lavis.demo.settings import Settings
from lavis.models.frame_cache import FrameCache
from lavis.models.pipeline import WatchedVideo, watch
from lavis.video import open_video
from tests.videos import write_video


def of_signature(function: Any, *names: str) -> list[Any]:
    parameters = inspect.signature(function).parameters
    return [parameters[name].default for name in names]


def of_command(command: str, *arguments: str) -> argparse.Namespace:
    args: argparse.Namespace = build_parser().parse_args([command, "clip.mp4", *arguments])
    return args


@pytest.fixture(scope="module")
def client(model: Any) -> Iterator[Client]:
    """A server of its own: Gradio has one folder of uploads in a process, that of the server which started last."""
    with serving(model, model_name="tiny", port=None, settings=Settings()) as served:
        yield Client(served.url, verbose=False)


def test_what_is_watched_is_the_same(client: Client) -> None:
    # Frames: None is `defaults.NUM_FRAMES`, unless a rate of frames is given.
    watched = [None, defaults.VIDEO_READER, None, None]
    assert of_signature(watch, "num_frames", "reader", "fps", "clip") == watched
    assert of_signature(open_video, "reader") == [defaults.VIDEO_READER]
    assert of_signature(lavis.load_model, "model_type", "device", "dtype") == [defaults.MODEL, None, None]
    for command in ("answer", "find"):
        given = of_command(command, "What?")
        assert [given.num_frames, given.reader, given.fps, given.clip] == watched
        assert [given.model, given.device, given.dtype] == [defaults.MODEL, None, None]
        assert int(given.cache_size * 2**30) == of_signature(FrameCache.__init__, "max_bytes")[0]
    assert AnswerRequest("?").num_frames == FindRequest("?").num_frames == Settings().num_frames == defaults.NUM_FRAMES
    assert of_api(client, "/answer")["num_frames"] == of_api(client, "/find")["num_frames"] == defaults.NUM_FRAMES


def test_what_is_read_is_the_same(client: Client) -> None:
    read = [None, defaults.SELECTOR, defaults.FRAME_READER, defaults.PROMPT]
    for ask in (WatchedVideo.ask, WatchedVideo.ask_all):
        assert of_signature(ask, "num_keyframes", "selector", "reader", "prompt") == read
    given = of_command("answer", "What?")
    assert [given.num_keyframes, given.selector, given.frame_reader, given.prompt] == read
    assert of_api(client, "/answer")["num_keyframes"] is AnswerRequest("?").num_keyframes is None
    assert Settings().num_keyframes == defaults.NUM_KEYFRAMES


def test_what_is_found_is_the_same(client: Client) -> None:
    names = ("threshold", "max_gap_frames", "max_moments", "prompt")
    found = [defaults.THRESHOLD, defaults.MAX_GAP_FRAMES, defaults.MAX_MOMENTS, defaults.MOMENT_PROMPT]
    assert of_signature(WatchedVideo.find, *names, "min_length_s") == [*found, defaults.MIN_LENGTH_S]
    given = of_command("find", "What?")
    assert [getattr(given, name) for name in names] + [given.min_length] == [*found, defaults.MIN_LENGTH_S]
    assert FindRequest("?").max_moments is defaults.MAX_MOMENTS
    assert of_api(client, "/find")["max_moments"] == Settings().max_moments  # as many as the page shows


@pytest.mark.parametrize(("frames", "keyframes"), [(128, 16), (8, 2)])
def test_the_page_begins_with_the_defaults_within_its_limits(frames: int, keyframes: int) -> None:
    settings = Settings(max_frames=frames, max_keyframes=keyframes)
    with gr.Blocks():
        page = build_page(model_names=["tiny"], caveats=(), examples=(), settings=settings)
    assert page.frames.value == min(defaults.NUM_FRAMES, frames)
    assert page.ask.keyframes.value == min(defaults.NUM_KEYFRAMES, keyframes)
    assert page.find.most.value == settings.max_moments


@pytest.mark.parametrize("num_frames", [1, 2, 3, 7])
def test_a_short_video_is_answered_alike_at_every_door(
    client: Client, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], num_frames: int
) -> None:
    if num_frames == 1:
        clip = tmp_path / "one.gif"
        Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(clip)
    else:
        clip = write_video(tmp_path / "short.mp4", num_frames=num_frames)
    options = ["red", "green", "blue"]
    chosen = [text for option in options for text in ("--option", option)]
    assert main(["answer", str(clip), "Which colour?", *chosen, "--device", "cpu", "--json", "--no-cache"]) == 0
    printed = json.loads(capsys.readouterr().out)
    python = model.watch(clip).ask("Which colour?", options)
    served = client.predict(handle_file(str(clip)), "Which colour?", options, api_name="/answer")
    given = (handle_file(str(clip)), "Which colour?", options, defaults.NUM_FRAMES)
    explicit = client.predict(*given, min(defaults.NUM_KEYFRAMES, num_frames), api_name="/answer")
    assert len(python.keyframes) == min(defaults.NUM_KEYFRAMES, num_frames)
    for record in (printed, served, explicit):
        assert record["answer"] == python.text
        assert [frame["frame_idx"] for frame in record["keyframes"]] == python.keyframes.frame_idx.tolist()
    if num_frames < defaults.NUM_KEYFRAMES:
        refusal = f"cannot choose {defaults.NUM_KEYFRAMES} keyframes of {counted(num_frames, 'frame')}"
        with pytest.raises(AppError, match=refusal):
            client.predict(*given, defaults.NUM_KEYFRAMES, api_name="/answer")
        with pytest.raises(QuestionError, match=refusal):
            model.watch(clip).ask("Which colour?", options, num_keyframes=defaults.NUM_KEYFRAMES)


def of_api(client: Client, name: str) -> dict[str, Any]:
    offered = client.view_api(return_format="dict", print_info=False)
    parameters = offered["named_endpoints"][name]["parameters"]
    return {one["parameter_name"]: one.get("parameter_default") for one in parameters}

"""What is done with results: dictionaries, folders, figures, notebooks, comparing."""

import base64
import copy
import json
import pickle
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lavis.common.errors import UserError
from lavis.common.types import Answer, Cost, FrameBatch, Moments, Question
from lavis.models.pipeline import WatchedVideo
from lavis.models.sevila.model import SeViLA
from tests.unit.export.results import make_answer, make_moments
from tests.videos import shown_numbers

OPTIONS = ("a <b>box</b>", "a ball")


@pytest.fixture(scope="module")
def video(tiny_model: SeViLA, clip: Path) -> WatchedVideo:
    return tiny_model.watch(clip, num_frames=10)


@pytest.fixture(scope="module")
def answer(video: WatchedVideo) -> Answer:
    return video.ask("What is <i>shown</i>?", OPTIONS, num_keyframes=3)


@pytest.fixture(scope="module")
def moments(video: WatchedVideo) -> Moments:
    return video.find("A box & a ball", threshold=None, max_gap_frames=0)


def test_a_dictionary_is_the_record_of_the_command(answer: Answer, moments: Moments, clip: Path) -> None:
    found = answer.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["question"], found["options"], found["answer"]) == ("What is <i>shown</i>?", [*OPTIONS], answer.text)
    assert [frame["frame_idx"] for frame in found["keyframes"]] == answer.keyframes.frame_idx.tolist()
    assert found["video"] == {"path": str(clip), "duration_s": 2.0, "fps": 25.0, "num_frames": 50}
    assert found["model"] == "small"
    assert list(found["timings_s"]) == ["decode", "watch", "localize", "answer"]
    assert moments.to_dict()["query"] == "A box & a ball"
    assert len(moments.to_dict()["moments"]) == len(moments.moments)


def test_a_folder_holds_what_the_command_saves(answer: Answer, moments: Moments, tmp_path: Path) -> None:
    answer.save(tmp_path / "answer")
    saved = sorted(file.name for file in (tmp_path / "answer").iterdir())
    assert saved[0] == "answer.json"
    assert saved[-1] == "scores.png"
    assert [re.findall(r"frame(\d+)\.jpg", name) for name in saved[1:-1]] == [
        [str(index)] for index in answer.keyframes.frame_idx
    ]
    assert json.loads((tmp_path / "answer" / "answer.json").read_text()) == answer.to_dict()
    moments.save(str(tmp_path / "moments"))
    assert {file.name for file in (tmp_path / "moments").iterdir()} == {"moments.json", "moments.vtt", "scores.png"}
    with pytest.raises(UserError, match="already holds files"):
        moments.save(tmp_path / "moments")
    moments.save(tmp_path / "moments", force=True)


def test_a_figure_is_one_of_matplotlib(answer: Answer, moments: Moments, tmp_path: Path) -> None:
    for number, result in enumerate((answer, moments)):
        figure = result.figure()
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{number}.png")
        result.save(tmp_path / str(number))
        with Image.open(tmp_path / f"{number}.png") as drawn, Image.open(tmp_path / str(number) / "scores.png") as kept:
            assert drawn.size == kept.size


def test_a_notebook_shows_pictures_and_curve_with_escaped_text(answer: Answer, moments: Moments) -> None:
    html = answer._repr_html_()
    assert html is not None
    assert "What is &lt;i&gt;shown&lt;/i&gt;?" in html
    assert "a &lt;b&gt;box&lt;/b&gt;" in html
    assert "<b>box" not in html
    pictures = [
        np.asarray(Image.open(BytesIO(base64.b64decode(data)))) for data in re.findall(r"base64,([^\"]+)", html)
    ]
    assert shown_numbers(np.stack(pictures)) == answer.keyframes.frame_idx.tolist()
    points = re.findall(r'<polyline points="([^"]+)"', html)
    assert [len(one.split()) for one in points] == [10]
    assert html.count("<line ") == 3
    assert "A box &amp; a ball" in (moments._repr_html_() or "")


def test_what_a_notebook_shows_is_bounded(answer: Answer) -> None:
    positions = np.arange(50_000)
    long = replace(
        answer,
        question=Question("<" * 100_000, tuple("<" * 100_000 + letter for letter in "ab")),
        text="x" * 100_000,
        caveats=("c" * 100_000,) * 100,
        keyframes=replace(
            answer.keyframes,
            positions=positions,
            frame_idx=positions % 50,
            times_s=positions / 25,
            all_times_s=positions / 25,
            all_scores=np.sin(positions),
        ),
    )
    html = long._repr_html_()
    assert html is not None
    assert html.count("<img ") == 8
    assert "and 49992 more" in html
    assert len(html) < 200_000


def test_a_notebook_says_that_the_video_is_gone(tiny_model: SeViLA, clip: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(clip.read_bytes())
    answer = tiny_model.watch(gone, num_frames=4).ask("Why?")
    gone.unlink()
    html = answer._repr_html_() or ""
    assert f"no pictures: {gone}: no such file" in html
    assert "<img " not in html


def test_a_result_that_no_video_gave_says_so() -> None:
    for result in (make_answer(), make_moments()):
        assert result._repr_html_() is None
        for use in (result.to_dict, result.figure, lambda result=result: result.save("nowhere")):
            with pytest.raises(UserError, match="was not made by a video's ask or find"):
                use()


def test_results_are_shown_in_a_line(video: WatchedVideo, clip: Path) -> None:
    assert repr(make_answer()) == "Answer('green', option 1 of 2, 2 keyframes at 1.5, 3.5 s)"
    assert repr(make_answer(options=(), option_scores=())) == "Answer('a green thing', 2 keyframes at 1.5, 3.5 s)"
    assert repr(make_answer().keyframes) == "Keyframes(2 of 4 frames, at 1.5, 3.5 s)"
    assert repr(make_moments((1.0, 2.5, 2.0))) == "Moments('a < b --> c', 1 moment: 1 to 2.5 s)"
    assert repr(make_moments()) == "Moments('a < b --> c', 0 moments)"
    assert repr(video) == f"WatchedVideo({str(clip)!r}, 2 s, 10 of 10 frames seen)"
    batch = FrameBatch(np.zeros((9, 4, 6, 3), np.uint8), np.arange(9), np.arange(9) / 2)
    assert repr(batch) == "FrameBatch(9 frames of 6x4, at 0, 0.5, 1, 1.5, 2, 2.5, ... s)"
    assert len(repr(replace(make_answer(), text="x" * 9999))) < 200


def test_results_are_compared_by_what_was_found_and_not_by_what_it_took(video: WatchedVideo, answer: Answer) -> None:
    again = video.ask("What is <i>shown</i>?", OPTIONS, num_keyframes=3)
    assert again == replace(again, cost=Cost(1, 2, 3, 4.0), origin=None)
    assert make_answer() == make_answer()
    assert make_answer(scores=(float("nan"), 2.0, 0.5, 1.0)) == make_answer(scores=(float("nan"), 2.0, 0.5, 1.0))
    assert make_moments() == make_moments()
    for other in (
        make_answer(scores=(-1.0, 2.0, 0.5, 9.0)),
        make_answer(option_scores=(0.0, 3.0)),
        make_answer(options=()),
        make_answer(caveats=("other",)),
        make_moments(),
        None,
    ):
        assert make_answer() != other
    assert make_moments() != make_moments((1.0, 2.0, 3.0))
    assert answer in [make_answer(), answer]


def test_results_can_be_kept(answer: Answer, moments: Moments) -> None:
    for result in (answer, moments):
        for kept in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
            assert kept == result
            assert kept.to_dict() == result.to_dict()

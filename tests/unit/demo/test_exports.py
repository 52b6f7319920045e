"""Files to take away."""

import json
import zipfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lavis.demo import exports
from lavis.demo.service import AnswerResult, FindResult, PicturedAnswer
from lavis.export import jpeg
from tests.unit.demo.conftest import make_answer
from tests.videos import numbered_picture, shown_numbers

PICTURES = tuple(jpeg(numbered_picture(number, width=96, height=64)) for number in (10, 20))


@pytest.fixture
def files(answered: AnswerResult) -> exports.Files:
    return exports.answer_files(replace(answered, chosen=PicturedAnswer(make_answer(), PICTURES)))


def test_json_is_the_record(answered: AnswerResult, files: exports.Files) -> None:
    name, content = files["json"]
    assert name == "where_is_it.json"
    assert json.loads(content) == json.loads(json.dumps(answered.record))


def test_csv_has_a_row_for_each_watched_frame(files: exports.Files) -> None:
    name, content = files["csv"]
    assert name == "where_is_it.csv"
    assert content.decode().splitlines() == [
        "frame_idx,time_s,score,keyframe",
        "0,1.000,0.500000,0",
        "10,2.000,3.000000,1",
        "20,3.000,2.000000,1",
        "30,4.000,-1.000000,0",
    ]


def test_the_zip_holds_the_keyframes_as_they_are_in_the_video(files: exports.Files) -> None:
    name, content = files["zip"]
    assert name == "where_is_it.zip"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = archive.namelist()
        pictures = np.stack([np.asarray(Image.open(BytesIO(archive.read(file)))) for file in names])
    assert names == ["keyframe_1_00m02.00s_frame10.jpg", "keyframe_2_00m03.00s_frame20.jpg"]
    assert pictures.shape == (2, 64, 96, 3)
    assert shown_numbers(pictures) == [10, 20]


def test_the_picture_is_a_png_as_wide_as_a_page(files: exports.Files) -> None:
    name, content = files["png"]
    picture = Image.open(BytesIO(content))
    assert (name, picture.format, picture.width) == ("where_is_it.png", "PNG", 1280)


def test_each_button_has_its_file(files: exports.Files, found: FindResult) -> None:
    assert files.keys() == exports.ANSWER_FILES.keys()
    assert exports.moment_files(replace(found, pictures=PICTURES)).keys() == exports.MOMENT_FILES.keys()


def test_moments_as_json_csv_chapters_and_picture(found: FindResult) -> None:
    files = dict(exports.moment_files(replace(found, pictures=PICTURES)).values())
    assert list(files) == ["a_ring.json", "a_ring.csv", "a_ring.vtt", "a_ring.png"]
    assert [moment["start_s"] for moment in json.loads(files["a_ring.json"])["moments"]] == [2.5, 0.0]
    assert files["a_ring.csv"].decode() == (
        "rank,start_s,end_s,score\n1,2.500,3.500,2.000000\n2,0.000,1.500,0.500000\n"
    )
    assert files["a_ring.vtt"].decode().splitlines()[2] == "00:00:00.000 --> 00:00:01.500"
    assert Image.open(BytesIO(files["a_ring.png"])).width == 1280


@pytest.mark.parametrize("question", ["???", "彩色"])
def test_a_question_without_letters_still_names_a_file(answered: AnswerResult, question: str) -> None:
    answer = make_answer()
    asked = replace(answer, question=replace(answer.question, text=question))
    assert exports.answer_files(replace(answered, chosen=PicturedAnswer(asked, PICTURES)))["csv"][0] == "result.csv"

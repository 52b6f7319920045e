"""The order of a folder's frames, from names as tools and people write them."""

import random

import pytest

from lavis.common.errors import VideoError
from lavis.video.frames import order_frames


def ordered(*names):
    """Order names that come in any order, as a file system lists them."""
    shuffled = list(names)
    random.Random(0).shuffle(shuffled)
    return order_frames(shuffled, place="folder")


@pytest.mark.parametrize(
    "names",
    [
        ["1.jpg", "2.jpg", "10.jpg"],
        ["img-2.jpg", "img-10.jpg", "img-11.jpg"],
        ["7.jpg", "08.jpg", "9.jpg", "0010.jpg"],
        ["clip_1_0003.png", "clip_1_0020.png", "clip_2_0001.png", "clip_10_0001.png"],
        ["frame_0.25.jpg", "frame_0.5.jpg", "frame_0.75.jpg", "frame_1.0.jpg", "frame_10.0.jpg"],
        ["frame_0.125.png", "frame_0.5.png", "frame_1.png", "frame_1.5.png"],
        ["t=9.50s.jpg", "t=10.00s.jpg", "t=10.05s.jpg"],
        ["shot1.8.jpg", "shot1.9.jpg", "shot1.10.jpg", "shot1.11.jpg"],
        ["shot.0099.jpg", "shot.0100.jpg", "shot.0101.jpg"],
        ["shot2.0099.jpg", "shot2.0100.jpg", "shot10.0001.jpg"],
        ["at 9.59.58.png", "at 10.00.01.png", "at 10.00.10.png"],
        ["00-00-59.900.jpg", "00-01-00.000.jpg", "01-00-00.000.jpg"],
        ["keyframe_1_00m05.27s_frame79.jpg", "keyframe_2_00m31.00s_frame124.jpg"],
        ["IMG_0009.JPG", "img_0010.jpg", "Img_0011.jpeg"],
        ["start.jpg", "then.jpg"],
    ],
)
def test_frames_are_in_the_order_of_their_numbers(names):
    order = ordered(*names)
    assert order.names == names
    assert [warning for warning in order.warnings if "passed over" in warning] == []


@pytest.mark.parametrize(
    ("other", "left_out"),
    [
        ("._00001.jpg", 0),
        (".00001.jpg", 0),
        ("Thumbs.db", 0),
        ("notes.txt", 0),
        ("00001.png", 1),
        ("1.jpg", 1),
        ("0001.JPG", 1),
        ("cover.jpg", 1),
        ("00003.heic", 1),
    ],
)
def test_a_picture_beside_the_frames_is_none_of_them_and_counted(other, left_out):
    frames = [f"{number:05d}.jpg" for number in range(4)]
    order = ordered(*frames, other)
    assert order.names == frames
    assert len(order.warnings) == left_out
    assert all(f": {left_out}, such as {other!r}" in warning for warning in order.warnings)


def test_of_two_pictures_of_a_number_the_one_named_like_most_is_taken_whichever_sorts_first():
    assert ordered("1.png", "2.png", "3.png", "2.jpg").names == ["1.png", "2.png", "3.png"]
    assert ordered("0001.png", "0002.png", "0003.png", "3.png").names == ["0001.png", "0002.png", "0003.png"]
    whole = ordered(*(f"{number:03d}.{ending}" for number in range(5) for ending in ("jpg", "png")))
    assert whole.names == [f"{number:03d}.jpg" for number in range(5)]
    assert whole.warnings == ["pictures passed over, since another one has their number: 5, such as '000.png'"]


@pytest.mark.parametrize(
    "names",
    [
        ["left_1.jpg", "right_1.jpg", "left_2.jpg", "right_2.jpg"],
        ["00001.jpg", "00002.jpg", "00002_mask.png"],
        ["00001.jpg", "00002.jpg", "00002 (1).jpg"],
        ["59s.jpg", "1m00s.jpg"],
    ],
)
def test_names_that_say_no_single_order_are_refused(names):
    with pytest.raises(VideoError, match=r"^folder: the order of its pictures is not clear from names such as '"):
        ordered(*names)


@pytest.mark.parametrize(
    ("numbers", "places", "missing"),
    [
        (["0", "1", "2", "3"], [0, 1, 2, 3], 0),
        (["5", "6", "9", "10"], [0, 1, 4, 5], 2),
        (["0", "10", "20", "40", "50"], [0, 1, 2, 4, 5], 1),
        (["0.0", "0.5", "1.5", "2.0"], [0, 1, 3, 4], 1),
        (["1000033", "1000066", "1000100", "1000167"], [0, 1, 2, 4], 1),
        (["3", "90"], [0, 1], 0),
    ],
)
def test_missing_numbers_keep_their_place_and_are_counted(numbers, places, missing):
    order = ordered(*(f"frame_{number}.jpg" for number in numbers))
    assert order.places.tolist() == places
    said = [f"frames whose numbers are missing, so that times leave room for them: {missing}"] if missing else []
    assert order.warnings == said


def test_irregular_numbers_are_counted_and_said_so():
    order = ordered("4.jpg", "7.jpg", "12.jpg", "30.jpg")
    assert order.places.tolist() == [0, 1, 2, 3]
    assert order.warnings == ["the numbers of the frames are irregular, so that times are counted from their order"]


def test_a_folder_without_pictures_is_refused():
    with pytest.raises(VideoError, match=r"^folder: holds no images \(\.bmp, \.jfif, \.jpeg, \.jpg, \.png"):
        ordered("notes.txt", "._1.jpg")

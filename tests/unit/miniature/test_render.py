"""Pictures and files of the synthetic world."""

from pathlib import Path

import numpy as np
import pytest

from lavis.video import open_video
from sevila_data.miniature.render import DAY, SIDE, Light, draw_frame, draw_mask, draw_video, thing_at, write_clip
from sevila_data.miniature.world import PLACES, SHAPES, Scene, make_video


def test_the_thing_has_its_colour_where_it_is() -> None:
    scene = Scene("square", "red", "sea", "still", look=5)
    x, y, _ = thing_at(scene, 0.0)
    assert draw_frame(scene, 0.0)[round(y), round(x)].tolist() == [220, 30, 30]


def test_a_thing_that_moves_left_moves_left_and_leaves_paler_copies_right_of_it() -> None:
    scene = Scene("circle", "black", "snow", "left", look=3)
    places = [thing_at(scene, 0.25 * step)[0] for step in range(2)]
    assert places[1] < places[0] or places[1] > SIDE / 2  # or it has come in again from the right
    moving, still = (draw_frame(Scene("circle", "black", "snow", way, look=3), 0.0) for way in ("left", "still"))
    x, y, radius = thing_at(scene, 0.0)
    right = slice(round(x + radius), round(x + radius) + 6)
    assert moving[round(y), right].mean() < still[round(y), right].mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_a_mask_of_its_own(shape: str) -> None:
    masks = {other: np.asarray(draw_mask(other, (32, 32), 12.0)) for other in SHAPES}
    assert all((masks[shape] != mask).any() for other, mask in masks.items() if other != shape)


def test_places_look_different() -> None:
    pictures = [draw_frame(Scene("star", "red", place, "still", look=1), 0.0).astype(int) for place in PLACES]
    for number, picture in enumerate(pictures):
        assert all(np.abs(picture - other).mean() > 10 for other in pictures[:number])


def test_a_clip_reads_back_as_it_was_drawn(tmp_path: Path) -> None:
    video = make_video("v", seed=[1], fps=4)
    write_clip(tmp_path / "v.mp4", video)
    drawn = draw_video(video)
    with open_video(tmp_path / "v.mp4") as reader:
        assert reader.info.num_frames == len(drawn)
        assert reader.info.duration_s == pytest.approx(video.duration_s)
        read = reader.read(np.arange(0, len(drawn), 10), size=SIDE).frames
    assert np.abs(read.astype(int) - np.stack(drawn)[::10]).mean() < 6


def test_light_turns_hues_and_leaves_greys() -> None:
    picture = np.array([[[220, 30, 30], [128, 128, 128], [255, 255, 255]]], np.uint8)
    assert (DAY.fall_on(picture) == picture).all()
    turned = Light(hue_degrees=120.0).fall_on(picture)[0]
    assert turned[0].argmax() != 0
    assert np.abs(turned[1:].astype(int) - picture[0, 1:]).max() <= 1
    faint = Light(contrast=0.5).fall_on(picture)[0]
    assert faint[0].tolist() == [174, 79, 79]

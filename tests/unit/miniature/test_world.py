"""The synthetic world's videos."""

import pytest

from sevila_data.miniature.world import MAX_SCENES, MIN_SCENES, NAMING, Scene, make_video


def test_the_same_seed_gives_the_same_video() -> None:
    assert make_video("a", seed=[3, 1], fps=4) == make_video("a", seed=[3, 1], fps=4)


def test_another_seed_gives_another_video() -> None:
    assert make_video("a", seed=[3, 1], fps=4) != make_video("a", seed=[3, 2], fps=4)


@pytest.mark.parametrize("seed", range(5))
def test_scenes_follow_one_another_and_change_between_frames(seed: int) -> None:
    scenes = make_video("a", seed=[seed], fps=4).scenes
    assert MIN_SCENES <= len(scenes) <= MAX_SCENES
    assert [scene.start_s for scene in scenes] == [0.0, *(scene.end_s for scene in scenes[:-1])]
    assert all((4 * scene.end_s).is_integer() for scene in scenes)


@pytest.mark.parametrize("attribute", NAMING)
def test_an_attribute_that_names_a_scene_occurs_once(attribute: str) -> None:
    for seed in range(20):
        values = [scene.value(attribute) for scene in make_video("a", seed=[seed], fps=4).scenes]
        assert len(set(values)) == len(values)


def test_a_window_leaves_out_the_next_scenes_first_frame() -> None:
    window = Scene("star", "red", "sea", "up", start_s=4.0, end_s=8.0).window
    assert window.start_s == 4.0
    assert 7.75 < window.end_s < 8.0

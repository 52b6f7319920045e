import contextlib
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavis.common.errors import ConfigError, UserError, VideoError
from lavis.common.types import Span
from lavis.processors.sampling import random_indices, uniform_indices

GOLDEN = json.loads((Path(__file__).parent / "golden" / "frame_indices.json").read_text())


def span(times):
    return None if times is None else Span(float(times[0]), float(times[1]))


def case_name(case):
    return f"{case['num_frames']}-of-{case['video_frames']}-at-{case['fps']:g}-clip-{case['clip']}"


@pytest.mark.parametrize("case", GOLDEN["uniform"], ids=case_name)
def test_uniform_indices_equal_the_published_ones(case):
    indices = uniform_indices(
        case["num_frames"], video_frames=case["video_frames"], fps=case["fps"], clip=span(case["clip"])
    )
    assert indices.tolist() == case["indices"]


@pytest.mark.parametrize("case", GOLDEN["random"], ids=case_name)
def test_random_indices_equal_the_published_ones_with_the_same_seed(case):
    indices = random_indices(
        case["num_frames"],
        video_frames=case["video_frames"],
        fps=case["fps"],
        clip=span(case["clip"]),
        rng=random.Random(case["seed"]),
    )
    assert indices.tolist() == case["indices"]


@pytest.mark.parametrize("case", GOLDEN["unsound"], ids=case_name)
def test_where_the_published_code_fails_the_clip_is_refused(case):
    with pytest.raises(VideoError, match=r"the clip from .* s (ends before it starts|lies outside|has a time that is)"):
        uniform_indices(case["num_frames"], video_frames=case["video_frames"], fps=case["fps"], clip=span(case["clip"]))


@pytest.mark.parametrize("case", GOLDEN["rounded_up"], ids=case_name)
def test_a_clip_that_starts_less_than_a_frame_after_the_end_gives_the_last_frame(case):
    indices = uniform_indices(
        case["num_frames"], video_frames=case["video_frames"], fps=case["fps"], clip=span(case["clip"])
    )
    assert indices.tolist() == [case["video_frames"] - 1] * case["num_frames"]


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Span(12.5, 5), "the clip from 12.5 to 5 s ends before it starts"),
        (Span(40, 50), "the clip from 40 to 50 s lies outside the video, which lasts 10.00 s"),
        (Span(-3, -2), "the clip from -3 to -2 s lies outside the video, which lasts 10.00 s"),
        (Span(math.nan, 5), "the clip from nan to 5 s has a time that is not a number"),
        (Span(0, math.nan), "the clip from 0 to nan s has a time that is not a number"),
        (Span(math.inf, math.inf), "the clip from inf to inf s lies outside the video, which lasts 10.00 s"),
    ],
)
def test_an_impossible_clip_is_an_error_that_names_it(clip, message):
    with pytest.raises(VideoError) as raised:
        uniform_indices(4, video_frames=250, fps=25, clip=clip)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (Span(-3, 4), [12, 37, 62, 87]),
        (Span(8, 1000), [206, 218, 231, 243]),
        (Span(-math.inf, math.inf), [31, 93, 156, 218]),
        (Span(3, 3), [75, 75, 75, 75]),
        (Span(10, 10), [249, 249, 249, 249]),
        (Span(10.03, 12), [249, 249, 249, 249]),
        (Span(-1, -0.01), [0, 0, 0, 0]),
    ],
)
def test_a_clip_is_cut_to_the_video_and_touching_it_is_enough(clip, expected):
    assert uniform_indices(4, video_frames=250, fps=25, clip=clip).tolist() == expected


def test_asking_for_more_frames_than_there_are_gives_each_once():
    assert uniform_indices(32, video_frames=5, fps=25).tolist() == [0, 1, 2, 3, 4]
    assert random_indices(32, video_frames=5, fps=25, rng=random.Random(7)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("num_frames", "video_frames", "fps"), [(0, 10, 25), (4, 0, 25), (4, 10, 0), (4, 10, math.nan)]
)
def test_impossible_numbers_are_refused(num_frames, video_frames, fps):
    with pytest.raises((ConfigError, VideoError), match="cannot sample"):
        uniform_indices(num_frames, video_frames=video_frames, fps=fps)


def test_an_equal_seed_gives_equal_frames_and_another_gives_others():
    def drawn(seed):
        return random_indices(8, video_frames=1000, fps=25, rng=random.Random(seed)).tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


times = st.floats(allow_nan=True, allow_infinity=True)


@given(
    num_frames=st.integers(1, 80),
    video_frames=st.integers(1, 5000),
    fps=st.floats(0.01, 240),
    clip=st.none() | st.builds(Span, times, times) | st.builds(Span, st.floats(-5, 50), st.floats(-5, 50)),
    seed=st.integers(0, 9),
)
def test_any_clip_gives_frames_of_the_video_in_order_or_a_user_error(num_frames, video_frames, fps, clip, seed):
    arguments = {"video_frames": video_frames, "fps": fps, "clip": clip}
    with contextlib.suppress(UserError):
        for indices in (
            uniform_indices(num_frames, **arguments).tolist(),
            random_indices(num_frames, **arguments, rng=random.Random(seed)).tolist(),
        ):
            assert len(indices) == min(num_frames, video_frames)
            assert indices == sorted(indices)
            assert indices[0] >= 0
            assert indices[-1] < video_frames

import contextlib
import json
import math
import operator
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavis.common.errors import ConfigError, UserError, VideoError
from lavis.common.types import Span
from lavis.video.base import nearest_positions, random_indices, rate_indices, uniform_indices, watched_indices

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


QUARTERS = np.arange(140) / 4  # 35 s at 4 frames a second


def watched(num_frames, clip, *, times_s=QUARTERS, duration_s=35.0):
    indices, part = watched_indices(num_frames, times_s=times_s, duration_s=duration_s, clip=span(clip))
    return indices.tolist(), part and (part.start_s, part.end_s)


@pytest.mark.parametrize(
    ("clip", "frames", "part"),
    [
        ((34, 35), [136, 137, 138, 139], (34, 35)),
        ((34, 99), [136, 137, 138, 139], (34, 35)),
        ((-2, 0.5), [0, 1], (0, 0.5)),
        ((1.1, 1.6), [4, 5, 6], (1.1, 1.6)),
        ((1.3, 1.4), [5], (1.3, 1.4)),
        ((2, 2), [8], (2, 2)),
        ((0, 0), [0], (0, 0)),
        ((34.9, math.inf), [139], (34.9, 35)),
    ],
)
def test_a_short_clip_gives_each_frame_on_the_screen_once(clip, frames, part):
    assert watched(32, clip) == (frames, part)


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_clip_of_more_frames_than_wanted_gives_the_middles_of_its_segments(num_frames):
    expected = {1: [138], 2: [137, 139], 3: [136, 137, 139]}[num_frames]
    assert watched(num_frames, (34, 35))[0] == expected
    assert watched(32, (0, 35))[0] == uniform_indices(32, video_frames=140, fps=4, clip=Span(0, 35)).tolist()


# Times within a frame, counted in frames: where one begins, the published product of time and rate may be rounded down
# to the frame before.
FRAME_COUNTS = st.builds(operator.add, st.integers(0, 600), st.floats(0.001, 0.999))


@given(
    num_frames=st.integers(1, 40),
    video_frames=st.integers(1, 500),
    fps=st.sampled_from([3.0, 4.0, 24000 / 1001, 25.0, 29.97, 60.0]),
    ends=st.tuples(FRAME_COUNTS, FRAME_COUNTS),
)
def test_a_clip_is_sampled_as_published_wherever_that_names_no_frame_twice(num_frames, video_frames, fps, ends):
    times_s, clip = np.arange(video_frames) / fps, Span(*(count / fps for count in ends))
    try:
        chosen, _ = watched_indices(num_frames, times_s=times_s, duration_s=video_frames / fps, clip=clip)
    except UserError:
        return
    published = uniform_indices(num_frames, video_frames=video_frames, fps=fps, clip=clip)
    if len(published) == num_frames and (np.diff(published) > 0).all():
        assert chosen.tolist() == published.tolist()


def test_a_whole_video_is_sampled_as_published():
    assert watched(32, None) == (uniform_indices(32, video_frames=140, fps=4).tolist(), None)
    assert watched(999, None) == (list(range(140)), None)


def test_a_clip_goes_by_the_times_of_frames_and_not_by_their_number():
    times_s = np.array([0.0, 0.5, 1.0, 9.0, 9.5])  # nothing between 1 and 9 s
    for clip, frames in {(0.5, 1): [1], (4, 6): [2], (8, 9.25): [2, 3], (9, 10): [3, 4]}.items():
        assert watched(8, clip, times_s=times_s, duration_s=10.0)[0] == frames


def test_ticks_that_are_not_exact_in_seconds_add_no_frame_at_either_end():
    assert watched(32, (1.7, 2.3), times_s=np.arange(100) / 10 + 1e-9, duration_s=10.0)[0] == list(range(17, 23))
    assert watched(32, (1.7, 2.3), times_s=np.arange(100) / 10 - 1e-9, duration_s=10.0)[0] == list(range(17, 23))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ((35, 40), "the clip from 35 to 40 s lies outside the video, which lasts 35.00 s"),
        ((-3, 0), "the clip from -3 to 0 s lies outside the video, which lasts 35.00 s"),
        ((12.5, 5), "the clip from 12.5 to 5 s ends before it starts"),
        ((math.nan, 5), "the clip from nan to 5 s has a time that is not a number"),
    ],
)
def test_a_clip_that_shows_nothing_is_refused(clip, message):
    with pytest.raises(VideoError) as raised:
        watched(4, clip)
    assert str(raised.value) == message


@given(
    num_frames=st.integers(1, 80),
    steps=st.lists(st.floats(0.001, 5), min_size=1, max_size=200),
    clip=st.builds(Span, st.floats(-5, 900), st.floats(-5, 900)),
)
def test_any_clip_gives_distinct_frames_in_order_or_a_user_error(num_frames, steps, clip):
    times_s = np.cumsum(steps) - steps[0]
    with contextlib.suppress(UserError):
        indices, part = watched_indices(num_frames, times_s=times_s, duration_s=times_s[-1] + 1, clip=clip)
        assert 1 <= len(indices) <= num_frames
        assert (np.diff(indices) > 0).all()
        assert 0 <= part.start_s <= part.end_s <= times_s[-1] + 1
        assert times_s[indices[-1]] <= max(part.end_s + 1e-6, times_s[0])


FOUR_A_SECOND = np.arange(140) / 4
CHANGING = np.array([0, 0.1, 0.2, 5, 5.1, 10])


@pytest.mark.parametrize(
    ("rate", "times_s", "duration_s", "clip", "frames"),
    [
        pytest.param(1, FOUR_A_SECOND, 35, None, list(range(0, 140, 4)), id="one a second"),
        pytest.param(2, FOUR_A_SECOND, 35, None, list(range(0, 140, 2)), id="two a second"),
        pytest.param(4, FOUR_A_SECOND, 35, None, list(range(140)), id="all"),
        pytest.param(1e9, FOUR_A_SECOND, 35, None, list(range(140)), id="no frame twice"),
        pytest.param(0.1, FOUR_A_SECOND, 35, None, [0, 40, 80, 120], id="one in ten seconds"),
        pytest.param(0.001, FOUR_A_SECOND, 35, None, [0], id="at least one"),
        pytest.param(
            1.5, FOUR_A_SECOND[:12], 3, None, [0, 2, 5, 8, 10], id="what is on the screen at 0, 0.67, 1.33, 2"
        ),
        pytest.param(1, FOUR_A_SECOND, 35, (34, 35), [136], id="a clip"),
        pytest.param(1, FOUR_A_SECOND, 35, (33.3, 99), [133, 137], id="a clip beyond the end"),
        pytest.param(4, FOUR_A_SECOND, 35, (1.1, 1.6), [4, 5], id="a clip between frames"),
        pytest.param(1, FOUR_A_SECOND, 35, (2, 2), [8], id="a clip of no length"),
        pytest.param(1, CHANGING, 11, None, [0, 2, 3, 4, 5], id="frames that stay for seconds, and some for less"),
        pytest.param(1, np.array([0.5, 1.0]), 1.5, None, [0, 1], id="the first frame comes late"),
        pytest.param(1, np.arange(90) * 1001 / 30000, 3.003, None, [0, 29, 59, 89], id="29.97 a second"),
    ],
)
def test_so_many_frames_a_second(rate, times_s, duration_s, clip, frames):
    indices, part = rate_indices(rate, times_s=times_s, duration_s=duration_s, clip=span(clip))
    assert indices.tolist() == frames
    assert (part is None) == (clip is None)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match="frames a second; give a number above 0"):
        rate_indices(rate, times_s=FOUR_A_SECOND, duration_s=35, clip=None)


def test_a_clip_outside_has_no_rate():
    with pytest.raises(VideoError, match="outside the video"):
        rate_indices(1, times_s=FOUR_A_SECOND, duration_s=35, clip=Span(40, 41))


@pytest.mark.parametrize("seed", range(20))
def test_the_rate_is_that_of_asking_for_each_time(seed):
    rng = np.random.default_rng(seed)
    times_s = np.cumsum(rng.uniform(0.01, 0.8, size=30)) - 0.01
    duration_s, rate = times_s[-1] + 0.3, rng.uniform(0.3, 6)
    clip = Span(*np.sort(rng.uniform(0, duration_s, size=2))) if seed % 2 else None
    start_s, end_s = (clip.start_s, clip.end_s) if clip else (0.0, duration_s)
    wanted, time_s = [], start_s
    while not wanted or time_s < end_s - 1e-6:
        shown = [index for index, shown_s in enumerate(times_s) if shown_s <= time_s + 1e-6]
        wanted.append(shown[-1] if shown else 0)
        time_s = start_s + len(wanted) / rate
    indices, _ = rate_indices(rate, times_s=times_s, duration_s=duration_s, clip=clip)
    assert indices.tolist() == sorted(set(wanted))


@pytest.mark.parametrize(
    ("known", "asked", "nearest"),
    [
        ([0, 1, 4], [0.4, 0.5, 2.4, 2.5], [0, 1, 1, 2]),  # halfway it is the later one
        ([0, 1, 4], [-3, 9], [0, 2]),
        ([2], [0, 7], [0, 0]),
        ([0, 1], [], []),
    ],
)
def test_the_nearest_of_what_is_known(known, asked, nearest):
    found = nearest_positions(np.array(known, dtype=float), np.array(asked, dtype=float))
    assert found.tolist() == nearest

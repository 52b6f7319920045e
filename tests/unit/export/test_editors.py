"""Moments as files of players and editors."""

import pytest

from lavis.export.editors import edl_rate, moments_csv, moments_edl, moments_srt, moments_vtt
from tests.unit.export.results import make_moments

FOUND = make_moments((61.5, 3600.0, 2.0), (0.0, 1.25, 0.5))


def test_subtitles_are_in_time_order_with_ranks_and_escaped() -> None:
    assert moments_vtt(FOUND) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.250\na &lt; b --&gt; c (#2, score 0.50)\n\n"
        "00:01:01.500 --> 01:00:00.000\na &lt; b --&gt; c (#1, score 2.00)\n"
    )


def test_subrip_is_numbered_in_time_order() -> None:
    assert moments_srt(FOUND) == (
        "1\n00:00:00,000 --> 00:00:01,250\na < b -> c (#2, score 0.50)\n\n"
        "2\n00:01:01,500 --> 01:00:00,000\na < b -> c (#1, score 2.00)\n"
    )
    assert moments_srt() == ""


def test_a_table_has_a_row_per_moment_the_best_first() -> None:
    assert moments_csv(FOUND) == (
        "query,rank,start_s,end_s,score,start,end\n"
        "a < b --> c,1,61.500,3600.000,2.0000,00:01:01.500,01:00:00.000\n"
        "a < b --> c,2,0.000,1.250,0.5000,00:00:00.000,00:00:01.250\n"
    )


def test_an_edit_decision_list_plays_the_moments_in_time_order() -> None:
    assert moments_edl(FOUND, name="a.mp4", fps=25, has_sound=True).splitlines() == [
        "TITLE: a.mp4",
        "FCM: NON-DROP FRAME",
        "",
        "* FRAME RATE: 25",
        "001  AX       B     C        00:00:00:00 00:00:01:06 00:00:00:00 00:00:01:06",
        "* FROM CLIP NAME: a.mp4",
        "* COMMENT: a < b --> c (#2, score 0.50)",
        "002  AX       B     C        00:01:01:13 01:00:00:00 00:00:01:06 00:58:59:18",
        "* FROM CLIP NAME: a.mp4",
        "* COMMENT: a < b --> c (#1, score 2.00)",
    ]


def test_timecode_counts_the_frames_of_the_video() -> None:
    # After an hour of 29.97 frames a second, timecode that counts 30 is 3.6 s behind the clock.
    *_, event, _, _ = moments_edl(
        make_moments((3600.0, 3601.0, 1)), name="a", fps=30000 / 1001, has_sound=False
    ).splitlines()
    assert event == "001  AX       V     C        00:59:56:12 00:59:57:12 00:00:00:00 00:00:01:00"


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        *[(25, 25), (24, 24), (30, 30), (50, 50), (60, 60), (48, 48)],
        *[(23.976, 24000 / 1001), (29.97, 30000 / 1001), (59.94, 60000 / 1001)],
        *[(4, 24), (12.5, 25), (15, 30), (14.985, 30000 / 1001), (100, 25), (120, 24), (17.3, 30)],
    ],
)
def test_timecode_counts_a_rate_that_editors_have(fps: float, rate: float) -> None:
    assert edl_rate(fps) == rate

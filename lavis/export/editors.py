"""Moments as files of other programs: subtitles (WebVTT, SubRip), a table (CSV), and an edit decision list (CMX 3600).

Each file takes the moments of several queries about one video.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from html import escape

from lavis.common.types import Moment, Moments

MOST_EVENTS = 999
"""Of an edit decision list, whose numbers have three digits."""

# Frames a second that editors count timecode in.
_RATES = (24.0, 25.0, 30.0, 24000 / 1001, 30000 / 1001, 50.0, 60.0, 60000 / 1001, 48.0)
_SAME = 4e-4  # 24 and 23.976 differ by a thousandth
_OTHER_RATE = 30.0


def moments_vtt(*found: Moments) -> str:
    """Return WebVTT: one cue per moment in time order, with its rank, score and the query; a note names the clip."""
    # A cue ends at an empty line, and "-->" would start another one: escaping takes the ">".
    cues = [
        f"{_clock(moment.start_s)} --> {_clock(moment.end_s)}\n{escape(_label(query, rank, moment), quote=False)}\n"
        for query, rank, moment in _in_time_order(found)
    ]
    notes = [f"NOTE only {clip} was searched\n" for clip in dict.fromkeys(one.clip for one in found if one.clip)]
    return "\n".join(["WEBVTT\n", *notes, *cues])


def moments_srt(*found: Moments) -> str:
    """Return SubRip: one numbered subtitle per moment in time order."""
    return "\n".join(
        f"{number}\n{_clock(moment.start_s, ',')} --> {_clock(moment.end_s, ',')}\n"
        f"{_label(query, rank, moment).replace('-->', '->')}\n"
        for number, (query, rank, moment) in enumerate(_in_time_order(found), start=1)
    )


def moments_csv(*found: Moments) -> str:
    """Return a table with a row per moment, the best of each query first; times in seconds and as of a clock."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["query", "rank", "start_s", "end_s", "score", "start", "end"])
    for one in found:
        for rank, moment in enumerate(one.moments, start=1):
            times = [f"{moment.start_s:.3f}", f"{moment.end_s:.3f}", f"{moment.score:.4f}"]
            writer.writerow([one.query, rank, *times, _clock(moment.start_s), _clock(moment.end_s)])
    return table.getvalue()


def moments_edl(*found: Moments, name: str, fps: float, has_sound: bool) -> str:
    """Return a CMX 3600 list that plays the moments one after the other: each query's in time order.

    Timecode counts frames of `edl_rate(fps)` from the first frame of the file, without dropping numbers.

    Args:
        name: the video's file name.
        fps: frames per second of the video.
        has_sound: the moments are cut with their sound.
    """
    rate, channels = edl_rate(fps), "B" if has_sound else "V"
    lines = [f"TITLE: {_one_line(name)}", "FCM: NON-DROP FRAME", "", f"* FRAME RATE: {rate:.6g}"]
    recorded, events = 0, [event for one in found for event in _in_time_order([one])]
    for number, (query, rank, moment) in enumerate(events[:MOST_EVENTS], start=1):
        start = round(moment.start_s * rate)
        length = max(1, round(moment.end_s * rate) - start)
        codes = [_timecode(frame, rate) for frame in (start, start + length, recorded, recorded + length)]
        recorded += length
        lines += [
            f"{number:03d}  AX       {channels}     C        {' '.join(codes)}",
            f"* FROM CLIP NAME: {_one_line(name)}",
            f"* COMMENT: {_label(query, rank, moment)}",
        ]
    return "\n".join(lines) + "\n"


def edl_rate(fps: float) -> float:
    """Return the frames a second that timecode counts: the video's own, or one that editors have and that fits it.

    A video of 4 or 12 frames a second is counted in 24, one of 120 in 24 too; where none fits, it is 30.
    """
    same = [rate for rate in _RATES if abs(rate / fps - 1) < _SAME]
    ratios = [(rate, max(rate / fps, fps / rate)) for rate in _RATES]
    fitting = [rate for rate, ratio in ratios if abs(ratio - round(ratio)) < _SAME * ratio]
    return (same or fitting or [_OTHER_RATE])[0]


def _in_time_order(found: Sequence[Moments]) -> Iterator[tuple[str, int, Moment]]:
    """Yield query, rank and moment."""
    ranked = [(one.query, rank, moment) for one in found for rank, moment in enumerate(one.moments, start=1)]
    yield from sorted(ranked, key=lambda entry: entry[2].start_s)


def _label(query: str, rank: int, moment: Moment) -> str:
    return f"{_one_line(query)} (#{rank}, score {moment.score:.2f})"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _clock(time_s: float, point: str = ".") -> str:
    minutes, thousandths = divmod(round(time_s * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{thousandths / 1000:06.3f}".replace(".", point)


def _timecode(frame: int, rate: float) -> str:
    seconds, frames = divmod(frame, round(rate))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}:{frames:02d}"

"""Moments as WebVTT subtitles, which players show over the video."""

from html import escape

from lavis.common.types import Moments
from lavis.export.names import clock


def moments_vtt(moments: Moments) -> str:
    """Return one cue per moment, in time order, each with its rank, score and the query; a note names the clip."""
    # A cue ends at an empty line, and "-->" would start another one: escaping takes the ">".
    query = escape(" ".join(moments.query.split()), quote=False)
    ranked = sorted(enumerate(moments.moments, start=1), key=lambda pair: pair[1].start_s)
    cues = [
        f"{clock(found.start_s)} --> {clock(found.end_s)}\n{query} (#{rank}, score {found.score:.2f})\n"
        for rank, found in ranked
    ]
    notes = [f"NOTE only {moments.clip} was searched\n"] if moments.clip else []
    return "\n".join(["WEBVTT\n", *notes, *cues])

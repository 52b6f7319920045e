"""Subtitles as a part of what the Answerer is asked: those that are heard while one of its frames is shown."""

from dataclasses import replace

from lavis.common.types import Floats, Question

MAX_CHARS = 8000
"""What is read of subtitles at most, about 2,000 tokens; whole lines are left out, the last ones first."""

_LEAST_S = 1.0


def hearing(question: Question, times_s: Floats) -> tuple[Question, int]:
    """Give a question the subtitles of the frames that it is answered from, in the order of time.

    A subtitle shorter than a second counts for a second around its middle, as LongVideoBench's loader has it.

    Args:
        times_s: [K], the times of the frames.

    Returns:
        the question, and how many of these subtitles were left out, since they were too long together.
    """
    if not question.subtitles:
        return question, 0
    lines = []
    for subtitle in question.subtitles:
        middle_s = (subtitle.start_s + subtitle.end_s) / 2
        reach_s = max(subtitle.end_s - subtitle.start_s, _LEAST_S) / 2
        if (abs(times_s - middle_s) <= reach_s).any():
            lines.append(f"{subtitle.start_s:.1f} s: {subtitle.text}")
    kept, length = 0, 0
    for line in lines:
        length += len(line) + 1
        if length > MAX_CHARS:
            break
        kept += 1
    lost = len(lines) - kept
    ending = [f"({lost} more lines are left out)"] if lost else []
    return replace(question, heard="\n".join([*lines[:kept], *ending])), lost

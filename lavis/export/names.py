"""Names of exported files, and how times are written in them."""

import re

_SLUG_LENGTH = 40


def keyframe_name(number: int, *, time_s: float, frame_idx: int) -> str:
    """Return a file name such as "keyframe_1_00m05.27s_frame79.jpg"."""
    # Rounded before it is split, so that 59.999 s is a minute and not "00m60.00s".
    minutes, hundredths = divmod(round(time_s * 100), 6000)
    return f"keyframe_{number}_{minutes:02d}m{hundredths / 100:05.2f}s_frame{frame_idx}.jpg"


def slug(text: str) -> str:
    """Return a short form of a text that is a safe file name everywhere; may be empty."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower())[:_SLUG_LENGTH].strip("_")


def clock(time_s: float) -> str:
    """Return a time as subtitles write it, such as "00:01:05.270"."""
    minutes, thousandths = divmod(round(time_s * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{thousandths / 1000:06.3f}"

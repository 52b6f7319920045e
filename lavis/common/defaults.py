"""Defaults of a person's question, shared by Python, the command line, the page and its API.

Benchmarks and training have their own, in `configs/`.
"""

ARCH = "sevila"
MODEL = "tiny"
VIDEO_READER = "pyav"
NUM_FRAMES = 32
"""Frames that are watched (published); all of a video that has fewer."""
NUM_KEYFRAMES = 4
"""Frames that are read (published); all that were watched, where they are fewer."""
SELECTOR = "localizer"
FRAME_READER = "joint"
PROMPT = "multiple_choice"
MOMENT_PROMPT = "moment"
THRESHOLD = 0.0
"""Margin from which a frame matches a sentence: the Localizer says "yes" rather than "no"."""
MAX_GAP_FRAMES = 6
"""Frames in a row that may miss the threshold within a moment (published)."""
MIN_LENGTH_S = 0.0
MAX_MOMENTS = None
"""All moments; the page, as many as it shows."""
CACHE_GIB = 2

# Here and not in `lavis/__init__.py`, so that no file imports the package as a whole.
VERSION = "1.0.0"

"""Saying which known name was probably meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Describe the allowed names for an error message, nearest first.

    Returns:
        `"did you mean 'x'? known: ..."`, or only the known names where none is near.
    """
    names = sorted(set(known))
    listing = f"known: {', '.join(names)}" if names else "none are known"
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {nearest[0]!r}? {listing}" if nearest else listing


def counted(number: int, name: str) -> str:
    """Return "1 frame" or "2 frames"."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def listed(names: Iterable[object], *, most: int = 30) -> str:
    """Quote the beginning of names for an error message, and give those beyond `most` as a number."""
    quoted = [f"{name!r:.80}" for name in names if name != ""]
    more = [f"{len(quoted) - most} more"] if len(quoted) > most else []
    return ", ".join(quoted[:most] + more) or "none"

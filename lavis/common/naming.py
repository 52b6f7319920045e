"""Names in messages: which one was probably meant, and none that a terminal takes for orders."""

import difflib
from collections.abc import Iterable

# Control characters become their pictures; those without one, or that overrule the direction of text, U+FFFD.
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


def visible(text: str) -> str:
    """Return a text of the same length that cannot move a terminal's cursor, hide or turn around what it says."""
    return text.translate(_VISIBLE)


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

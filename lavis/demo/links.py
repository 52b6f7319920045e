"""Links that open the page with a question about a shipped clip, so that somebody else sees the same result."""

import math
from urllib.parse import parse_qs, urlencode

from lavis.common import defaults
from lavis.common.errors import UserError
from lavis.common.types import Span
from lavis.demo.service import AnswerRequest, FindRequest, part_between

_MAX_CHARS, _MAX_FIELDS = 8000, 64


class LinkError(UserError):
    """A link that says nothing that could be asked."""


def link_to(clip: str, asked: AnswerRequest | FindRequest) -> str:
    """Return the query of the address, with its question mark; `clip` is the name of a shipped clip."""
    fields: list[tuple[str, str]] = [("clip", clip)]
    if isinstance(asked, AnswerRequest):
        fields += [("question", asked.question), *(("option", option) for option in asked.options)]
        fields += [] if asked.num_keyframes is None else [("keyframes", str(asked.num_keyframes))]
        fields += [("compare", "1")] if asked.compare else []
    else:
        fields += [("query", query) for query in asked.queries]
        fields += [] if asked.max_moments is None else [("moments", str(asked.max_moments))]
    fields.append(("frames", str(asked.num_frames)))
    fields += [("model", asked.model)] if asked.model else []
    if asked.clip:
        fields.append(("start", f"{asked.clip.start_s:g}"))
        fields += [] if math.isinf(asked.clip.end_s) else [("end", f"{asked.clip.end_s:g}")]
    return f"?{urlencode(fields)}"


def read_link(query: str) -> tuple[str, AnswerRequest | FindRequest]:
    """Return the name of the clip and what is asked; what of it goes is for others to check.

    Raises:
        LinkError: it is too long, or a field is missing or no number.
    """
    if len(query) > _MAX_CHARS:
        raise LinkError("This link is too long.")
    try:
        fields = parse_qs(query.removeprefix("?"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise LinkError("This link has too many fields.") from None
    clip, frames = _one(fields, "clip"), _count(fields, "frames", defaults.NUM_FRAMES) or defaults.NUM_FRAMES
    if "query" in fields:
        most = _count(fields, "moments", defaults.MAX_MOMENTS)
        return clip, FindRequest(tuple(fields["query"]), frames, most, _part(fields), _model(fields))
    return clip, AnswerRequest(
        _one(fields, "question"),
        tuple(fields.get("option", ())),
        frames,
        _count(fields, "keyframes", None),
        compare="compare" in fields,
        clip=_part(fields),
        model=_model(fields),
    )


def _one(fields: dict[str, list[str]], name: str) -> str:
    if name not in fields:
        raise LinkError(f"This link has no {name}.")
    return fields[name][0]


def _model(fields: dict[str, list[str]]) -> str:
    return fields.get("model", [""])[0]


def _count(fields: dict[str, list[str]], name: str, otherwise: int | None) -> int | None:
    if name not in fields:
        return otherwise
    value = fields[name][0]
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise LinkError(f"This link asks for {value!r:.40} {name}, which is no number.")
    return int(value)


def _part(fields: dict[str, list[str]]) -> Span | None:
    start, end = (fields.get(name, [None])[0] for name in ("start", "end"))
    return part_between(start, end)

"""What files of chosen frames share, whoever wrote them.

| kind | file | frames are | a row is found by |
|---|---|---|---|
| sevila | JSONL of `lavis.selection.frames_file` | seconds, indices | task and question_id, or doc_id |
| aks, focus | a list of lists | indices | its place, which the annotation file names |
| annotation, tspo | the annotation with `frame_idx` in each row | indices | question_id or id |
| bolt | `{video: [{question_id, question, frames}]}` | seconds | question_id, or video and question |
| videoitg | JSONL of `doc_id`, `index` (best first), `logits` | indices | doc_id |

`annotation` is AKS' copy, in whole numbers; TSPO writes 30.0. Q-Frame stores nothing. Indices count frames of the file.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavis.common.errors import ConfigError, did_you_mean
from lavis.selection.frames_file import ChosenFrames
from lavis.selection.rows import IDS, TEXTS, VIDEOS, read_content, text_in

KINDS = ("sevila", "aks", "focus", "annotation", "tspo", "bolt", "videoitg")


def check_kind(kind: str) -> None:
    """Make sure that a kind of file can be written.

    Raises:
        ConfigError: not one of `KINDS`.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of frames file {kind!r}; {did_you_mean(kind, KINDS)}")


@dataclass(frozen=True)
class Named:
    """A question as an annotation file names it, with its place there, from 0."""

    place: int
    row: dict[str, Any]

    @property
    def id(self) -> str:
        """Its id, unique in the file."""
        return text_in(self.row, IDS)

    @property
    def about(self) -> dict[str, Any]:
        """What a row of chosen frames says of the question."""
        texts = {"question": text_in(self.row, TEXTS), "video": text_in(self.row, VIDEOS)}
        return {
            "question_id": self.id,
            "doc_id": self.place,
            **{key: text for key, text in texts.items() if text.strip()},
        }


@dataclass
class Chosen:
    """What a file holds.

    Attributes:
        kind: one of `KINDS`.
        notes: what of it was changed or left out, and in how many rows.
    """

    kind: str
    rows: list[ChosenFrames]
    notes: Counter[str] = field(default_factory=Counter)


def read_annotation(path: Path) -> list[Named]:
    """Read an annotation file: JSON or JSONL, a row for each question, with a question_id, qid or id.

    Raises:
        ConfigError: it cannot be read, or a row has no id, or that of another one.
    """
    try:
        content = read_content(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"annotation file {path} cannot be read: {error}") from error
    content = [content] if isinstance(content, dict) and set(IDS) & content.keys() else content  # JSONL of one line
    if not isinstance(content, list) or not content:
        raise ConfigError(f"annotation file {path} is no list of rows; give a row for each question")
    found: dict[str, Named] = {}
    for place, row in enumerate(content):
        name = text_in(row, IDS) if isinstance(row, dict) else ""
        if not name:
            raise ConfigError(f"annotation file {path}, row {place + 1} has no {', '.join(IDS[:-1])} or {IDS[-1]}")
        if name in found:
            raise ConfigError(
                f"annotation file {path}, row {place + 1}: {name!r:.80} is there twice; give ids of their own"
            )
        found[name] = Named(place, row)
    return list(found.values())

"""Writing chosen frames as other repositories store them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lavis.common.errors import ConfigError
from lavis.selection.exchange.clock import Clock
from lavis.selection.exchange.kinds import KINDS, Named
from lavis.selection.frames_file import ChosenFrames, FramesFile

_FIELDS = {"frame_idx": "indices", "times_s": "seconds"}
_OWN = ("scores", "sizes", "candidates", "cost", "method")
_KEPT = {"videoitg": ("scores",)}  # of `_OWN`; other kinds keep none


def to_kind(
    kind: str,
    rows: Sequence[ChosenFrames],
    notes: Counter[str],
    *,
    path: Path,
    questions: Sequence[Named] | None = None,
    task: str | None = None,
    clock: Clock | None = None,
) -> Any:
    """Return what a file of another kind holds, as JSON values: one for the file, or for "videoitg" a list of lines.

    Args:
        notes: is told what the kind cannot hold, and in how many rows.
        path: where the rows are from, for messages.
        questions: of the file that is written, in its order; None takes the rows as they are.
        task: of the rows that are meant.

    Raises:
        ConfigError: the kind needs what is not known.
        QuestionError: a question has no row.
    """
    assert kind in KINDS[1:], "a kind of others"
    if questions is None and kind not in ("bolt", "videoitg"):
        raise ConfigError(f"a file of the kind {kind} is about the rows of an annotation file; give it")
    matched = list(_matched(rows, notes, path=path, questions=questions, task=task))
    wanted = "times_s" if kind == "bolt" else "frame_idx"
    clock = clock or Clock(None)
    matched = [
        (one if getattr(one, wanted) is not None else clock.completed(one, notes), name) for one, name in matched
    ]
    _note_lost(kind, [one for one, _ in matched], wanted, notes)
    if kind in ("aks", "focus"):
        return [list(one.frame_idx or ()) for one, _ in matched]
    if kind in ("annotation", "tspo"):
        number = float if kind == "tspo" else int
        return [
            {**(name.row if name else {}), "frame_idx": [number(index) for index in one.frame_idx or ()]}
            for one, name in matched
        ]
    return _as_bolt(matched) if kind == "bolt" else [_as_ranked(one, notes) for one, _ in matched]


def _matched(
    rows: Sequence[ChosenFrames],
    notes: Counter[str],
    *,
    path: Path,
    questions: Sequence[Named] | None,
    task: str | None,
) -> Iterator[tuple[ChosenFrames, Named | None]]:
    """Yield what is written, in its order, with its row of the annotation."""
    if questions is None:
        yield from ((row, None) for row in rows if task is None or row.task in (None, task))
        return
    file, used = FramesFile(path, enumerate(rows, start=1)), 0
    for one in questions:
        row = file.row(task=task, question_id=one.id, doc_id=one.place)
        used += 1
        yield replace(row, **one.about), one
    if used < len(rows):
        notes["rows about none of the annotation's questions: left out"] += len(rows) - used


def _note_lost(kind: str, rows: Sequence[ChosenFrames], wanted: str, notes: Counter[str]) -> None:
    kept = (*_KEPT.get(kind, ()), wanted)
    for name in (*_OWN, *_FIELDS):
        lost = 0 if name in kept else sum(bool(getattr(row, name)) for row in rows)
        if lost:
            notes[f"rows of which {kind} does not hold the {_FIELDS.get(name, name)}"] += lost
    unread = sum(row.unreadable is not None for row in rows)
    if unread:
        notes["rows without frames, since their video could not be read: written as an empty list"] += unread


def _as_bolt(rows: Sequence[tuple[ChosenFrames, Named | None]]) -> dict[str, list[dict[str, Any]]]:
    content: dict[str, list[dict[str, Any]]] = {}
    for row, _ in rows:
        if not (row.video and row.question and row.question_id):
            raise ConfigError(
                f"{row.name} has no question_id, question and video, which bolt needs; give the annotation"
            )
        entry = {"question_id": row.question_id, "question": row.question, "frames": list(row.times_s or ())}
        content.setdefault(row.video, []).append(entry)
    return content


def _as_ranked(row: ChosenFrames, notes: Counter[str]) -> dict[str, Any]:
    if row.doc_id is None:
        raise ConfigError(f"{row.name} has no doc_id, which videoitg needs; give the annotation")
    about = {"doc_id": row.doc_id, "video_path": row.video, "contexts": row.question}
    index, scores = list(row.frame_idx or ()), [score for score in row.scores if score is not None]
    if len(scores) != len(index):
        notes["rows without a score for each frame: index is in time order, without logits"] += 1
        return {**about, "index": index}
    order = sorted(range(len(index)), key=lambda place: -scores[place])
    return {**about, "index": [index[place] for place in order], "logits": [scores[place] for place in order]}

"""Annotation files: a JSON list of rows, or JSONL, one file per split; the schema is in `sevila_data/README.md`."""

import difflib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from lavis.common.errors import AnnotationError, counted, did_you_mean
from lavis.common.files import write_text
from lavis.common.types import Question, Span, Subtitle
from lavis.datasets.records import Record, is_blank, read_records, shown

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_OPTIONS = 26
"""Options are answered by a letter."""

NEXT_EVENT_QUESTION = "What is most likely to happen next?"
"""The question of a VLEP row, which has none of its own."""

WRITTEN_FIELDS = (
    "video", "qid", "question", "query", "num_option", "answer", "start", "end", "duration",
    "relevant_windows", "windows", "relevant_clip_ids", "saliency_scores", "type", "source",
)  # fmt: skip
"""Fields that people write."""

FIELDS = (*WRITTEN_FIELDS, "slices", "cues")
"""All fields; the last are written by converters only, and much that people write looks like them."""

_NAMED_BAD_ROWS = 3
_OPTION_FIELD = re.compile(r"a([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row of an annotation file.

    Attributes:
        duration_s: the video's length as annotated; None if not annotated.
        source: name of the video folder that holds the video, for datasets with several; None: any of them.
        saliency: annotators' scores of 2-second clips, by clip index: of QVHighlights three, 0 to 4, of each relevant
            clip; of TVSum twenty, 1 to 5, of every clip.
        untimed: its times were written as "nan", so that the question is about the whole video.
        shortened: a window went on a little after the video's end and now ends with it.
        slices: what else figures are told apart by, beside the question's type: the domain of its video, for instance.
    """

    question: Question
    duration_s: float | None = None
    source: str | None = None
    saliency: dict[int, tuple[int, ...]] | None = None
    untimed: bool = False
    shortened: bool = False
    slices: Mapping[str, str] = field(default_factory=dict)


def parse_row(record: Record) -> Annotation:
    """Check a row against the schema and make it a question.

    Raises:
        AnnotationError: the row does not fit; the message names file, line, field, value and way out.
    """
    misspelt = _misspelt(frozenset(record.fields))
    if misspelt:
        raise record.error(misspelt, f"is not a field of the schema; {did_you_mean(misspelt, WRITTEN_FIELDS)}")
    qid = record.id("qid")
    duration_s = record.seconds("duration") if record.has("duration") else None
    clip, untimed = _clip(record, duration_s)
    options = () if record.has("query") else _options(record)
    windows, shortened = _windows(record, duration_s)
    question = Question(
        text=_question_text(record, qid),
        options=options,
        id=qid,
        answer=_answer(record, options),
        kind=record.text("type") if record.has("type") else question_type(qid),
        video=_video_name(record, qid),
        clip=clip,
        windows=windows,
        subtitles=_subtitles(record),
    )
    source = record.text("source") if record.has("source") else None
    return Annotation(question, duration_s, source, _saliency(record), untimed, shortened, _slices(record))


def question_type(qid: str) -> str | None:
    """Return the question type that ids carry: what stands before the first underscore, if there is one."""
    prefix, underscore, _ = qid.partition("_")
    return prefix if underscore and prefix else None


@lru_cache(maxsize=1024)
def _misspelt(names: frozenset[str]) -> str | None:
    # Further fields are welcome, but one that looks like a missing field is a mistake that would go unnoticed.
    for name in sorted(names.difference(FIELDS)):
        nearest = [] if _OPTION_FIELD.fullmatch(name) else difflib.get_close_matches(name, WRITTEN_FIELDS, n=1)
        if nearest and nearest[0] not in names:
            return name
    return None


def _question_text(record: Record, qid: str) -> str:
    if record.has("query"):
        if record.has("question"):
            raise record.error("query", "stands beside 'question'; a row is a question or a search, keep one of them")
        return record.text("query")
    if qid.startswith("VLEP_") and not record.fields.get("question"):
        return NEXT_EVENT_QUESTION
    return record.text("question")


def _video_name(record: Record, qid: str) -> str:
    name = record.name("video")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise record.error("video", f"{shown(name)} leaves the video folder; give a name relative to it")
    # VLEP appends "_ep" to the names of TVQA's clips, which lie in TVQA's folder without it; the names of its own
    # YouTube clips hold a time with colons, and their files keep "_ep".
    is_tvqa_clip = qid.startswith("VLEP_") and ":" not in name
    return name.removesuffix("_ep") if is_tvqa_clip else name


def _options(record: Record) -> tuple[str, ...]:
    fields = sorted(int(match[1]) for name in record.fields if (match := _OPTION_FIELD.fullmatch(name)))
    count = record.whole("num_option") if record.has("num_option") else len(fields)
    if not 2 <= count <= MAX_OPTIONS:
        raise record.error("num_option", f"{counted(count, 'option')}; give 2 to {MAX_OPTIONS}, as fields a0, a1, ...")
    if fields and fields[-1] >= count and record.has(f"a{fields[-1]}"):
        raise record.error(f"a{fields[-1]}", f"is beyond the {count} options of 'num_option'; mend one of them")
    return tuple(record.text(f"a{index}") for index in range(count))


def _answer(record: Record, options: tuple[str, ...]) -> int | None:
    if is_blank(record.fields.get("answer")) or not options:
        return None
    answer = record.whole("answer")
    if not 0 <= answer < len(options):
        raise record.error("answer", f"{answer} is not an option; give an index from 0 to {len(options) - 1}")
    return answer


def _clip(record: Record, duration_s: float | None) -> tuple[Span | None, bool]:
    if not record.has("start") and not record.has("end"):
        return None, False
    start, end = record.time_or_nan("start"), record.time_or_nan("end")
    if math.isnan(start) or math.isnan(end):
        return None, True
    record.as_seconds("start", start)  # errors below name the field "end"
    span = _span(record, "end", start, end)
    _check_end(record, "end", span, duration_s)
    return span, False


def _windows(record: Record, duration_s: float | None) -> tuple[tuple[Span, ...] | None, bool]:
    given = [name for name in ("relevant_windows", "windows") if record.has(name)]
    if not given:
        return None, False
    if len(given) == 2:
        raise record.error("windows", "stands beside 'relevant_windows'; they mean the same, keep one of them")
    field = given[0]
    pairs = record.value(field)
    if not isinstance(pairs, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise record.error(field, f"{shown(pairs)} is not a list of [start, end] pairs in seconds")
    given_spans = tuple(_span(record, field, start, end) for start, end in pairs)
    spans = tuple(_ending_with_video(span, duration_s) for span in given_spans)
    for span in spans:
        if span.start_s == span.end_s:
            raise record.error(field, f"[{span.start_s:g}, {span.end_s:g}] has no length; widen it or leave it out")
        _check_end(record, field, span, duration_s)
    return spans, spans != given_spans


def _span(record: Record, field: str, start: object, end: object) -> Span:
    span = Span(record.as_seconds(field, start), record.as_seconds(field, end))
    if span.end_s < span.start_s:
        raise record.error(field, f"{span.end_s:g} s is before the start at {span.start_s:g} s; swap or mend them")
    return span


def _ending_with_video(span: Span, duration_s: float | None) -> Span:
    # Lengths are often rounded to whole seconds, and people mark a little more than the video's end.
    if duration_s is None or not span.start_s < duration_s < span.end_s:
        return span
    excess_s = span.end_s - duration_s
    return Span(span.start_s, duration_s) if excess_s < 1 or excess_s <= duration_s / 10 else span


def _check_end(record: Record, field: str, span: Span, duration_s: float | None) -> None:
    if duration_s is not None and span.end_s > duration_s:
        raise record.error(field, f"{span.end_s:g} s is after the video's end at {duration_s:g} s; mend one of them")


def _saliency(record: Record) -> dict[int, tuple[int, ...]] | None:
    if not record.has("saliency_scores"):
        return None
    clips, scores = record.value("relevant_clip_ids"), record.value("saliency_scores")
    lists = isinstance(clips, list) and isinstance(scores, list) and all(isinstance(row, list) for row in scores)
    if not lists or len(clips) != len(scores):
        raise record.error("saliency_scores", "is not a list of scores for each of 'relevant_clip_ids'")
    for value in (*clips, *(score for row in scores for score in row)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise record.error("saliency_scores", f"{shown(value)} is not a clip index or score; give whole numbers")
    return {clip: tuple(row) for clip, row in zip(clips, scores, strict=True)}


def _slices(record: Record) -> Mapping[str, str]:
    slices = record.value("slices") if record.has("slices") else {}
    if not isinstance(slices, dict) or not all(isinstance(value, str) and value for value in slices.values()):
        raise record.error("slices", f"{shown(slices)} is not an object of texts, such as {{'domain': 'Knowledge'}}")
    return slices


def _subtitles(record: Record) -> tuple[Subtitle, ...]:
    cues = record.value("cues") if record.has("cues") else []
    if not isinstance(cues, list) or not all(isinstance(cue, list) and len(cue) == 3 for cue in cues):
        raise record.error("cues", f"{shown(cues)} is not a list of [start, end, text]")
    found = []
    for start, end, text in cues:
        span = _span(record, "cues", start, end)
        if not isinstance(text, str):
            raise record.error("cues", f"{shown(text)} is not text; put it in quotes")
        found.append(Subtitle(span.start_s, span.end_s, text))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What an annotation file holds.

    Attributes:
        rows: in the file's order.
        skipped: for each row that was left out, its place and what is wrong with it.
    """

    path: Path
    rows: tuple[Annotation, ...]
    skipped: tuple[str, ...] = ()

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions alone."""
        return tuple(row.question for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def read_annotations(path: str | Path, *, skip_bad: bool = False) -> Annotations:
    """Read and check an annotation file.

    Args:
        skip_bad: leave rows out that do not fit the schema, and list them in `skipped`.

    Raises:
        AnnotationError: the file cannot be read or holds no usable row, or, without `skip_bad`, a row does not
            fit the schema or repeats an id.
    """
    rows, bad = usable_rows(read_records(path), _parsed, place=str(path), skip_bad=skip_bad)
    shortened = sum(row.shortened for row in rows)
    if shortened:
        logger.warning("%s: %d rows have a window that ends after the video: cut there", path, shortened)
    return Annotations(Path(path), tuple(rows), tuple(bad))


def _parsed(record: Record) -> tuple[str, Annotation]:
    row = parse_row(record)
    return row.question.id, row


def usable_rows(
    records: Iterable[Record], parse: Callable[[Record], tuple[str, T]], *, place: str, skip_bad: bool
) -> tuple[list[T], list[str]]:
    """Parse the rows of a file.

    Args:
        parse: returns a row's question id and what is made of it, or raises an AnnotationError.
        skip_bad: leave rows out that cannot be parsed.

    Returns:
        The parsed rows, and for each row that was left out its place and what is wrong with it.

    Raises:
        AnnotationError: there is no usable row, or, without `skip_bad`, a row cannot be parsed or repeats an id; the
            message names the first bad rows and counts the others.
    """
    rows: dict[str, T] = {}
    bad: list[str] = []
    for record in records:
        try:
            qid, row = parse(record)
            if qid in rows:
                raise record.error("qid", f"{qid!r} is the id of an earlier row; give every question its own")
            rows[qid] = row
        except AnnotationError as error:
            bad.append(str(error))
    if bad and not skip_bad:
        # An error that all rows share, such as a missing column, is named once.
        named = list(dict.fromkeys(bad))[:_NAMED_BAD_ROWS]
        more = [f"and {len(bad) - len(named)} more bad rows"] if len(bad) > len(named) else []
        raise AnnotationError("; ".join([*named, *more, "or leave bad rows out with --skip-bad of sevila prepare"]))
    if not rows:
        raise AnnotationError(f"{place} holds no usable row" + (f"; the first problem: {bad[0]}" if bad else ""))
    return list(rows.values()), bad


def write_annotations(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of the schema as a JSON list, one row a line, whole or not at all."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")

"""Preparing a dataset: raw files in, one checked annotation file per split out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from lavis.common.errors import AnnotationError, UserError
from lavis.datasets.annotations import Annotation, parse_row, usable_rows, write_annotations
from lavis.datasets.records import Record
from sevila_data import DATASETS
from sevila_data.dataset import RawDataset, RawSplit, Row

_ID_PRECEDENCE = ("val", "test", "train")
"""Which split keeps an id that several use: predictions for evaluation splits are kept under the published ids."""


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """What became of a split.

    Attributes:
        path: the annotation file.
        rows: in its order.
        questions_by_type: how many questions of each type; "" where ids carry none.
        num_videos: how many different videos they are about.
        dropped: for each raw row that was left out, its place and what is wrong with it.
        notes: what was changed in rows that were kept, with counts.
    """

    name: str
    path: Path
    rows: list[Row] = field(default_factory=list)
    questions_by_type: Counter[str] = field(default_factory=Counter)
    num_videos: int = 0
    dropped: tuple[str, ...] = ()
    notes: Counter[str] = field(default_factory=Counter)


def prepare(
    name: str, *, raw: Path, out: Path, videos: Path | None = None, skip_bad: bool = False, force: bool = False
) -> list[PreparedSplit]:
    """Convert every split found in a raw download to `out/<name>/<split>.json`.

    Nothing is written unless all splits can be converted.

    Args:
        name: the dataset, see `sevila_data.DATASETS`.
        raw: the folder of the dataset's own annotation files.
        out: the folder that holds a folder per dataset.
        videos: the folder of videos; only `custom` looks at it.
        skip_bad: leave rows out that cannot be used, and list them.
        force: overwrite what was prepared before.

    Raises:
        AnnotationError: raw files are missing or cannot be read, or, without `skip_bad`, a row cannot be used.
        UserError: an annotation file is there already.
    """
    dataset = DATASETS.get(name)
    found = find_splits(dataset, raw)
    paths = {split: out / name / f"{split}.json" for split in found}
    existing = [str(path) for path in paths.values() if path.exists()]
    if existing and not force:
        raise UserError(f"{', '.join(existing)} would be overwritten; pass --force, or another folder as --out")
    prepared = []
    for split, files in found.items():
        matching = {file for pattern in dataset.files[split] for file in raw.glob(pattern)}
        unread = sorted(file.name for file in matching.difference(files))
        notes = Counter({f"{files[0].name} is read for this split, and not {name}": 1 for name in unread})
        raw_split = RawSplit(raw, split, files, videos, notes)
        prepared.append(_convert(dataset, raw_split, paths[split], skip_bad=skip_bad))
    _make_ids_unique(prepared)
    for split_done in prepared:
        write_annotations(split_done.path, split_done.rows)
    return prepared


def find_splits(dataset: RawDataset, raw: Path) -> Mapping[str, tuple[Path, ...]]:
    """Return the files of every split that a raw folder holds.

    Raises:
        AnnotationError: it holds none.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for split, patterns in dataset.files.items():
        matches = (tuple(sorted(raw.glob(pattern))) for pattern in patterns)
        files = next((files for files in matches if files), None)
        if files:
            found[split] = files
    if not found:
        wanted = ", ".join(pattern for patterns in dataset.files.values() for pattern in patterns)
        raise AnnotationError(f"{raw} holds no annotation files of {dataset.name}; looked for {wanted}")
    return found


def _convert(dataset: RawDataset, raw: RawSplit, path: Path, *, skip_bad: bool) -> PreparedSplit:
    convert, indices = dataset.converter(raw), count()

    def parse(record: Record) -> tuple[str, tuple[Row, Annotation]]:
        row = convert(record, next(indices))
        return row["qid"], (row, parse_row(Record(row, record.path, record.number, record.unit)))

    parsed, bad = usable_rows(dataset.rows(raw), parse, place=", ".join(map(str, raw.files)), skip_bad=skip_bad)
    shortened = sum(annotation.shortened for _, annotation in parsed)
    if shortened:
        raw.notes["a window ends a little after the video: it is cut there when it is used"] += shortened
    rows = [row for row, _ in parsed]
    kinds = Counter(annotation.question.kind or "" for _, annotation in parsed)
    return PreparedSplit(raw.name, path, rows, kinds, len({row["video"] for row in rows}), tuple(bad), raw.notes)


def _make_ids_unique(prepared: Sequence[PreparedSplit]) -> None:
    used: dict[str, str] = {}
    for split in sorted(prepared, key=lambda split: _ID_PRECEDENCE.index(split.name)):
        taken = dict.fromkeys((row["qid"] for row in split.rows), split.name)
        for row in split.rows:
            if row["qid"] in used:
                split.notes[f"id also used in {used[row['qid']]}: the split's name is put into it"] += 1
                row["qid"] = _with_split(row["qid"], split.name)
                if row["qid"] in used or row["qid"] in taken:
                    raise AnnotationError(f"{split.path}: id {row['qid']!r} is used twice; rename it in the raw files")
        used.update(dict.fromkeys((row["qid"] for row in split.rows), split.name))


def _with_split(qid: str, split: str) -> str:
    # After the first underscore, because metrics read the question type in front of it.
    prefix, underscore, rest = qid.partition("_")
    return f"{prefix}_{split}_{rest}" if underscore else f"{qid}_{split}"

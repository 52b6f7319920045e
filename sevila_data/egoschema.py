"""EgoSchema: `questions.json`, and `subset_answers.json` with the answers that are public; or the hub's Parquet files.

The 500 questions with answers are our val; all of them, without answers, are test, on which nothing is measured. The
hub's options are written "A. ...", its answers as numbers.
"""

from collections.abc import Iterator

from lavis.common.errors import AnnotationError
from lavis.datasets.records import Record, read_object, read_records
from sevila_data.dataset import (
    RawDataset,
    RawSplit,
    Row,
    answer_fields,
    lettered_options,
    option_fields,
    row_by_row,
)

_QUESTIONS, _ANSWERS = "questions.json", "subset_answers.json"
_NUM_OPTIONS = 5


def rows(raw: RawSplit) -> Iterator[Record]:
    """Read the questions of a split, those of val with their answers."""
    (file, *_) = raw.files
    if file.name != _ANSWERS:
        yield from (record for file in raw.files for record in read_records(file))
        return
    questions = file.with_name(_QUESTIONS)
    if not questions.is_file():
        raise AnnotationError(f"{questions} is missing; it holds the questions that {_ANSWERS} answers")
    answers = read_object(file)
    for record in read_records(questions):
        answer = answers.pop(record.name("q_uid"), None)
        if answer is not None:
            yield Record({**record.fields, "answer": answer}, record.path, record.number, record.unit)
    if answers:
        raise AnnotationError(
            f"{questions} lacks {len(answers)} of the questions in {file}, such as {next(iter(answers))}"
        )


def convert(record: Record, _index: int, _raw: RawSplit) -> Row:
    """Return the schema's row."""
    is_hub = record.has("video_idx")
    video = record.name("video_idx" if is_hub else "q_uid")
    numbered = (f"option {index}" for index in range(_NUM_OPTIONS))
    options = lettered_options(record, "option") if is_hub else [record.text(name) for name in numbered]
    return {
        "video": video,
        "qid": video,
        "question": record.text("question"),
        **option_fields(options),
        **answer_fields(record, "answer"),
    }


DATASET = RawDataset(
    "egoschema",
    {"val": (_ANSWERS, "Subset/test-*.parquet"), "test": (_QUESTIONS, "MC/test-*.parquet")},
    row_by_row(convert),
    rows,
)

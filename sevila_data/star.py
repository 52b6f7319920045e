"""STAR: `STAR_train.json`, `STAR_val.json`, `STAR_test.json`.

The right option is named by its text. Where that is none of the choices, the published notebook keeps the answer
of the row before; here such a row is bad.
"""

from lavis.datasets.records import Record, id_text, is_blank, shown
from sevila_data.dataset import RawDataset, RawSplit, Row, answer_of_text, option_fields, row_by_row


def convert(record: Record, _index: int, raw: RawSplit) -> Row:
    """Return the schema's row."""
    options = _options(record)
    is_answered = not is_blank(record.fields.get("answer"))
    return {
        "video": record.name("video_id"),
        "qid": record.id("question_id"),
        "question": record.text("question"),
        **option_fields(options),
        **({"answer": answer_of_text(record, "answer", options, raw.notes)} if is_answered else {}),
        "start": record.value("start"),
        "end": record.value("end"),
    }


def _options(record: Record) -> list[str]:
    choices = record.value("choices")
    try:
        by_id = {id_text(choice["choice_id"]): choice["choice"] for choice in choices}
        return [by_id[str(index)] for index in range(len(choices))]
    except (TypeError, KeyError):
        message = f"{shown(choices)} is not a list of choices with 'choice_id' 0, 1, ... and 'choice'"
        raise record.error("choices", message) from None


DATASET = RawDataset(
    "star", {split: (f"STAR_{split}.json",) for split in ("train", "val", "test")}, row_by_row(convert)
)

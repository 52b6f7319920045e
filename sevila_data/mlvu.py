"""MLVU's multiple-choice tasks: dev (our val), `json/1_plotQA.json` to `7_topic_reasoning.json`; `test_question.json`.

The right option is named by its text. Figures go by task (the type); their mean is M-Avg. The dev set's videos lie in a
folder for each task: `1_plotQA/movie101_66.mp4`. The generation tasks, 8 and 9, are not read. The test set may have no
answers.
"""

from lavis.datasets.records import Record, is_blank
from sevila_data.dataset import (
    RawDataset,
    RawSplit,
    Row,
    answer_of_text,
    option_fields,
    option_texts,
    row_by_row,
    without_ending,
)

_DEV = "[1-7]_*.json"


def convert(record: Record, _index: int, raw: RawSplit) -> Row:
    """Return the schema's row."""
    options = option_texts(record, "candidates")
    task, video = record.text("question_type"), without_ending(record.name("video"))
    is_answered = not is_blank(record.fields.get("answer"))
    return {
        "video": f"{record.path.stem}/{video}" if raw.name == "val" else video,
        "qid": record.id("question_id") if record.has("question_id") else f"{task}_{record.number}",
        "type": task,
        "question": record.text("question"),
        **option_fields(options),
        **({"answer": answer_of_text(record, "answer", options, raw.notes)} if is_answered else {}),
    }


DATASET = RawDataset(
    "mlvu",
    {
        "val": (f"json/{_DEV}", _DEV),
        "test": ("test_question.json", "test-ground-truth/test_question.json"),
    },
    row_by_row(convert),
)

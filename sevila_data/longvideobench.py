"""LongVideoBench: `lvb_val.json` and `lvb_test_wo_gt.json` (no answers), or Parquet: `validation-*`, `test-*`.

JSON lists the candidates, Parquet has them in `option0` to `option4`, "N/A" for those that are not there. Figures go by
duration group (the type: videos of up to 15, 60, 600 and 3600 s), and by question category and level. Subtitles are the
files in `subtitles` beside the rows, where there are some; their times begin at `starting_timestamp_for_subtitles`.
"""

from functools import lru_cache, partial

from lavis.datasets.records import Record, is_blank
from sevila_data.dataset import (
    RawDataset,
    RawSplit,
    Row,
    RowConverter,
    answer_fields,
    option_fields,
    option_texts,
    without_ending,
)
from sevila_data.subtitles import cue_fields, read_json_subtitles

_MOST_OPTIONS = 5
_NO_OPTION = "N/A"
_UNKNOWN = -1
_SLICES = ("question_category", "level")


def converter(raw: RawSplit) -> RowConverter:
    """Return the converter of a split."""
    # A video's questions stand together.
    read = lru_cache(maxsize=4)(read_json_subtitles)

    def cues(record: Record) -> Row:
        if not record.has("subtitle_path"):
            return {}
        offset_s, duration_s = record.seconds("starting_timestamp_for_subtitles"), record.seconds("duration")
        subtitles = f"subtitles/{record.text('subtitle_path')}"
        return cue_fields(raw, subtitles, partial(read, offset_s=offset_s, duration_s=duration_s))

    def convert(record: Record, _index: int) -> Row:
        return {
            "video": without_ending(record.name("video_path")),
            "qid": record.id("id"),
            "type": record.id("duration_group"),
            "question": record.text("question"),
            **option_fields(_options(record)),
            **({} if record.fields.get("correct_choice") == _UNKNOWN else answer_fields(record, "correct_choice")),
            "slices": {name: record.text(name) for name in _SLICES if not is_blank(record.fields.get(name))},
            **cues(record),
        }

    return convert


def _options(record: Record) -> list[str]:
    if record.has("candidates"):
        return option_texts(record, "candidates")
    names = [f"option{index}" for index in range(_MOST_OPTIONS)]
    return [record.text(name) for name in names if record.fields.get(name) not in (None, _NO_OPTION)]


DATASET = RawDataset(
    "longvideobench",
    {
        "val": ("lvb_val.json", "validation-*.parquet", "data/validation-*.parquet"),
        "test": ("lvb_test_wo_gt.json", "test-*.parquet", "data/test-*.parquet"),
    },
    converter,
)

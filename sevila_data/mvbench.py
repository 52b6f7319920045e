"""MVBench: `json/action_sequence.json` and 19 more, one for each task.

The right option is named by its text. Figures go by task (the type); their mean is the benchmark's figure. The videos
lie in the folders of the data sets that they come from; those of episodic reasoning are folders of frames, three a
second. Five tasks ask about a part of their videos, which `start` and `end` give.
"""

from lavis.datasets.records import Record
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

_CLEVRER, _PERCEPTION, _STAR = "clevrer/video_validation", "perception/videos", "star/Charades_v1_480"
FOLDERS = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": "nturgbd",
    "character_order": _PERCEPTION,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": _CLEVRER,
}
"""Where the benchmark's own notebook looks for the videos of each task."""

_OF_A_PART = ("action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning")


def convert(record: Record, _index: int, raw: RawSplit) -> Row:
    """Return the schema's row."""
    task = record.path.stem
    if task not in FOLDERS:
        raise record.error("video", f"{record.path.name} is none of the {len(FOLDERS)} tasks' files; take it away")
    options = option_texts(record, "candidates")
    return {
        "video": f"{FOLDERS[task]}/{without_ending(record.name('video'))}",
        "qid": f"{task}_{record.number}",
        "type": task,
        "question": record.text("question"),
        **option_fields(options),
        "answer": answer_of_text(record, "answer", options, raw.notes),
        **(_part(record, raw) if task in _OF_A_PART else {}),
    }


def _part(record: Record, raw: RawSplit) -> Row:
    start, end = record.seconds("start"), record.seconds("end")
    if end <= start:
        raw.notes["its part ends before it starts: the question is about the whole video"] += 1
        return {}
    return {"start": start, "end": end}


DATASET = RawDataset("mvbench", {"test": ("json/*.json", "*.json")}, row_by_row(convert))

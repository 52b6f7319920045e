"""Rows of benchmarks for today's models, as their files hold them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

VIDEO_MME_ROW: dict[str, Any] = {
    **{"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Humanity & History"},
    **{"url": "https://www.youtube.com/watch?v=fFjv93ACGo8", "videoID": "fFjv93ACGo8", "question_id": "001-1"},
    **{"task_type": "Counting Problem", "question": "Which kind of decoration has the largest number?", "answer": "C"},
    "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. The three kinds are of the same number."],
}

LVB_ROW: dict[str, Any] = {
    **{"video_id": "86CxyhFV9MI", "question": "What color is the woman's clothing at that moment?"},
    **{"candidates": ["yellow", "green", "blue", "red"], "correct_choice": 3, "position": [854, 948]},
    **{"topic_category": "NP-News-Programs", "question_category": "T2A", "level": "L1-Perception"},
    **{"id": "86CxyhFV9MI_0", "video_path": "86CxyhFV9MI.mp4", "subtitle_path": "86CxyhFV9MI_en.json"},
    **{"duration_group": 600, "starting_timestamp_for_subtitles": 0, "duration": 190.16, "view_count": 259852},
}


def write_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows)

"""What an evaluation took, in all and for a question."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from lavis.tasks.predictions import Prediction


def cost_metrics(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return "sum" and "mean" of each part of the cost, and of "frames_read", over the questions that tell it.

    "questions" is how many do: questions that could not be asked, and rows of earlier versions, tell none. A part that
    no question tells is left out.
    """
    told = [prediction for prediction in predictions if prediction.cost is not None]
    rows = [{**asdict(one.cost), "frames_read": len(one.keyframe_idx) or None} for one in told if one.cost is not None]
    names = dict.fromkeys(name for row in rows for name in row)
    parts = {name: _summary(row[name] for row in rows) for name in names}
    return {"questions": len(told), **{name: part for name, part in parts.items() if part}}


def _summary(values: Iterable[float | None]) -> dict[str, float]:
    told = [value for value in values if value is not None]
    return {"sum": sum(told), "mean": sum(told) / len(told)} if told else {}

"""The figures of one evaluation as a page of Markdown."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lavis.common.errors import counted
from lavis.tasks.predictions import Prediction

_NAMED_UNREADABLE = 20
Figures = Mapping[str, Any]


def report(metrics: Figures, predictions: Sequence[Prediction], *, cost: Figures | None = None) -> str:
    """Return the report on what an evaluation wrote to `metrics.json` and `cost.json`."""
    sections = [
        f"# {metrics['dataset']} {metrics['split']}: {headline(metrics)}",
        *_warnings(metrics),
        _counts(metrics, predictions),
    ]
    if metrics.get("accuracy"):
        sections += ["## Accuracy", _accuracy(metrics)]
    for name, figures in (metrics.get("slices") or {}).items():
        sections += [f"## Accuracy by {name.replace('_', ' ')}", _slices(figures)]
    if metrics.get("voting"):
        sections += ["## Frames read alone", _voting(metrics["voting"])]
    if metrics.get("grounding"):
        sections += ["## Grounding", _side_by_side(metrics["grounding"])]
    if metrics.get("moments"):
        briefs = {name: figures["brief"] for name, figures in metrics["moments"].items() if figures}
        sections += ["## Moment retrieval", _side_by_side(briefs)]
    if metrics.get("localization"):
        sections += ["## Best window", _side_by_side({"": metrics["localization"]})]
    if metrics.get("highlights"):
        sections += ["## Highlights", _side_by_side({"": metrics["highlights"]})]
    if cost and cost["questions"]:
        sections += ["## Cost", _cost(cost)]
    if metrics.get("metrics"):
        sections += ["## Metrics of plugins", _side_by_side({"": metrics["metrics"]})]
    if metrics["unreadable"]:
        sections += ["## Unreadable", _unreadable(predictions)]
    return "\n\n".join(sections) + "\n"


def headline(metrics: Figures) -> str:
    """Return the figure that the split is known by, in words."""
    if metrics.get("accuracy"):
        overall = metrics["accuracy"]["overall"]
        return f"accuracy {overall['percent']:.1f} % ({overall['low']:.1f} to {overall['high']:.1f})"
    if metrics.get("moments"):
        brief = metrics["moments"]["corrected"]["brief"]
        names = {"R1@0.5": "MR-full-R1@0.5", "R1@0.7": "MR-full-R1@0.7", "mAP": "MR-full-mAP"}
        return ", ".join(f"{short} {brief[name]:.1f} %" for short, name in names.items())
    if metrics.get("highlights"):
        return f"mAP@5 {metrics['highlights']['mAP@5']:.1f} %"
    return "no annotated answers to measure on"


def warning_of(metrics: Figures) -> str | None:
    """Return what must be known of the weights before any figure is believed; None if they are trained."""
    weights = metrics["weights"]
    if weights["status"] != "untrained":
        return None
    laid_over = f" Laid over them: {', '.join(metrics['finetuned'])}." if metrics["finetuned"] else ""
    return f"UNTRAINED WEIGHTS ({metrics['model']}): {weights['note']}.{laid_over}"


def _warnings(metrics: Figures) -> list[str]:
    warning = warning_of(metrics)
    note = metrics["weights"]["note"]
    if warning:
        return [f"> **{warning}**"]
    return [f"> {note}"] if note else []


def _counts(metrics: Figures, predictions: Sequence[Prediction]) -> str:
    frames = metrics["frames"]
    lines = [
        f"* model {metrics['model']}, task {metrics['task']}, weights laid over it: "
        f"{', '.join(metrics['finetuned']) or 'none'}",
        f"* {_watched(frames)}, chosen by {frames['selector']}, read {frames['reader']}",
        f"* questions {metrics['questions']}, unreadable {metrics['unreadable']}, "
        f"without annotated answer {metrics['without_answer']}, cut for length {metrics['cut']}, "
        f"with text that the model cannot spell {metrics['unspelt']}"
        + (f", with subtitles cut for length {metrics['subtitles_cut']}" if metrics.get("subtitles_cut") else ""),
        f"* {sum(prediction.seconds for prediction in predictions):.1f} s of model time",
    ]
    return "\n".join(lines)


def _watched(frames: Figures) -> str:
    rate = frames.get("sample_fps")
    return counted(frames["num_frames"], "frame") if rate is None else f"{counted(rate, 'frame')} a second"


def _accuracy(metrics: Figures) -> str:
    by_question, by_video = metrics["accuracy"], metrics["accuracy_by_video"]
    rows = [("all questions (question-weighted)", by_question["overall"], by_video["overall"])]
    if metrics["unreadable"]:
        rows.append(("readable questions only", by_question["readable_only"], by_video["readable_only"]))
    if len(by_question["by_type"]) > 1:
        count = len(by_question["by_type"])
        rows.append((f"mean of {count} types", by_question["mean_of_types"], by_video["mean_of_types"]))
    for kind in ("by_group", "by_type"):
        rows += [(name, by_question[kind][name], by_video[kind][name]) for name in by_question[kind]]
    cells = [
        (name, *_estimate(first), _interval(second), str(first["questions"])) for name, first, second in rows if first
    ]
    return _table(("", "%", "95 % (questions)", "95 % (videos)", "questions"), cells)


def _slices(figures: Figures) -> str:
    cells = [(name, *_estimate(estimate), str(estimate["questions"])) for name, estimate in figures.items()]
    return _table(("", "%", "95 % (questions)", "questions"), cells)


def _voting(voting: Figures) -> str:
    meaning = {
        "voting": "vote of the frames",
        "frame_mean": "a single frame, on average",
        "oracle": "any frame right (upper bound)",
    }
    cells = [(meaning[name], *_estimate(voting[name]["overall"])) for name in meaning]
    return _table(("", "%", "95 % (questions)"), cells)


def _side_by_side(columns: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    cells = [(name, *(_number(column.get(name)) for column in columns.values())) for name in names]
    return _table(("", *columns), cells)


def _cost(cost: Figures) -> str:
    parts = {name.replace("_", " "): part for name, part in cost.items() if name != "questions"}
    cells = [(name, _number(part["sum"]), _number(part["mean"])) for name, part in parts.items()]
    return _table(("", "in all", "a question"), cells)


def _unreadable(predictions: Sequence[Prediction]) -> str:
    reasons = Counter(prediction.unreadable for prediction in predictions if prediction.unreadable is not None)
    lines = [f"* {reason} ({counted(count, 'question')})" for reason, count in reasons.most_common(_NAMED_UNREADABLE)]
    if len(reasons) > _NAMED_UNREADABLE:
        lines.append(f"* and {len(reasons) - _NAMED_UNREADABLE} more, all in predictions.jsonl")
    return "\n".join(lines)


def _estimate(estimate: Mapping[str, float]) -> tuple[str, str]:
    return f"{estimate['percent']:.1f}", _interval(estimate)


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{estimate['low']:.1f} to {estimate['high']:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    aligned = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, aligned, *rows))

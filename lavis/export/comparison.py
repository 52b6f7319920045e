"""The figures of a comparison of ways to choose frames as a page of Markdown."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from lavis.common.errors import counted

Figures = Mapping[str, Any]

_COLUMNS = """\
* **accuracy** in percent, **less ...** the difference in points on the same questions; in brackets 95 % intervals,
  videos being resampled with all their questions.
* **p** is of the exact two-sided McNemar test over questions, corrected for the number of selectors and k that are
  compared (Holm); **p, videos** of the exact sign test over videos, uncorrected: questions about one video depend on
  each other.
* **inside**: percent of the questions of which at least one chosen frame lies in an annotated window, and percent of
  the chosen frames that do.
* **looked at**: frames of the video that were decoded to choose; **scored**: those that got a score; **calls** of the
  scorer and **ms**, milliseconds, to choose for one question. All are means over questions, each as if nothing had been
  computed for another selector: what was is charged at the pace that was measured. Reading the video's pixels is not
  part of the time.
"""


def comparison_page(figures: Figures) -> str:
    """Return the page of what a comparison wrote to `comparison.json`: a table for each k, the best first."""
    uniform, first = figures["uniform"], figures["first"]
    sections = [f"# Ways to choose frames on {figures['dataset']} {figures['split']}", *_facts(figures)]
    for k in dict.fromkeys(row["k"] for row in figures["rows"]):
        rows = [row for row in figures["rows"] if row["k"] == k]
        rows.sort(key=lambda row: -(_percent(row["accuracy"]) or _percent((row["windows"] or {}).get("any")) or 0))
        sections += [f"## k = {k}", _table(rows, uniform=uniform, first=first)]
    return "\n\n".join([*sections, "## Columns", _COLUMNS.rstrip()]) + "\n"


def _facts(figures: Figures) -> list[str]:
    made, weights = figures["made"], figures["weights"]
    lost = max(row["unreadable"] for row in figures["rows"])
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    commit = made["commit"] or "no checkout"
    state = "" if made["clean"] in (True, None) else ", with changes"
    asked = f"{counted(figures['questions'], 'question')} about {counted(figures['videos'], 'video')}"
    lines = [
        f"* {asked}, {lost} unreadable (counted as wrong)",
        f"* model {figures['model']}, weights laid over it: {', '.join(figures['finetuned']) or 'none'}",
        f"* chosen from {counted(figures['frames']['num_frames'], 'frame')}, read {figures['frames']['reader']}",
        f"* {made['platform']}, {made['cpus']} CPUs, {figures['device']}; {versions}",
        f"* commit {commit}{state}, {made['started']}",
    ]
    told = [f"> {weights['note']}"] if weights["note"] else []
    warning = ["> **UNTRAINED WEIGHTS**"] if weights["status"] == "untrained" else []
    note = textwrap.wrap(figures["note"], 120) if figures["note"] else []
    return [*warning, *told, *(["\n".join(note)] if note else []), "\n".join(lines)]


def _table(rows: Sequence[Figures], *, uniform: str, first: str) -> str:
    has_accuracy, has_windows = (any(row[name] for row in rows) for name in ("accuracy", "windows"))
    pairs = [("uniform", uniform), *([("first", first)] if first != uniform else [])] if has_accuracy else []
    head = [
        "selector",
        *(["accuracy"] if has_accuracy else []),
        *(name for _, label in pairs for name in (f"less {_cell(label)}", "p", "p, videos")),
        *(["inside"] if has_windows else []),
        *("read", "looked at", "scored", "calls", "ms"),
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        windows, cost = row["windows"], row["cost"]
        lines.append(
            [
                _cell(row["selector"]),
                *([_estimate(row["accuracy"])] if has_accuracy else []),
                *(text for name, _ in pairs for text in _pair(row["against"][name])),
                *([f"{_number(_percent(windows['any']))} / {_number(_percent(windows['share']))}"] if windows else []),
                _number(row["frames_read"]),
                *(_number(cost[name]) if cost else "" for name in ("frames_looked_at", "frames_scored")),
                f"{cost['scorer_calls']:.2f}" if cost else "",
                f"{1000 * cost['seconds']:.1f}" if cost else "",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(estimate: Figures | None) -> float | None:
    return None if estimate is None else float(estimate["percent"])


def _estimate(estimate: Figures | None) -> str:
    return "" if estimate is None else f"{estimate['percent']:.1f} [{estimate['low']:.1f}, {estimate['high']:.1f}]"


def _pair(pair: Figures | None) -> tuple[str, str, str]:
    if pair is None:
        return "", "", ""
    difference = f"{pair['difference']:+.1f} [{pair['low']:+.1f}, {pair['high']:+.1f}]"
    return difference, _p_value(pair["p_holm"]), _p_value(pair["p_value_videos"])


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""The miniature's figures as Markdown: written by the command, never by hand."""

from collections.abc import Mapping
from typing import Any

from sevila_data.miniature.questions import ASKED

_MOST_MINUTES = 90
_HEAD = """# The paper in miniature

Written by `run_scripts/sevila/miniature.sh` (seed {seed}; {videos} test videos, {questions} questions of {options}
options, so chance is {chance:.0f} %). Accuracy in percent with 95 % intervals, bootstrapped over videos. The world is
synthetic: coloured shapes that move over patterned grounds, rendered to H.264 and read back by the usual reader.

The base (vision tower, Answerer's prompter, language model) is trained from nothing. The language model learns the
prompts, the Localizer's too, from words in place of frames. The vision tower learns from dense labels of what is where
in a picture; the Answerer's prompter from the words that describe a picture, and from questions with answers. No label
of whether a picture is relevant to a question is used before the stages. Unless a line says otherwise, answers come
from the Answerer that was tuned on localized frames, reading four of {frames} frames.

{remark}
"""


def render_table(figures: Mapping[str, Any], *, frames: int = 32, options: int = 5) -> str:
    """Return the whole note for the figures that `measure_all` found."""
    head = _HEAD.format(
        seed=figures["seed"],
        videos=figures["videos"],
        questions=figures["questions"],
        options=options,
        chance=100 / options,
        frames=frames,
        remark=figures["remark"],
    )
    parts = [
        head,
        _selections(figures),
        _differences(figures),
        _answerers(figures),
        _keyframes(figures),
        _moments(figures),
        _targets(figures),
        _times(figures),
    ]
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _selections(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, run in figures["runs"].items():
        types = [f"{run['by_type'][kind]['percent']:.1f}" for kind in ASKED]
        hit = figures["inside"][name]
        rows.append([name, _bounded(run["overall"]), *types, f"{hit:.1f}"])
    titles = ["four frames chosen by", "accuracy", *ASKED, "one inside"]
    return "## Which frames\n\n" + _markdown(titles, rows)


def _differences(figures: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{points:+.1f} [{low:+.1f}, {high:+.1f}]", "yes" if low > 0 or high < 0 else "no"]
        for name, (points, low, high) in figures["differences"].items()
    ]
    return "## What each step adds\n\n" + _markdown(["on the same questions", "points", "beyond the interval"], rows)


def _answerers(figures: Mapping[str, Any]) -> str:
    rows = [[*name.split(" / "), _bounded(found)] for name, found in figures["answerers"].items()]
    return "## Answerer tuned on, tested on (the paper's table 8)\n\n" + _markdown(
        ["tuned on", "read", "accuracy"], rows
    )


def _keyframes(figures: Mapping[str, Any]) -> str:
    rows = [[count, _bounded(found)] for count, found in figures["keyframes"].items()]
    return "## How many keyframes\n\n" + _markdown(["K", "accuracy"], rows)


def _moments(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            *(f"{found['MR-R1'][threshold]:.1f}" for threshold in ("0.5", "0.7")),
            f"{found['MR-mAP']['average']:.1f}",
        ]
        for name, found in figures["moments"].items()
    ]
    return "## Moments\n\n" + _markdown(["Localizer", "R1@0.5", "R1@0.7", "mAP"], rows)


def _targets(figures: Mapping[str, Any]) -> str:
    """Hold the figures against what the miniature is meant to show."""
    percent = {name: run["overall"]["percent"] for name, run in figures["runs"].items()}
    best, oracle = percent["localizer, pre-trained and refined"], percent["oracle"]
    gain = best - percent["uniform"]
    binding = figures["differences"]["one frame alone over the same among four"][0]
    after = figures["differences"]["both stages over pre-training alone"]
    before = figures["differences"]["both stages over refinement alone"]
    checks = [
        ("oracle at least 85 %", f"{oracle:.1f} %", oracle >= 85),
        ("one fact of four frames within 5 points of one frame", f"{binding:+.1f} points", binding <= 5),
        ("both stages at least 15 points over uniform", f"{gain:+.1f} points", gain >= 15),
        ("both stages at least 0.9 of the oracle", f"{best / oracle:.2f}", best >= 0.9 * oracle),
        ("pre-training adds to refinement beyond the interval", f"{before[0]:+.1f} points", before[1] > 0),
        ("refinement adds to pre-training beyond the interval", f"{after[0]:+.1f} points", after[1] > 0),
    ]
    rows = [[name, found, "met" if met else "missed"] for name, found, met in checks]
    rows.append(_time_row(figures["seconds"]))
    return "## Targets\n\n" + _markdown(["target", "found", ""], rows)


def _time_row(seconds: Mapping[str, float]) -> list[str]:
    title = f"at most {_MOST_MINUTES} minutes from nothing"
    if not seconds.keys() >= {"data", "base"}:
        return [title, "not measured: parts were made by other commands", "open"]
    minutes = sum(seconds.values()) / 60
    return [title, f"{minutes:.0f} minutes", "met" if minutes <= _MOST_MINUTES else "missed"]


def _times(figures: Mapping[str, Any]) -> str:
    rows = [[name, f"{seconds / 60:.1f}"] for name, seconds in figures["seconds"].items()]
    return "## Time\n\n" + _markdown(["part", "minutes"], rows)


def _bounded(estimate: Mapping[str, float]) -> str:
    return f"{estimate['percent']:.1f} [{estimate['low']:.1f}, {estimate['high']:.1f}]"


def _markdown(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

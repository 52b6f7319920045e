"""What the embedded model holds of what the page offers: two to eight options, any number of frames, open answers.

`python -m sevila_data.miniature.embedded --data output/miniature/data --table benchmarks/EMBEDDED.md` asks it through
the door that everybody uses, on held-out videos, and writes the table.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from lavis.common.files import write_text
from lavis.common.types import Question
from lavis.models.loading import load_model
from lavis.tasks.metrics.accuracy import Outcome, accuracy_report
from sevila_data.miniature.dataset import SPLITS, asked_about, videos_of
from sevila_data.miniature.figures import markdown
from sevila_data.miniature.questions import MAX_OPTIONS, NUM_OPTIONS
from sevila_data.miniature.world import VALUES

NUM_FRAMES, NUM_KEYFRAMES = 32, 4
FRAMES = (4, 8, 16, 32, 64, 128)
KEYFRAMES = (1, 2, 4, 8)
_OPEN = 1
"""Stands for no options: a question with a single one cannot be asked."""
_RESAMPLES = 2000
_HEAD = """# What the embedded model holds

Written by `python -m sevila_data.miniature.embedded --table benchmarks/EMBEDDED.md`: {videos} held-out videos of its
world, {questions} questions, each asked again with another number of options in another order. Accuracy in percent with
95 % intervals bootstrapped over videos. Above chance is (accuracy - 1/n) / (1 - 1/n) for n options. There are five
motions only, so questions about them are left out where more options are asked for, and of five too in the comparison.
"""


@dataclass(frozen=True)
class Setting:
    """One way to ask.

    Attributes:
        options: how many; one stands for an open question.
        keyframes: frames that are read.
        frames: frames that are watched.
    """

    options: int = NUM_OPTIONS
    keyframes: int = NUM_KEYFRAMES
    frames: int = NUM_FRAMES


SETTINGS = (
    *(Setting(options=count) for count in range(2, MAX_OPTIONS + 1)),
    Setting(options=_OPEN),
    *(Setting(keyframes=count) for count in KEYFRAMES if count != NUM_KEYFRAMES),
    *(
        Setting(frames=frames, keyframes=count)
        for frames in FRAMES
        if frames != NUM_FRAMES
        for count in KEYFRAMES
        if count <= frames
    ),
)


@dataclass(frozen=True)
class Asked:
    """One question that was asked.

    Attributes:
        seen: one of the keyframes shows what is asked.
    """

    video: str
    id: str
    kind: str
    right: bool
    seen: bool


def ask_about(number: int, folder: Path, *, model: str, seed: int, settings: Sequence[Setting]) -> list[list[Asked]]:
    """Ask about one of the test videos in every setting."""
    torch.set_num_threads(1)
    loaded = load_model("sevila", model, device="cpu")
    video = list(videos_of("test", number + 1, seed=seed))[number]
    found = []
    for frames in sorted({setting.frames for setting in settings}):
        watched = loaded.watch(folder / f"{video.name}.mp4", num_frames=frames)
        for setting in (setting for setting in settings if setting.frames == frames):
            given = asked_about("test", number, video, seed=seed, num_options=max(setting.options, 2))
            questions = [question for question in given if setting.options <= len(VALUES[str(question.kind)])]
            shown = [replace(question, options=()) for question in questions] if setting.options == _OPEN else questions
            answers = watched.ask_all(shown, num_keyframes=setting.keyframes)
            rows = [
                Asked(
                    video.name,
                    question.id,
                    str(question.kind),
                    _is_right(answer.text, question),
                    _is_seen(answer.keyframes.times_s, question),
                )
                for question, answer in zip(questions, answers, strict=True)
            ]
            found.append((settings.index(setting), rows))
    return [rows for _, rows in sorted(found, key=lambda pair: pair[0])]


def measure(
    folder: Path, *, model: str, seed: int, num_videos: int, settings: Sequence[Setting] = SETTINGS, workers: int = 2
) -> list[list[Asked]]:
    """Ask about the first test videos in every setting; of each setting, all its questions."""
    work = partial(ask_about, folder=folder, model=model, seed=seed, settings=settings)
    if workers == 1:
        by_video = [work(number) for number in range(num_videos)]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            by_video = list(pool.map(work, range(num_videos)))
    return [[row for rows in column for row in rows] for column in zip(*by_video, strict=True)]


def above_chance(accuracy: float, num_options: int) -> float:
    """Return the accuracy, a share, with chance taken out: 1 stays 1, chance becomes 0."""
    return (accuracy - 1 / num_options) / (1 - 1 / num_options)


def accuracy_of(rows: Sequence[Asked]) -> float:
    """Return the share that was answered right."""
    return float(np.mean([row.right for row in rows]))


def without_motion(rows: Iterable[Asked]) -> list[Asked]:
    """Leave out questions that can have five options only."""
    return [row for row in rows if row.kind != "motion"]


def render(found: Sequence[Sequence[Asked]]) -> str:
    """Return the page."""
    by = dict(zip(SETTINGS, found, strict=True))
    five = by[Setting()]
    options = []
    for count in range(2, MAX_OPTIONS + 1):
        rows = by[Setting(options=count)]
        compared = accuracy_of(five if count <= NUM_OPTIONS else without_motion(five))
        reached = above_chance(accuracy_of(rows), count)
        distance = 100 * (reached - above_chance(compared, NUM_OPTIONS))
        options.append([count, len(rows), _bounded(rows), f"{100 * reached:.1f}", f"{distance:+.1f}", _seen(rows)])
    open_rows = by[Setting(options=_OPEN)]
    options.append(["none (open)", len(open_rows), _bounded(open_rows), "", "", _seen(open_rows)])
    titles = [
        "options",
        "questions",
        "accuracy",
        "above chance",
        "points from five options",
        "evidence among the frames",
    ]
    frames = [
        [
            watched,
            *(
                f"{100 * accuracy_of(by[Setting(frames=watched, keyframes=k)]):.1f}" if k <= watched else ""
                for k in KEYFRAMES
            ),
        ]
        for watched in FRAMES
    ]
    evidence = [
        [watched, *(_seen(by[Setting(frames=watched, keyframes=k)]) if k <= watched else "" for k in KEYFRAMES)]
        for watched in FRAMES
    ]
    heads = ["frames watched", *(f"{count} read" for count in KEYFRAMES)]
    return "\n".join(
        [
            _HEAD.format(videos=len({row.video for row in five}), questions=len(five)),
            f"## Options, {NUM_KEYFRAMES} of {NUM_FRAMES} frames\n",
            markdown(titles, options),
            f"## Frames, {NUM_OPTIONS} options\n",
            markdown(heads, frames),
            "With few frames watched, none may show what is asked. How often one of those read does:\n",
            markdown(heads, evidence),
        ]
    )


def _is_right(text: str, question: Question) -> bool:
    return text.strip().rstrip(".").lower() == question.options[question.answer or 0].lower()


def _is_seen(times_s: np.ndarray, question: Question) -> bool:
    return any(((times_s >= window.start_s) & (times_s <= window.end_s)).any() for window in question.windows or ())


def _bounded(rows: Sequence[Asked]) -> str:
    outcomes = [Outcome(row.id, row.right, row.kind) for row in rows]
    share = accuracy_report(outcomes, clusters=[row.video for row in rows], resamples=_RESAMPLES).overall
    return f"{share.percent:.1f} [{share.low:.1f}, {share.high:.1f}]"


def _seen(rows: Sequence[Asked]) -> str:
    return f"{100 * float(np.mean([row.seen for row in rows])):.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description="Ask the embedded model in all ways that the page offers.")
    parser.add_argument("--data", type=Path, default=Path("output/miniature/data"), help="the miniature's data set")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=0, help="that the data set was drawn with")
    parser.add_argument("--videos", type=int, default=SPLITS["test"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--json", type=Path, help="file for what became of each question")
    given = parser.parse_args(arguments)
    found = measure(
        given.data / "videos", model=given.model, seed=given.seed, num_videos=given.videos, workers=given.workers
    )
    page = render(found)
    if given.json:
        rows = [
            {**asdict(setting), "asked": [asdict(row) for row in asked]}
            for setting, asked in zip(SETTINGS, found, strict=True)
        ]
        write_text(given.json, json.dumps(rows) + "\n")
    if given.table:
        write_text(given.table, page)
    sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The embedded model: made from a base, released, and held against what the page offers.

`python -m sevila_data.miniature.embedded --release sevila_checkpoints/sevila_tiny --table benchmarks/EMBEDDED.md` makes
what is not there yet (hours from nothing), saves it, asks it about held-out videos with two to eight options and none,
with any number of frames, through the door that everybody uses, and writes the table.
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
from tempfile import TemporaryDirectory

import numpy as np
import torch

from lavis.common.files import write_text
from lavis.common.types import Question
from lavis.models.loading import load_model
from lavis.models.sevila.model import SeViLA
from lavis.tasks.metrics.accuracy import Outcome, accuracy_report
from sevila_data.miniature.base import use_plain_attention
from sevila_data.miniature.dataset import SPLITS, asked_about, videos_of
from sevila_data.miniature.experiment import made_on, make_bases, once, workers_of
from sevila_data.miniature.figures import markdown
from sevila_data.miniature.questions import MAX_OPTIONS, NUM_OPTIONS
from sevila_data.miniature.render import write_clip
from sevila_data.miniature.stages import base_folder
from sevila_data.miniature.together import NUM_STEPS, NUM_VIDEOS, train_together
from sevila_data.miniature.world import COLOURS, PLACES, SHAPES, VALUES

EMBEDDED = "embedded"
"""The folder of the embedded model, in that of the base that it is made from."""
RELEASED_BASE = 1
"""Chosen on ten validation videos: the base answers 96 % of questions right, the other one 91 %."""
_CARD = """# sevila_tiny

A SeViLA model of {parameters:.1f} million parameters that runs on any laptop, trained on a synthetic world only:
videos of six to eight scenes, each with one coloured shape that moves (or stays) in one of eight places. **It knows
nothing of natural video**: there, its answers and moments mean nothing, whatever their scores.

- It knows the shapes {shapes}; the colours {colours}; the places {places}; and left, right, up, down and still.
- It was asked nine kinds of question, such as "What colour is the star?", "Where is the red thing?", "Which shape is
  in the forest?" and "Which way does the ring move?", with two to eight options or none; whether something is shown
  ("Is there a red star?"); and moments by sentences such as "The star moves left" or "A red star". Other wordings may
  fail.
- How often it is right with each number of options and of frames is in `benchmarks/EMBEDDED.md`.
- Made by `python -m sevila_data.miniature.embedded --release FOLDER` (base {base}): language model, vision tower and
  prompter from nothing, then all but the vision tower together, on labelled videos. The paper's stages, which leave the
  language model as it is, have no part in it. What they add is shown where there is something to add, in
  `benchmarks/MINIATURE.md`.
"""

NUM_FRAMES, NUM_KEYFRAMES = 32, 4
FRAMES = (4, 8, 16, 32, 64, 128)
KEYFRAMES = (1, 2, 4, 8)
OPEN = 1
"""Stands for no options: a question with a single one cannot be asked."""
_RESAMPLES = 2000
_HEAD = """# What the embedded model holds

Written by `python -m sevila_data.miniature.embedded --videos {videos} --table benchmarks/EMBEDDED.md`
on {made_on}.

{videos} held-out videos of its world, by day, and {questions} questions, each asked again with another number of
options in another order. Accuracy in percent with 95 % intervals bootstrapped over videos. Above chance is
(accuracy - 1/n) / (1 - 1/n) for n options. There are five motions only, so questions about them are left out where
more options are asked for, and of five too in the comparison.
"""


def train_embedded(experiment: Path, *, base: int, num_videos: int = NUM_VIDEOS, num_steps: int = NUM_STEPS) -> Path:
    """Let a base learn together what the page offers, unless it has; return its folder."""
    shared = base_folder(experiment, base)
    folder = shared / EMBEDDED

    def train() -> None:
        model = SeViLA.from_pretrained(shared / "base")
        use_plain_attention(model)
        train_together(model, experiment / "data", seed=0, num_videos=num_videos, num_steps=num_steps)
        model.save_pretrained(folder)

    once(shared, EMBEDDED, folder / "model.safetensors", train)
    return folder


def release(
    experiment: Path,
    folder: Path,
    *,
    base: int = RELEASED_BASE,
    num_videos: int = NUM_VIDEOS,
    num_steps: int = NUM_STEPS,
) -> None:
    """Make the embedded model from its base, and save it with a card that says what it knows."""
    model = SeViLA.from_pretrained(train_embedded(experiment, base=base, num_videos=num_videos, num_steps=num_steps))
    model.save_pretrained(folder)
    card = _CARD.format(
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        shapes=", ".join(SHAPES),
        colours=", ".join(COLOURS),
        places=", ".join(PLACES),
        base=base,
    )
    write_text(folder / "MODEL_CARD.md", card.rstrip() + "\n")


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
    Setting(options=OPEN),
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
    """Ask about one of the test videos, which is put into the folder, in every setting."""
    torch.set_num_threads(1)
    loaded = load_model("sevila", model, device="cpu")
    video = list(videos_of("test", number + 1, seed=seed))[number]
    write_clip(folder / f"{video.name}.mp4", video)
    found = []
    for frames in sorted({setting.frames for setting in settings}):
        watched = loaded.watch(folder / f"{video.name}.mp4", num_frames=frames)
        for setting in (setting for setting in settings if setting.frames == frames):
            given = asked_about("test", number, video, seed=seed, num_options=max(setting.options, 2))
            questions = [question for question in given if setting.options <= len(VALUES[str(question.kind)])]
            shown = [replace(question, options=()) for question in questions] if setting.options == OPEN else questions
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
    """Return the accuracy, a share, with chance taken out: 1 stays 1, chance becomes 0; open answers have none."""
    if num_options == OPEN:
        return accuracy
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
    open_rows = by[Setting(options=OPEN)]
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
            _HEAD.format(videos=len({row.video for row in five}), questions=len(five), made_on=made_on()),
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
    parser = argparse.ArgumentParser(
        description="Make the embedded model, and ask it in all ways that the page offers."
    )
    parser.add_argument("--output", type=Path, default=Path("output/miniature"), help="the miniature's folder")
    parser.add_argument("--release", type=Path, help="make the model, and save it here with its card")
    parser.add_argument("--model", default="tiny", help="what is asked, unless one is released")
    parser.add_argument("--videos", type=int, default=SPLITS["test"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--json", type=Path, help="file for what became of each question")
    given = parser.parse_args(arguments)
    if given.release:
        given.output.mkdir(parents=True, exist_ok=True)
        make_bases(given.output, [RELEASED_BASE], workers=given.workers)
        with workers_of(given.output, 1) as pool:
            pool.submit(release, given.output, given.release).result()
    model = str(given.release or given.model)
    with TemporaryDirectory() as folder:
        found = measure(Path(folder), model=model, seed=0, num_videos=given.videos, workers=given.workers)
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

"""Whether all ways answer alike: the embedded model, trained, on held-out videos of its world.

What they are held against is plain fp32; one of them is the published procedure. Other sizes have no trained weights
here, so that random ones learn the questions by heart first (`benchmarks.align`).
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import lavis
from benchmarks.align import save_aligned
from benchmarks.fixtures import as_published
from benchmarks.measure import set_threads
from benchmarks.published import PublishedProcedure
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.variants import PLAIN, SIZES, VARIANTS, Variant
from lavis.common.types import Answer, Floats, Integers, Question
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.dataset import asked_about, videos_of
from sevila_data.miniature.render import write_clip

SUMMARY = "Answers of the published procedure, of lower precision and of fewer language-model calls, beside plain fp32."

PUBLISHED = "published"
COMPARED = (PLAIN.name, "fp32+coarse_to_fine", "bf16", "bf16+coarse_to_fine", "fp32+int8", "bf16+int4")
_SEED = 0
# A clip of the miniature, and the questions about it, with the right answers.
Asked = tuple[Path, Sequence[Question]]


@dataclass(frozen=True)
class Given:
    """One answer: the option, the frames that were read, and the score of each frame, NaN where there is none."""

    index: int | None
    positions: Integers
    scores: Floats


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many questions and frames."""
    parser.add_argument("--videos", type=int, default=15, help="held-out videos, 8 questions each (default: 15)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames watched (default: 32)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames read (default: 4)")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=tuple(VARIANTS),
        default=list(COMPARED),
        metavar="NAME",
        help="beside plain fp32",
    )
    parser.add_argument(
        "--steps", type=int, default=500, help="of learning the questions, at sizes that are not tiny (default: 500)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    set_threads(args.threads)
    names = list(dict.fromkeys([PLAIN.name, *args.variants]))  # everything is beside the plain way
    variants = {
        name: VARIANTS[name] for name in names if not VARIANTS[name].quantize or importlib.util.find_spec("torchao")
    }
    with tempfile.TemporaryDirectory() as temporary:
        asked = held_out(Path(temporary), args.videos)
        weights = _weights(Path(temporary), asked, args)
        results = {name: ask(weights, variant, asked, args) for name, variant in variants.items()}
        results[PUBLISHED] = ask_as_published(weights, asked, args)
    right = [question.answer for _, questions in asked for question in questions]
    exact, _ = results[PLAIN.name]
    figures = {name: _figures(answers, exact, right, spent) for name, (answers, spent) in results.items()}
    device = torch.device(args.device)
    show_machine(device)
    rows = [[name, *_cells(row)] for name, row in figures.items()]
    headings = ["", "right", "same answers", "same frames", "frames scored", "mean difference of scores"]
    show_table([*headings, "CPU time per question"], rows)
    write_figures(args.json, {"questions": len(right), "ways": figures}, device=device)


def held_out(folder: Path, count: int) -> list[Asked]:
    """Render the first test videos, with their questions."""
    asked: list[Asked] = []
    for number, video in enumerate(videos_of("test", count, seed=_SEED)):
        path = folder / f"{video.name}.mp4"
        write_clip(path, video)
        asked.append((path, asked_about("test", number, video, seed=_SEED)))
    return asked


def _weights(folder: Path, asked: Sequence[Asked], args: argparse.Namespace) -> str:
    """Return what to load: the embedded model, or the folder of one that has learned what is asked."""
    if SIZES[args.size] == "tiny":
        return "tiny"
    save_aligned(
        folder / "weights",
        args.size,
        asked,
        num_steps=args.steps,
        num_frames=args.num_frames,
        num_keyframes=args.num_keyframes,
        device=torch.device(args.device),
    )
    return str(folder / "weights")


def ask(weights: str, variant: Variant, asked: Sequence[Asked], args: argparse.Namespace) -> tuple[list[Given], float]:
    """Answer everything with one variant; return the answers and the processor seconds of a question."""
    model = lavis.load_model("sevila", weights, device=args.device, dtype=variant.dtype, quantize=variant.quantize)
    answers: list[Answer] = []
    spent = 0.0
    for path, questions in asked:
        video = model.watch(path, num_frames=args.num_frames)
        started = time.process_time()
        answers += video.ask_all(list(questions), num_keyframes=args.num_keyframes, selector=variant.selector)
        spent += time.process_time() - started
    given = [Given(one.index, one.keyframes.positions, one.keyframes.all_scores) for one in answers]
    return given, spent / len(given)


def ask_as_published(weights: str, asked: Sequence[Asked], args: argparse.Namespace) -> tuple[list[Given], float]:
    """Answer everything by the published procedure in fp32, each question from the file; returned as by `ask`."""
    loaded = lavis.load_model("sevila", weights, device=args.device, dtype=PLAIN.dtype)
    assert isinstance(loaded, SeViLA)
    model = as_published(loaded, attention="eager")
    given: list[Given] = []
    spent = 0.0
    for path, questions in asked:
        batch = list(questions)
        sizes = {"num_frames": args.num_frames, "num_keyframes": args.num_keyframes}
        procedure = PublishedProcedure(model, video=path, batch=batch, **sizes)
        started = time.process_time()
        answers = [procedure(number, question) for number, question in enumerate(batch)]
        spent += time.process_time() - started
        given += [Given(answer.index, answer.positions, answer.scores) for answer in answers]
    return given, spent / len(given)


def _figures(answers: list[Given], plain: list[Given], right: list[int | None], spent_s: float) -> dict[str, float]:
    pairs = list(zip(answers, plain, strict=True))
    scores, exact = (np.concatenate([answer.scores for answer in side]) for side in (answers, plain))
    return {
        "right": float(np.mean([answer.index == index for answer, index in zip(answers, right, strict=True)])),
        "same_answers": float(np.mean([ours.index == theirs.index for ours, theirs in pairs])),
        "same_frames": float(np.mean([np.array_equal(ours.positions, theirs.positions) for ours, theirs in pairs])),
        "scored": float(np.mean(~np.isnan(scores))),
        "score_difference": float(np.nanmean(np.abs(scores - exact))),
        "cpu_s": spent_s,
    }


def _cells(row: dict[str, float]) -> list[str]:
    shares = [f"{row[name]:.1%}" for name in ("right", "same_answers", "same_frames", "scored")]
    return [*shares, f"{row['score_difference']:.2g}", seconds(row["cpu_s"])]

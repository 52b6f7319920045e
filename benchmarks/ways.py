"""Which files of the package one question, one training batch and one evaluation pass through."""

import argparse
import inspect
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import lavis
from benchmarks.report import write_figures
from lavis.cli.main import main
from lavis.common.files import checkpoints_dir, configs_dir
from lavis.runners.evaluation.evaluator import Evaluator
from lavis.runners.trainer import Updater

SUMMARY = "Files of the package in which a function runs: one question, one training batch, one evaluation."
_PACKAGE = Path(lavis.__file__).parent
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Way:
    """The files that something passed through, relative to the package, in alphabetical order."""

    name: str
    files: tuple[str, ...]


class Segments:
    """Files in which a function was called, in segments: each call of `cut`, or of what it yields, begins the next one.

    What runs while a file of the package is imported (its top level, class bodies, what these call) is not counted.

    Args:
        cut: a function of the package; None makes one segment.
    """

    def __init__(self, *, cut: Callable[..., Any] | None = None) -> None:
        self._cut = None if cut is None else inspect.unwrap(cut).__code__
        self._seen: list[set[CodeType]] = [set()]

    @property
    def files(self) -> list[set[str]]:
        """The files of each segment, relative to the package."""
        return [{_inside(code) for code in seen} for seen in self._seen]

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while the block runs, in all threads that it starts too."""
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _called(self, frame: FrameType, event: str, _value: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(f"{_PACKAGE}{os.sep}"):
            return
        if code is self._cut:
            self._seen.append(set())
        if code not in self._seen[-1] and code.co_flags & inspect.CO_OPTIMIZED and not _is_import(frame):
            self._seen[-1].add(code)


def _inside(code: CodeType) -> str:
    return Path(code.co_filename).relative_to(_PACKAGE).as_posix()


def _is_import(frame: FrameType | None) -> bool:
    """Tell whether a frame runs because a file of the package is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(f"{_PACKAGE}{os.sep}"):
            return True
        frame = frame.f_back
    return False


def question_way(folder: Path) -> list[Way]:
    """Ask the embedded model one question about one of its clips, from opening the file to the answer."""
    asked = _clips()[0]["questions"][0]
    model, segments = lavis.load_model("sevila", "tiny", device="cpu"), Segments()
    with segments.counting():
        model.watch(_write_data(folder) / "videos" / _clips()[0]["video"]).ask(asked["question"], asked["options"])
    return [_way("question", *segments.files)]


def batch_way(folder: Path) -> list[Way]:
    """Fine-tune the embedded model's Answerer; a batch is what happens between two forward passes: all of a step."""
    segments = Segments(cut=Updater.accumulate)
    _run_recipe("train", "finetune", folder, segments, ("run.max_iters=4", "run.valid_splits=[]", "run.test_splits=[]"))
    return [_way("training batch", segments.files[2])]


def evaluation_way(folder: Path) -> list[Way]:
    """Evaluate the embedded model: the whole command, and what of it comes once the model and the data are there."""
    segments = Segments(cut=Evaluator.predictions)
    _run_recipe("evaluate", "inference", folder, segments)
    return [_way("evaluation", *segments.files), _way("evaluation, from the first question on", *segments.files[1:])]


WAYS: dict[str, Callable[[Path], list[Way]]] = {
    "question": question_way,
    "batch": batch_way,
    "evaluation": evaluation_way,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which of them."""
    parser.add_argument("--only", choices=tuple(WAYS), help="one of them (default: all three)")


def run(args: argparse.Namespace) -> None:
    """List and count the files, each way in a process of its own, and write them down."""
    ways = [way for name in ([args.only] if args.only else WAYS) for way in apart(name)]
    for way in ways:
        print(f"{way.name}: {len(way.files)} files")
        print(*(f"  {file}" for file in way.files), sep="\n")
    write_figures(args.json, {"ways": [asdict(way) for way in ways]}, device=torch.device(args.device))


def apart(name: str) -> list[Way]:
    """Run one of `WAYS` in a new process, where nothing is remembered of another one."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        return pool.submit(WAYS[name], Path(folder)).result()


def _way(name: str, *files: set[str]) -> Way:
    return Way(name, tuple(sorted(set().union(*files))))


def _run_recipe(command: str, stage: str, folder: Path, segments: Segments, options: Sequence[str] = ()) -> None:
    """Run a published recipe for NExT-QA on the embedded model and its clips."""
    data = _write_data(folder)
    settings = [
        "model.model_type=tiny",
        "model.dtype=fp32",
        *(f"datasets.nextqa.vis_processor.{split}.n_frms=8" for split in ("train", "eval")),
        f"datasets.nextqa.build_info.videos.storage={data / 'videos'}",
        *(f"datasets.nextqa.build_info.annotations.{split}.storage={data / f'{split}.json'}" for split in _SPLITS),
        f"run.output_dir={folder / 'run'}",
        "run.device=cpu",
        "run.num_workers=0",
        *options,
    ]
    if command == "train":
        settings += ["run.batch_size_train=2", "run.accum_grad_iters=1", "run.amp=false"]
    with segments.counting():
        code = main([command, "--cfg-path", str(configs_dir() / f"sevila/{stage}/nextqa.yaml"), "--options", *settings])
    if code:
        raise RuntimeError(f"sevila {command} ended with the exit code {code}")


def _clips() -> list[dict[str, Any]]:
    clips: list[dict[str, Any]] = json.loads((checkpoints_dir() / "clips" / "questions.json").read_text("utf-8"))
    return clips


def _write_data(folder: Path) -> Path:
    """Lay the embedded model's clips and their questions out as a dataset, the same in every split."""
    data = folder / "data"
    shutil.copytree(checkpoints_dir() / "clips", data / "videos")
    rows = [
        {
            "video": Path(clip["video"]).stem,
            "qid": f"{asked['type']}_{number}_{place}",
            "question": asked["question"],
            "num_option": len(asked["options"]),
            **{f"a{option}": text for option, text in enumerate(asked["options"])},
            "answer": asked["answer"],
        }
        for number, clip in enumerate(_clips())
        for place, asked in enumerate(clip["questions"])
    ]
    for split in _SPLITS:
        (data / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    return data

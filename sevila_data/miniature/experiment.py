"""The paper in miniature, from nothing: data, base, three stages of training for each seed, and the table.

`python -m sevila_data.miniature.experiment --output output/miniature --table benchmarks/MINIATURE.md`

What is finished in the output folder is not made again, so an interrupted run goes on where it stopped. Parts that do
not need each other are made side by side, each on one core.
"""

import argparse
import importlib.metadata
import json
import logging
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lavis.common.files import write_text
from lavis.common.logging import start_logging
from lavis.runners.provenance import run_facts
from sevila_data.miniature.base import make_base, make_language, make_vision
from sevila_data.miniature.dataset import EVENING, write_dataset
from sevila_data.miniature.figures import Measured, render_table, summarise
from sevila_data.miniature.measure import HeldOut, localize, measure_run
from sevila_data.miniature.stages import STAGES, Run, base_folder

logger = logging.getLogger(__name__)

_DATA_SEED = 0  # all bases and seeds learn from the same videos and are measured on the same


def once(folder: Path, name: str, result: Path, make: Callable[[], Any]) -> None:
    """Make a part unless its result is there, and note how many seconds it took."""
    if result.is_file():
        logger.info("%s is there already", name)
        return
    started = time.monotonic()
    make()
    write_text(folder / "seconds" / name, f"{time.monotonic() - started:.1f}\n")


def seconds_in(folder: Path) -> dict[str, float]:
    """Return how long each part in a folder took."""
    return {file.name: float(file.read_text()) for file in sorted((folder / "seconds").glob("*"))}


def make_data(experiment: Path) -> None:
    """Make the data set, which all bases share."""
    data = experiment / "data"
    once(experiment, "data", data / "moments/test.json", lambda: write_dataset(data, seed=_DATA_SEED))


def learn_language(experiment: Path, base: int) -> None:
    """Make the language model of a base."""
    shared = base_folder(experiment, base)
    folder = shared / "language"
    once(shared, "language", folder / "config.json", lambda: make_language(folder, seed=base))


def learn_vision(experiment: Path, base: int) -> None:
    """Make the vision tower of a base from the base videos."""
    shared = base_folder(experiment, base)
    folder = shared / "vision"
    learn = partial(make_vision, folder, experiment / "data", data_seed=_DATA_SEED, seed=base)
    once(shared, "vision", folder / "config.json", learn)


def join_base(experiment: Path, base: int) -> None:
    """Join language model and vision tower to a base."""
    shared = base_folder(experiment, base)
    parts = (experiment / "data", shared / "language", shared / "vision")
    join = partial(make_base, shared / "base", *parts, data_seed=_DATA_SEED, seed=base)
    once(shared, "base", shared / "base/config.json", join)


def train_stages(run: Run) -> None:
    """Train the stages of one seed, as far as that is not done yet."""
    for name in STAGES:
        once(run.folder, name, run.folder / name / "best/model.safetensors", partial(run.train, name))


def measure(run: Run, max_videos: int | None) -> Measured:
    """Measure the stages of one seed on the test videos."""
    file = run.folder / "figures.json"
    once(run.folder, "measure", file, lambda: measure_run(run, max_videos=max_videos).save(file))
    return Measured.load(file)


def workers_of(experiment: Path, workers: int) -> ProcessPoolExecutor:
    """Start processes of one core each."""
    fresh = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=fresh, initializer=start_worker, initargs=(experiment,))


def make_bases(experiment: Path, bases: Sequence[int], *, workers: int) -> None:
    """Make the data and the bases, as far as they are not there yet."""
    with workers_of(experiment, workers) as pool:
        data = pool.submit(make_data, experiment)
        languages = [pool.submit(learn_language, experiment, base) for base in bases]
        data.result()
        list(pool.map(partial(learn_vision, experiment), bases))
        for language in languages:
            language.result()
        list(pool.map(partial(join_base, experiment), bases))


def run_all(
    experiment: Path, bases: Sequence[int], seeds: Sequence[int], *, workers: int, max_videos: int | None
) -> list[Measured]:
    """Make everything that is not there yet, and return what each seed's models reach on each base."""
    runs = [Run(experiment, base=base, seed=seed) for seed in seeds for base in bases]
    make_bases(experiment, bases, workers=workers)
    with workers_of(experiment, workers) as pool:

        def side_by_side(work: Callable[..., Any], over: Sequence[Run]) -> list[Any]:
            return list(pool.map(work, over))

        side_by_side(train_stages, runs)
        # What no stage has touched is scored once for each base, before the runs need it side by side.
        untrained = [run for run in runs if run.seed == seeds[0]]
        side_by_side(partial(localize_untrained, max_videos=max_videos), untrained)
        return side_by_side(partial(measure, max_videos=max_videos), runs)


def localize_untrained(run: Run, *, max_videos: int | None) -> None:
    """Let a base's Localizer score all frames; `measure` reads what it found."""
    localize(run, HeldOut(run.data, max_videos=max_videos), "untrained")


def start_worker(experiment: Path) -> None:
    """Prepare a worker: one core, its own log, and the folder under the name that the recipes know."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    os.environ["SEVILA_MINIATURE"] = str(experiment)
    log = experiment / f"log_{os.getpid()}.txt"
    logging.basicConfig(level=logging.INFO, format="%(message)s", filename=log)
    start_logging(file=log)


def made_on() -> str:
    """Say by which machine, versions and commit."""
    facts = run_facts(seed=0, processes=1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "numpy"))
    cpu = f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores"
    return f"{cpu}, Python {platform.python_version()}, {versions}, commit {(facts['commit'] or 'unknown')[:9]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment, write its figures and, if asked, the table."""
    parser = argparse.ArgumentParser(description="Run the paper in miniature, from nothing.")
    parser.add_argument("--output", type=Path, default=Path("output/miniature"))
    parser.add_argument("--bases", type=int, nargs="+", default=[0, 1], help="numbers, and seeds, of the bases")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the stages, on each base")
    parser.add_argument("--workers", type=int, default=2, help="parts made side by side, each on one core")
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--remark", default="", help="a sentence for table and card about how this run was made")
    parser.add_argument("--test-videos", type=int, help="measure on so many of the test videos; all by default")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    measured = run_all(given.output, given.bases, given.seeds, workers=given.workers, max_videos=given.test_videos)
    figures = summarise(measured)
    runs = [Run(given.output, base=base, seed=seed) for seed in given.seeds for base in given.bases]
    shared = seconds_in(given.output) | seconds_in(runs[0].base_folder)
    seconds = {"shared": shared, "seeds": [seconds_in(run.folder) for run in runs]}
    figures |= {"seeds": given.seeds, "seconds": seconds, "remark": given.remark, "made_on": made_on()}
    figures["hue_degrees"] = EVENING.hue_degrees
    write_text(given.output / "figures.json", json.dumps(figures, indent=2) + "\n")
    if given.table:
        write_text(given.table, render_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

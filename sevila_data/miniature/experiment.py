"""The paper in miniature, from nothing: data, base, three stages of training, and the table.

`python -m sevila_data.miniature.experiment --output output/miniature --table benchmarks/MINIATURE.md`

What is finished in the output folder is not made again, so an interrupted run goes on where it stopped.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lavis.common.distributed import join_world
from lavis.common.files import write_text
from lavis.common.logging import start_logging
from lavis.common.paths import configs_dir
from lavis.models.sevila.loading import load_sevila
from lavis.models.sevila.model import SeViLA
from lavis.runners.build import build_runner
from lavis.runners.config import load_train_config
from lavis.runners.weights import lay_over
from sevila_data.miniature.base import make_base
from sevila_data.miniature.dataset import write_dataset
from sevila_data.miniature.measure import BEST, LOCALIZERS, measure_all
from sevila_data.miniature.release import release
from sevila_data.miniature.table import render_table

logger = logging.getLogger(__name__)

# Each stage: its recipe, and what its recipe does not say.
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "pretrain": ("pretrain", ()),
    "refine": ("refine", ()),
    "refine_only": ("refine", ("model.finetuned=null",)),
    "finetune": ("finetune", ()),
    "finetune_random": ("finetune", ("model.finetuned=null", "model.training_selector=random")),
}


class Experiment:
    """One run of the miniature in its folder.

    Args:
        folder: holds data, models, logs and figures.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.folder, self._seed = folder, seed
        self._seconds_file = folder / "seconds.json"

    @property
    def seconds(self) -> dict[str, float]:
        """How long each part took."""
        found: dict[str, float] = json.loads(self._seconds_file.read_text()) if self._seconds_file.is_file() else {}
        return found

    def make(self) -> None:
        """Make data, base and stages, as far as they are not there yet."""
        folder, seed = self.folder, self._seed
        self._once("data", folder / "data/moments/test.json", lambda: write_dataset(folder / "data", seed=seed))
        self._once("base", folder / "base/config.json", lambda: make_base(folder / "base", folder / "data", seed=seed))
        for name in STAGES:
            self._once(name, folder / name / "best/model.safetensors", lambda name=name: self._train(name))  # type: ignore[misc]

    def model(self, *stages: str) -> SeViLA:
        """Load the base with the weights of stages laid over it."""
        model = load_sevila(self.folder / "base")
        for stage in stages:
            lay_over(model, self.folder / stage / "best")
        return model.eval()

    def _train(self, name: str) -> None:
        recipe, options = STAGES[name]
        output = f"run.output_dir={self.folder / name}"
        path = configs_dir() / "sevila" / "miniature" / f"{recipe}.yaml"
        config = load_train_config(path, options=[*options, output, f"run.seed={self._seed}"])
        with join_world(device="cpu") as world:
            build_runner(config, world).run()

    def _once(self, name: str, result: Path, make: Callable[[], Any]) -> None:
        if result.is_file():
            logger.info("%s is there already", name)
            return
        started = time.monotonic()
        make()
        spent = {**self.seconds, name: time.monotonic() - started}
        write_text(self._seconds_file, json.dumps(spent, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment, write its figures and, if asked, the table."""
    parser = argparse.ArgumentParser(description="Run the paper in miniature, from nothing.")
    parser.add_argument("--output", type=Path, default=Path("output/miniature"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--release", type=Path, help="folder to save the trained model to, with its card")
    parser.add_argument("--remark", default="", help="a sentence for table and card about how this run was made")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--test-videos", type=int, help="measure on so many of the test videos; all by default")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start_logging(file=given.output / "log.txt", quiet=False)
    # The recipes find the experiment's folder by this name.
    os.environ["SEVILA_MINIATURE"] = str(given.output)
    experiment = Experiment(given.output, seed=given.seed)
    experiment.make()
    figures = measure_all(experiment, max_videos=given.test_videos)
    figures |= {"seed": given.seed, "seconds": experiment.seconds, "remark": given.remark}
    write_text(given.output / "figures.json", json.dumps(figures, indent=2) + "\n")
    if given.release:
        release(experiment.model(*LOCALIZERS[BEST], "finetune"), given.release, figures)
    if given.table:
        write_text(given.table, render_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

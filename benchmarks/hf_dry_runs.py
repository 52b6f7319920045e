"""What the recipes of configs/hf take of this machine, by their own dry runs.

Weights are random, of the shapes of published models; the data set is as long as the published one, and every question
is about one film of 40 s. So what is decoded, computed and kept is what a run would decode, compute and keep.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.film import film
from benchmarks.fixtures import questions
from benchmarks.hf_costs import QUESTIONS
from benchmarks.hf_fixtures import SHAPES, hf_model_of
from benchmarks.report import show_machine, show_table, write_figures
from lavis.common.errors import UserError
from lavis.common.files import configs_dir
from lavis.runners.config import load_train_config
from sevila_data.dataset import option_fields

SUMMARY = "Memory and time that dry runs of the recipes for image-text models expect, with random weights."
SIZES = SHAPES

_FILM_S = 40
_RECIPES = ("pretrain/qvh", "refine/nextqa", "finetune/nextqa")
# What a dry run prints, and the names that its figures get.
_FIGURES = {
    "memory": r"^memory: (\S+ MiB)$",
    "reading a step": r"reading (\S+ s)",
    "a step": r" step (\S+ s);",
    "training alone": r"training alone: (\S+)$",
    "a measured question": r", (\S+ s) a question",
    "in all": r"^expected in all: (\S+)$",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which recipes are run, and how."""
    parser.add_argument(
        "--recipes", nargs="+", default=list(_RECIPES), metavar="NAME", help=f"of configs/hf (default: {_RECIPES})"
    )
    parser.add_argument("--options", nargs="+", default=[], help="overrides of all recipes: run.batch_size_train=1")


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    device = torch.device(args.device)
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_model(folder / "model", args.size, device=device)
        for recipe in args.recipes:
            found[recipe] = _dry_run(recipe, folder, args)
    show_machine(device)
    show_table([args.size, *_FIGURES], [[name, *row.values()] for name, row in found.items()])
    write_figures(args.json, {"shape": args.size, "options": args.options, "recipes": found}, device=device)


def save_model(folder: Path, shape: str, *, device: torch.device) -> None:
    """Save random weights in bf16 with their processor, as a folder that `sevila` loads."""
    model = hf_model_of(shape, dtype="bf16", device=device)
    model.network.save_pretrained(folder)
    model.backbone.processor.save_pretrained(folder)


def write_rows(path: Path, count: int, *, searches: bool) -> None:
    """Write so many questions, or moment queries, about the film."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(_rows(count, searches=searches))))


def _rows(count: int, *, searches: bool) -> Iterator[dict[str, Any]]:
    windows = [[4.0, 12.0]]
    for number, question in enumerate(questions(count)):
        shared = {"video": film(_FILM_S).stem, "qid": str(number), "duration": _FILM_S}
        if searches:
            yield {**shared, "query": question.text, "relevant_windows": windows}
        else:
            options = option_fields(question.options)
            yield {**shared, "question": question.text, **options, "answer": 0, "windows": windows}


def _dry_run(recipe: str, folder: Path, args: argparse.Namespace) -> dict[str, str]:
    """Run the command on the recipe, and return what it says."""
    path = configs_dir() / "hf" / f"{recipe}.yaml"
    name = load_train_config(path).dataset_name
    annotations = folder / name
    for split, count in QUESTIONS[name].items():
        write_rows(annotations / f"{split}.json", count, searches=name == "qvh")
    storages = (f"annotations.{split}.storage={annotations / split}.json" for split in QUESTIONS[name])
    options = [
        f"model.model_type={folder / 'model'}",
        "model.finetuned=null",
        *(f"datasets.{name}.build_info.{storage}" for storage in storages),
        f"datasets.{name}.build_info.videos.storage={film(_FILM_S).parent}",
        f"run.output_dir={folder / 'output'}",
        f"run.device={args.device}",
        *args.options,
    ]
    command = [sys.executable, "-m", "lavis", "train", "--cfg-path", str(path), "--dry-run", "--options"]
    threads = {} if args.threads is None else {"OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run(
        [*command, *options], check=False, capture_output=True, text=True, env={**os.environ, **threads}
    )
    if done.returncode:
        raise UserError(f"the dry run of hf/{recipe} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    print(f"{recipe}:\n{done.stdout}", flush=True)
    return {name: _found(pattern, done.stdout) for name, pattern in _FIGURES.items()}


def _found(pattern: str, text: str) -> str:
    """Return what a dry run says, or that it does not."""
    match = re.search(pattern, text, flags=re.MULTILINE)
    return match[1] if match else "-"

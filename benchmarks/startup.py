"""From nothing to a first answer: the embedded model and a shipped clip, each time in a new process."""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.report import seconds, show_machine, show_table, write_figures

SUMMARY = "Seconds from the start of a process to its first answer, with the embedded model."
# The words are those of the page's first example; what is asked does not matter here.
_SCRIPT = """
import json, time
started = time.perf_counter()
import lavis
from lavis.common.files import checkpoints_dir
import torch
if {threads}: torch.set_num_threads({threads})
imported = time.perf_counter()
model = lavis.load_model("sevila", "tiny", device="{device}")
loaded = time.perf_counter()
clips = checkpoints_dir() / "clips"
example = json.loads((clips / "questions.json").read_text())[0]
asked = example["questions"][0]
answer = model.watch(clips / example["video"]).ask(asked["question"], asked["options"])
answered = time.perf_counter()
print(json.dumps(dict(imports=imported - started, load=loaded - imported, answer=answered - loaded,
                      right=answer.index == asked["answer"])))
"""
_PARTS = ("imports", "load", "answer")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Nothing beside what all benchmarks have."""


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    script = _SCRIPT.format(threads=args.threads or 0, device=args.device)
    rounds = []
    for _ in range(args.repeats + 1):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        rounds.append({"whole": time.perf_counter() - started, **json.loads(done.stdout)})
    first, *further = rounds
    show_machine(torch.device(args.device))
    rows = [["first start", *_cells(first)]]
    rows.append(["median of further starts", *_cells({part: _median(further, part) for part in ("whole", *_PARTS)})])
    show_table(["", "process", "imports", "load the model", "watch and answer"], rows)
    print(f"right in {sum(start['right'] for start in rounds)} of {len(rounds)} starts")
    write_figures(args.json, {"starts": rounds}, device=torch.device(args.device))


def _cells(start: dict[str, float]) -> list[str]:
    return [seconds(start[part]) for part in ("whole", *_PARTS)]


def _median(rounds: list[dict[str, float]], part: str) -> float:
    return statistics.median(start[part] for start in rounds)

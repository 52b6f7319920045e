"""`sevila select` and `sevila frames`: files of chosen frames, made here and by others."""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import add_command, add_settings, checked_options, recipe_of, say
from lavis.common import defaults
from lavis.common.errors import ConfigError, counted

if TYPE_CHECKING:
    from lavis.runners.config import EvaluationConfig
    from lavis.selection.exchange.clock import Clock
    from lavis.selection.exchange.kinds import Named

_KINDS = "sevila, aks, focus, annotation, tspo, bolt, videoitg"
_SELECT_EXAMPLES = """examples:
  sevila select nextqa --split val --model flant5xl -k 4 --out frames.jsonl
  sevila select nextqa --split val --selector '{scorer: dual_encoder, policy: aks}' -k 8 --num-frames 64 --out aks.jsonl
  torchrun --nproc_per_node=4 -m lavis select configs/sevila/inference/star.yaml --out frames.jsonl

A selection that was stopped goes on where it was, with the same command.
"""
_CONVERT_EXAMPLES = """examples:
  sevila frames convert frames.jsonl --to aks --annotations videomme.json --out selected_frames.json
  sevila frames convert selected_frames.json --to sevila --annotations videomme.json --task videomme --out frames.jsonl
  sevila frames convert bolt.json --to sevila --annotations videomme.json --videos videos --out frames.jsonl
  sevila frames convert results.jsonl --to sevila -k 32 --out frames.jsonl

What the file is, is told by what is in it; see docs/exchange.md.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommands to the main parser's."""
    parser = add_command(
        subparsers,
        "select",
        run_select,
        help="choose frames for every question of a benchmark, for whoever answers",
        description="Choose frames for every question of a split, and write a row for each; nothing is answered.",
        examples=_SELECT_EXAMPLES,
    )
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a benchmark, such as nextqa, or a recipe (.yaml)")
    add("--out", type=Path, required=True, metavar="FILE", help="the JSONL file that is written")
    add("--selector", metavar="SELECTOR", help="a name, or YAML such as '{scorer: motion, policy: aks}'")
    add("-k", type=int, metavar="K", help="frames to choose (default: the selector's or recipe's, or 4)")
    add("--split", metavar="SPLIT", help="train, val or test (default: the recipe's, or test)")
    watched = f"frames to choose from (default: the recipe's, or {defaults.NUM_FRAMES})"
    add("--num-frames", type=int, metavar="T", help=watched)
    add("--task", metavar="NAME", help="what rows call the benchmark (default: the dataset's name)")
    add("--model", metavar="NAME|FOLDER|FILE", help="whose Localizer scores (default: the recipe's, or tiny)")
    add("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    add("--dtype", help="fp32, bf16 or fp16 (default: the recipe's, or fp32)")
    add("--force", action="store_true", help="start over, and replace the file")
    add_settings(parser, "settings that win over the recipe")

    actions = add_command(
        subparsers,
        "frames",
        run_nothing,
        help="convert files of chosen frames",
        description="Files of chosen frames, ours and others'.",
    ).add_subparsers(metavar="ACTION", required=True)
    convert = add_command(
        actions,
        "convert",
        run_convert,
        help="from one kind of file to another",
        description="Convert a file of chosen frames to another kind, and say what that cannot hold.",
        examples=_CONVERT_EXAMPLES,
    )
    add = convert.add_argument
    add("file", type=Path, metavar="FILE", help="of any kind")
    add("--to", required=True, metavar="KIND", help=_KINDS)
    add("--out", type=Path, required=True, metavar="FILE", help="the file that is written")
    add("--annotations", type=Path, metavar="FILE", help="the questions, where rows are told by their place or copied")
    add("--videos", type=Path, nargs="+", metavar="DIR", help="folders of the videos, which tell seconds and indices")
    add("-k", type=int, metavar="K", help="keep the best K frames of a row by score (default: all)")
    add("--task", metavar="NAME", help="what rows call the benchmark; of several in the file, the one that is meant")
    add("--force", action="store_true", help="replace the file")


def run_nothing(args: argparse.Namespace) -> int:
    """Stand for a subcommand that always has an action."""
    raise AssertionError(args)


def run_select(args: argparse.Namespace) -> int:
    """Choose frames, and say how many questions have none.

    Raises:
        FaultError: memory or disk is full, or another process has died or hangs.
        TerminatedError: SIGTERM came; what was done is saved.
    """
    from lavis.cli.runs import joined_world
    from lavis.common.files import sole_use
    from lavis.common.logging import start_logging
    from lavis.runners.evaluation.selecting import partial_folder, select_frames, without_needless_models
    from lavis.runners.provenance import check_inputs

    if args.k is not None and args.k < 1:
        raise ConfigError(f"-k is {args.k}; it must be 1 or more")
    _refuse_to_replace(args)
    config = selection_config(args)
    check_inputs(without_needless_models(config).base, splits=[config.split])
    with joined_world(config) as world, sole_use(partial_folder(args.out)) if world.is_main else nullcontext():
        start_logging(quiet=not world.is_main)
        found = select_frames(config, world, out=args.out, k=args.k, task=args.task, start_over=args.force)
        if world.is_main:
            lost = f", {found.unreadable} of them without frames" if found.unreadable else ""
            say(
                f"{config.base.dataset_name} {config.split}: {counted(found.questions, 'question')}{lost} -> {args.out}"
            )
    return 0


def selection_config(args: argparse.Namespace) -> "EvaluationConfig":
    """Return the evaluation whose frames are chosen: the options over the settings of a recipe, if one is named.

    Raises:
        ConfigError: a setting or selector that cannot be.
    """
    from lavis.common.config import typed_spec
    from lavis.runners.config import load_evaluation_config

    chosen = {
        "model": {"model_type": args.model, "dtype": args.dtype},
        "run": {"device": args.device, "test_splits": [args.split] if args.split else None},
    }
    recipe = recipe_of(args.dataset, chosen, num_frames=args.num_frames)
    if args.selector is not None:
        recipe["model"] = {**(recipe.get("model") or {}), "selector": typed_spec(args.selector, place="--selector")}
    config = load_evaluation_config(recipe, options=checked_options(args.options))
    if config.base.model.token_budget is not None:
        raise ConfigError(
            f"model.token_budget is {config.base.model.token_budget}, of an Answerer's tokens, and nothing is answered "
            "here; give model.token_budget=null, and say how many frames with -k"
        )
    return config


def run_convert(args: argparse.Namespace) -> int:
    """Convert a file, and say what is lost."""
    from dataclasses import replace

    from lavis.common.files import write_text
    from lavis.selection.exchange.kinds import check_kind, read_annotation
    from lavis.selection.exchange.reading import read_chosen
    from lavis.selection.exchange.writing import to_kind
    from lavis.selection.frames_file import write_frames

    check_kind(args.to)
    _refuse_to_replace(args)
    if args.k is not None and args.k < 1:
        raise ConfigError(f"-k is {args.k}; it must be 1 or more")
    questions: list[Named] | None = read_annotation(args.annotations) if args.annotations else None
    found = read_chosen(args.file, questions=questions, best=args.k)
    rows, notes, clock = found.rows, found.notes, _clock_of(args)
    if not any(args.task is None or row.task in (None, args.task) for row in rows):
        raise ConfigError(f"{args.file} has no row of the task {args.task!r}; its rows say {rows[0].task!r}")
    if args.to == "sevila":
        if args.task is not None:
            rows = [replace(row, task=args.task) for row in rows if row.task in (None, args.task)]
        rows = [clock.completed(row, notes) for row in rows] if args.videos else rows
        write_frames(args.out, rows)
    else:
        content = to_kind(args.to, rows, notes, path=args.file, questions=questions, task=args.task, clock=clock)
        if args.to == "videoitg":
            write_text(args.out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content))
        else:
            write_text(args.out, json.dumps(content, ensure_ascii=False) + "\n")
    say(f"{counted(len(rows), 'row')} of the kind {found.kind} -> {args.out}, of the kind {args.to}")
    for note, count in notes.items():
        say(f"  {count} {note}")
    return 0


def _clock_of(args: argparse.Namespace) -> "Clock":
    from lavis.datasets.videos import VideoFolders
    from lavis.selection.exchange.clock import Clock

    if not args.videos:
        return Clock(None)
    for folder in args.videos:
        if not folder.is_dir():
            raise ConfigError(f"--videos: there is no folder {folder}")
    return Clock(VideoFolders.from_storage([str(folder) for folder in args.videos], place="--videos").find)


def _refuse_to_replace(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.force:
        raise ConfigError(f"{args.out} is already there; choose another --out, or replace it with --force")

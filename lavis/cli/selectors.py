"""`sevila compare-selectors`: ways to choose frames, on the same questions and with the same Answerer."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import (
    add_cache_options,
    add_command,
    add_settings,
    add_speed_options,
    cache_of,
    checked_options,
    recipe_of,
    say,
)
from lavis.common import defaults
from lavis.common.errors import ConfigError

if TYPE_CHECKING:
    from lavis.runners.config import EvaluationConfig

_EXAMPLES = """examples:
  sevila compare-selectors nextqa --split val --model flant5xl --selectors localizer uniform aks --k 1 2 4 8
  sevila compare-selectors nextqa --split val --selectors localizer '{scorer: motion, policy: aks, label: by motion}'
  sevila compare-selectors configs/sevila/selectors/nextqa.yaml --options comparison.k=[8] run.output_dir=output/eight

A comparison that was stopped goes on where it was, with the same command; more selectors may be named then.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "compare-selectors",
        run_compare_selectors,
        help="compare ways to choose frames on a benchmark",
        description="Answer every question of a split from the frames of every selector, and compare in pairs.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a benchmark, such as nextqa, or a recipe (.yaml)")
    what = "names, or YAML such as '{scorer: motion, policy: aks, label: NAME}'"
    add("--selectors", nargs="+", action="extend", metavar="SELECTOR", help=what)
    add("--k", type=int, nargs="+", metavar="K", help="numbers of frames (default: the recipe's, or 4)")
    add("--split", metavar="SPLIT", help="train, val or test (default: the recipe's, or test)")
    watched = f"frames to choose from (default: the recipe's, or {defaults.NUM_FRAMES})"
    add("--num-frames", type=int, metavar="T", help=watched)
    add("--max-videos", type=int, metavar="N", help="only the questions about the first N videos")
    add("--out", type=Path, metavar="FOLDER", help="for the results (default: the recipe's run.output_dir, or output)")
    add("--page", type=Path, metavar="FILE", help="write the page here too, as Markdown")
    add("--model", metavar="NAME|FOLDER|FILE", help="as of other commands (default: the recipe's, or tiny)")
    add("--localizer", metavar="MODEL", help="another model, which scores frames where no scorer is named")
    add("--answerer", metavar="MODEL", help="another model, which answers")
    add("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    add("--dtype", help="fp32, bf16 or fp16 (default: the recipe's, or fp32)")
    add_settings(parser, "settings that win over the recipe")
    add_speed_options(parser)
    add_cache_options(parser, on=False)


def run_compare_selectors(args: argparse.Namespace) -> int:
    """Compare, and print the page.

    Raises:
        FaultError: memory or disk is full, or another process has died or hangs.
        TerminatedError: SIGTERM came; what was done is saved.
    """
    from lavis.cli.runs import joined_world, logged_in, usable_folder
    from lavis.common.files import write_text
    from lavis.runners.evaluation.comparison import FIGURES, PAGE, PICTURE, compare_selectors, comparison_of
    from lavis.runners.provenance import check_inputs

    if args.max_videos is not None and args.max_videos < 1:
        raise ConfigError(f"--max-videos is {args.max_videos}; it must be 1 or more")
    config = comparison_config(args)
    comparison_of(config)
    check_inputs(config.base, splits=[config.split])
    folder = usable_folder(config)
    frame_cache = cache_of(args)
    with joined_world(config) as world, logged_in(folder, world, remarks=config.base.remarks):
        compare_selectors(
            config,
            world,
            cache=frame_cache,
            quantize=args.quantize,
            compiled=args.compile,
            max_videos=args.max_videos,
        )
        if world.is_main:
            page = (folder / PAGE).read_text(encoding="utf-8")
            if args.page is not None:
                write_text(args.page, page)
            say(page)
            say(f"written to {folder}: {PAGE}, {FIGURES}, {PICTURE}, and an evaluation of each selector in selectors/")
    return 0


def comparison_config(args: argparse.Namespace) -> "EvaluationConfig":
    """Return the configuration that the command line comes to: its options over those of a recipe, if it names one.

    Raises:
        ConfigError: a setting or selector that cannot be.
    """
    from lavis.common.config import typed_spec
    from lavis.runners.config import load_evaluation_config

    chosen = {
        "model": {"model_type": args.model, "dtype": args.dtype},
        "chain": {"scorer": args.localizer, "answerer": args.answerer},
        "run": {
            "device": args.device,
            "output_dir": None if args.out is None else str(args.out),
            "test_splits": [args.split] if args.split else None,
        },
        "comparison": {"k": args.k},
    }
    recipe = recipe_of(args.dataset, chosen, num_frames=args.num_frames)
    if args.selectors:  # in place of the recipe's, not among them
        specs = [typed_spec(text, place="--selectors") for text in args.selectors]
        recipe["comparison"] = {**(recipe.get("comparison") or {}), "selectors": specs}
    return load_evaluation_config(recipe, options=checked_options(args.options), further_sections=("comparison",))

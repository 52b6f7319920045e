"""`sevila train`: train a part of the model, on one process or, under torchrun, on many."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.options import add_command, add_settings, checked_options
from lavis.cli.show import announce, say

if TYPE_CHECKING:
    from lavis.common.distributed import World
    from lavis.runners.config import TrainConfig

_EXAMPLES = """examples:
  sevila train --cfg-path configs/sevila/refine/nextqa.yaml --dry-run
  sevila train --cfg-path configs/sevila/finetune/nextqa.yaml --options run.output_dir=output/ft run.batch_size_train=4
  torchrun --nproc_per_node=4 train.py --cfg-path configs/sevila/pretrain/qvh.yaml
  sevila train --cfg-path configs/sevila/refine/nextqa.yaml configs/sevila/finetune/nextqa.yaml --iterations 2
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "train",
        run,
        help="train a stage from a recipe",
        description="Train what a recipe names. Every setting, with its default, is in configs/default.yaml.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--cfg-path", required=True, nargs="+", metavar="YAML", help="the recipe; several are run one after another"
    )
    add_settings(parser, "settings that win over the recipe, such as run.init_lr=1e-5")
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="run the recipes N times over (default: run.iterations, which is 1)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="build everything, run one step, and report; no training"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or show what would be trained.

    Raises:
        FaultError: memory or disk is full, or another process has died or hangs.
        TerminatedError: SIGTERM came; what was done is saved.
        UserError: see `lavis.runners.build.build_runner` and `lavis.runners.trainer.Runner.run`.
    """
    from lavis.common.distributed import join_world
    from lavis.common.logging import start_logging
    from lavis.common.processes import sole_use
    from lavis.runners.build import num_iterations, stages_in_order, used_splits
    from lavis.runners.config import MOMENTS, evaluation_of, load_train_config, task_of
    from lavis.runners.dry_run import dry_evaluation, dry_run
    from lavis.runners.faults import ended_readers, explained
    from lavis.runners.provenance import check_inputs
    from lavis.tasks.build import require_objective

    options = checked_options(args.options)
    recipes = [load_train_config(path, options=options, further_sections=(MOMENTS,)) for path in args.cfg_path]
    for recipe in recipes:
        if recipe.run.evaluate:
            check_inputs(recipe, splits=[evaluation_of(recipe).split])
        else:
            require_objective(task_of(recipe))
            check_inputs(recipe, splits=used_splits(recipe.run))
    remarks = list(dict.fromkeys(remark for recipe in recipes for remark in recipe.remarks))
    iterations = num_iterations(recipes) if args.iterations is None else args.iterations
    stages = list(stages_in_order(recipes, iterations=iterations))
    settings = recipes[0].run
    with (
        ended_readers(),
        explained(),
        join_world(device=settings.device, timeout_s=settings.distributed_timeout_s) as world,
    ):
        if args.dry_run:
            start_logging(quiet=not world.is_main)
            announce(remarks, world)
            # Only the first stage: what later stages start from is not there yet.
            report = (dry_evaluation if stages[0].run.evaluate else dry_run)(stages[0], world)
            if world.is_main:
                say(report)
            return 0
        for number, stage in enumerate(stages):
            folder = Path(stage.run.output_dir)
            with sole_use(folder) if world.is_main else nullcontext():
                start_logging(file=folder / "log.txt" if world.is_main else None, quiet=not world.is_main)
                if number == 0:
                    announce(remarks, world)
                (_test if stage.run.evaluate else _train)(stage, world)
    return 0


def _train(config: "TrainConfig", world: "World") -> None:
    from lavis.runners.build import build_runner

    metrics = build_runner(config, world).run()
    if world.is_main:
        for split, values in metrics.items():
            say(f"{split}: {'  '.join(f'{name} {value:.4g}' for name, value in values.items())}")
        say(f"weights and figures are in {config.run.output_dir}")


def _test(config: "TrainConfig", world: "World") -> None:
    from lavis.cli.evaluate import measure, usable
    from lavis.runners.config import evaluation_of
    from lavis.runners.faults import Notice, explained

    evaluation = evaluation_of(config)
    usable(evaluation)
    with Notice().listening(), explained(batch_size="run.batch_size_eval"):
        measure(evaluation, world)

"""`sevila train`: train a part of the model, on one process or, under torchrun, on many."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lavis.common.errors import ConfigError

if TYPE_CHECKING:
    from lavis.common.distributed import World
    from lavis.runners.config import TrainConfig

_EXAMPLES = """examples:
  sevila train --cfg-path configs/sevila/refine/nextqa.yaml --dry-run
  sevila train --cfg-path configs/sevila/finetune/nextqa.yaml --options run.output_dir=output/ft run.batch_size_train=4
  torchrun --nproc_per_node=4 train.py --cfg-path configs/sevila/pretrain/qvh.yaml
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="train a stage from a recipe",
        description="Train what a recipe names. Every setting, with its default, is in configs/default.yaml.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="build everything, run one step, and report; no training"
    )
    parser.set_defaults(run=run)
    return parser


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and the settings that are changed in it."""
    parser.add_argument("--cfg-path", required=True, metavar="YAML", help="the recipe")
    parser.add_argument(
        "--options",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings that win over the recipe",
    )


def run(args: argparse.Namespace) -> int:
    """Train, or show what would be trained.

    Raises:
        UserError: see `lavis.runners.build.build_runner` and `lavis.runners.runner.Runner.run`.
    """
    from pathlib import Path

    from lavis.common.distributed import join_world
    from lavis.common.logging import start_logging
    from lavis.runners.config import load_train_config

    config = load_train_config(args.cfg_path, options=checked_options(args.options))
    with join_world(device=config.run.device, timeout_s=config.run.distributed_timeout_s) as world:
        writes_file = world.is_main and not args.dry_run
        file = Path(config.run.output_dir) / "log.txt" if writes_file else None
        start_logging(file=file, quiet=not world.is_main)
        return _dry_run(config, world) if args.dry_run else _train(config, world)


def checked_options(options: Sequence[str]) -> list[str]:
    """Return the options, each of the form key=value.

    Raises:
        ConfigError: one is not.
    """
    for option in options:
        if not option.partition("=")[0] or "=" not in option:
            raise ConfigError(f"--options {option!r} is not of the form key=value, such as run.init_lr=3e-5")
    return list(options)


def _train(config: "TrainConfig", world: "World") -> int:
    from lavis.runners.build import build_runner

    metrics = build_runner(config, world).run()
    if world.is_main:
        for split, figures in metrics.items():
            print(f"{split}: {'  '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
        print(f"weights and figures are in {config.run.output_dir}")
    return 0


def _dry_run(config: "TrainConfig", world: "World") -> int:
    from lavis.runners.dry_run import dry_run

    report = dry_run(config, world)
    if world.is_main:
        print(report)
    return 0

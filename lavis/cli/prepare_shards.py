"""`sevila prepare shards`: videos and questions of a prepared dataset, packed into tar files."""

import argparse
from pathlib import Path

from lavis.cli.options import checked_options
from lavis.cli.show import say
from lavis.common.errors import ConfigError

NAME = "shards"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only shards have."""
    group = parser.add_argument_group("for shards")
    group.add_argument("--dataset", metavar="NAME", help="the dataset, prepared before; --out is the folder of shards")
    group.add_argument("--cfg", type=Path, metavar="YAML", help="a recipe that says where the dataset is")
    group.add_argument(
        "--options", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="settings over the recipe's"
    )
    group.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: every split that is there")
    group.add_argument("--shard-mib", type=int, default=512, metavar="N", help="size of a shard (default: 512)")


def run(args: argparse.Namespace) -> int:
    """Write shards and say how to use them.

    Raises:
        UserError: see `lavis.datasets.check_setup` and `lavis.datasets.shards.ShardWriter`.
    """
    from lavis.datasets.check_setup import load_dataset_config, read_splits, storage_of
    from lavis.datasets.records import read_records
    from lavis.datasets.shards import ShardWriter, read_index

    if args.dataset is None or args.out is None:
        raise ConfigError("shards need --dataset NAME and --out DIR; see: sevila prepare --help")
    if args.shard_mib < 1:
        raise ConfigError(f"--shard-mib is {args.shard_mib}; it must be 1 or more")
    config = load_dataset_config(args.dataset, recipe=args.cfg, options=checked_options(args.options))
    splits = read_splits(args.dataset, config, splits=args.splits)
    videos = storage_of(args.dataset, config)
    writer = ShardWriter(args.out, max_mib=args.shard_mib)
    problems = {
        split: writer.write_split(split, read_records(annotations.path), videos, skip_missing=args.skip_bad)
        for split, annotations in splits.items()
    }
    writer.close()
    stored = read_index(args.out)
    for split, annotations in splits.items():
        count = len({entry.file for entry in stored if entry.split == split})
        say(f"{args.dataset} {split}: {len(annotations)} questions in {count} shards")
        if problems[split]:
            say(f"  missing videos: {len(problems[split])}, the first: {problems[split][0]}")
    place = f"datasets.{args.dataset}.build_info"
    say(f"to use them: --options {place}.videos.storage={args.out}", end="")
    say("".join(f" {place}.annotations.{split}.storage={args.out / split}.json" for split in splits))
    return 0

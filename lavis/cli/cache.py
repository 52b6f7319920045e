"""`sevila cache`: what is remembered of watched videos, and forgetting it."""

import argparse
from typing import Any

from lavis.cli.options import add_cache_folder, add_command
from lavis.cli.show import say

_MIB = 2**20


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "cache",
        run,
        help="show or clear what is remembered of watched videos",
        description="What the model saw of a video is kept on disk, so that further questions neither decode nor watch "
        "it again. The oldest goes when there is no room.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="show where it is and what it takes")
    info.add_argument("--json", action="store_true", help="print JSON and nothing else")
    for action in (info, actions.add_parser("clear", help="remove all of it")):
        add_cache_folder(action)


def run(args: argparse.Namespace) -> int:
    """Print folder, number of entries and size, or remove all entries and say how many."""
    from lavis.export import to_json
    from lavis.models.frame_cache import FrameCache

    cache = FrameCache(args.cache_dir)
    if args.action == "clear":
        removed = cache.clear()
        say(f"{cache.folder}: removed {removed.entries} watched videos, {removed.num_bytes / _MIB:.1f} MiB")
        return 0
    usage = cache.usage()
    if args.json:
        print(to_json({"folder": str(cache.folder), "videos": usage.entries, "bytes": usage.num_bytes}))
    else:
        say(f"{cache.folder}: {usage.entries} watched videos, {usage.num_bytes / _MIB:.1f} MiB")
    return 0

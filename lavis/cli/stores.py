"""`sevila cache`, `sevila models`, `sevila checkpoint`: what is kept of watched videos, and weights."""

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import add_cache_folder, add_command, make_console, say
from lavis.common.errors import EXIT_FAILURE, ConfigError, counted
from lavis.common.logging import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lavis.models.checkpoints.download import Progress as DownloadProgress

_EXAMPLES = """examples:
  sevila checkpoint fetch flant5xl                        SeViLA as published: downloads about 14 GB, makes 8.6 GB
  sevila checkpoint inspect sevila_pretrained.pth
  sevila checkpoint convert eva_vit_g.pth flan-t5-xl/ sevila_pretrained.pth --out my_model
  sevila checkpoint merge my_model trained_localizer --out better_model
  sevila checkpoint convert my_model --to published --parts localizer answerer --out sevila.pth
  sevila checkpoint verify my_model
"""
_MIB = 2**20
_SIZE = "a model size or a configuration file (default: told from the weights)"


def add_parser(subparsers: Any) -> None:
    """Add the subcommands to the main parser's."""
    parser = add_command(
        subparsers,
        "cache",
        run_cache,
        help="show or clear what is remembered of watched videos",
        description="What the model saw of a video is kept on disk, so that further questions neither decode nor watch "
        "it again. The oldest goes when there is no room.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="show where it is and what it takes")
    info.add_argument("--json", action="store_true", help="print JSON and nothing else")
    for action in (info, actions.add_parser("clear", help="remove all of it")):
        add_cache_folder(action)

    parser = add_command(
        subparsers,
        "models",
        run_models,
        help="list the model sizes, and where their weights are",
        description="List the model sizes with their numbers of parameters, and where their weights are.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")

    parser = add_command(
        subparsers,
        "checkpoint",
        run_checkpoint,
        help="fetch, inspect, convert, merge and verify weights",
        description="Fetch published weights, and turn weight files into model folders and back.",
        examples=_EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fetch = actions.add_parser("fetch", help="download published weights and assemble a model folder")
    add = fetch.add_argument
    add("name", nargs="?", metavar="NAME", help="a size or one published file; without it, list them")
    add("--from", dest="recipe", metavar="RECIPE", help="which weights, where a size has several")
    add("--out", type=Path, help="model folder (default: sevila_NAME in the checkpoint store)")
    add("--downloads", type=Path, help="folder for downloads (default: downloads in the store)")
    inspect = actions.add_parser("inspect", help="say what a weight file is, from its content")
    add = inspect.add_argument
    add("path", type=Path, metavar="PATH", help="a weight file, or a folder of them")
    add("--json", action="store_true", help="print JSON and nothing else")
    convert = actions.add_parser("convert", help="make a model folder of weight files, or published files of a model")
    add = convert.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="files or folders that complete each other")
    add("--to", choices=("sevila", "published"), default="sevila", help="naming (default: %(default)s)")
    add("--out", type=Path, required=True, help="model folder; with --to published, a .pth file")
    add("--size", help=_SIZE)
    add("--over", nargs="+", type=Path, default=[], metavar="PATH", help="files that win over PATHs")
    add("--tokenizer", type=Path, help="folder with tokenizer.json (default: looked for in PATHs)")
    add("--image-size", type=int, help="side of the frames; the position table is resized to it")
    add("--parts", nargs="+", metavar="PART", help="with --to published: parts to write (default: all)")
    merge = actions.add_parser("merge", help="lay parts, such as a trained localizer, over a model folder")
    add = merge.add_argument
    add("base", type=Path, metavar="BASE", help="a whole model folder")
    add("parts", nargs="+", type=Path, metavar="PART", help="files or folders; a later one wins")
    add("--out", type=Path, required=True, help="model folder to write")
    verify = actions.add_parser("verify", help="check hashes, completeness, shapes, and that all numbers are finite")
    add = verify.add_argument
    add("path", type=Path, metavar="PATH", help="a model folder or a weight file")
    add("--size", help=_SIZE)
    for writing in (fetch, convert, merge):
        writing.add_argument("--force", action="store_true", help="replace what is at --out")
    for assembling in (fetch, convert):
        what = "store the language model in bf16, as published code runs it, or keep its precision (default: bf16)"
        assembling.add_argument("--language-dtype", choices=("bf16", "keep"), default="bf16", help=what)


def run_cache(args: argparse.Namespace) -> int:
    """Print folder, number of entries and size, or remove all entries and say how many."""
    from lavis.export.records import to_json
    from lavis.models.frame_cache import FrameCache

    cache = FrameCache(args.cache_dir)
    if args.action == "clear":
        removed = cache.clear()
        say(f"{cache.folder}: removed {counted(removed.entries, 'watched video')}, {removed.num_bytes / _MIB:.1f} MiB")
        return 0
    usage = cache.usage()
    if args.json:
        print(to_json({"folder": str(cache.folder), "videos": usage.entries, "bytes": usage.num_bytes}))
    else:
        say(f"{cache.folder}: {counted(usage.entries, 'watched video')}, {usage.num_bytes / _MIB:.1f} MiB")
    return 0


def run_models(args: argparse.Namespace) -> int:
    """Print one row per size."""
    from lavis.export.records import to_json
    from lavis.models.loading import describe, model_zoo

    rows = [describe(size, name=name) for name, sizes in model_zoo for size in sizes]
    if args.json:
        print(to_json(rows))
        return 0
    from rich.table import Table
    from rich.text import Text

    own = Table("size", box=None, padding=(0, 2, 0, 0), header_style="dim")
    own.add_column("parameters", justify="right")
    own.add_column("weights", overflow="fold")
    hub = Table("on the Hugging Face hub", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("parameters", "download", "memory, fp32 / bf16"):
        hub.add_column(name, justify="right")
    hub.add_column("licence")
    for row in rows:
        parameters = _in_words(row["parameters"])
        if "repository" not in row:
            own.add_row(row["name"], parameters, Text(_where(row)))
            continue
        memory, doubt = row["memory_gb"], "" if row["checked"] else " *"
        sizes = (f"{row['disk_gb']:g} GB", f"{memory['fp32']:.1f} / {memory['bf16']:.1f} GB")
        hub.add_row(row["name"], parameters, *sizes, f"{row['licence']}{doubt}")
    console = make_console()
    console.print(own)
    console.print(hub)
    if any(not row.get("checked", True) for row in rows):
        say("* not all of this row could be checked with its owner; --json names the repositories")
    return 0


def _where(row: dict[str, Any]) -> str:
    note = f" ({row['note']})" if row["note"] else ""
    if row["weights"]:
        return f"{row['weights']}{note}"
    if row["status"] == "untrained":
        return f"made at random when loaded{note}"
    return f"not here; get them with: sevila checkpoint fetch {row['name']}{note}"


def _in_words(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e9:.1f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def run_checkpoint(args: argparse.Namespace) -> int:
    """Do what was asked with the functions of the model's `weight_tools`."""
    from lavis.models.loading import weight_tools

    actions = {"fetch": _fetch, "inspect": _inspect, "convert": _convert, "merge": _merge, "verify": _verify}
    return actions[args.action](args, weight_tools())


def _fetch(args: argparse.Namespace, tools: Any) -> int:
    if args.name is None:
        return _list_published(tools)
    store = tools.checkpoint_store()
    downloads = args.downloads or store / "downloads"
    with _progress() as progress:
        if args.name in tools.FILES:
            print(tools.fetch_file(tools.FILES[args.name], downloads, progress=progress, say=_say))
            return 0
        recipe = tools.find_recipe(args.name, args.recipe)
        out = args.out or store / f"sevila_{args.name}"
        if (out / "config.json").is_file() and not args.force:
            say(f"{out} is already there; check it with: sevila checkpoint verify {out}, or fetch again with --force")
            return 0
        settings = {"downloads": downloads, "language_dtype": args.language_dtype}
        made = tools.fetch_model(args.name, recipe, out, **settings, progress=progress, say=_say)
    return _show_assembled(made, out)


def _list_published(tools: Any) -> int:
    say("models:")
    for size, recipes in tools.RECIPES.items():
        for name, recipe in recipes.items():
            files = ", ".join(file.name for file in (*recipe.files, *recipe.over))
            say(f"  {size} --from {name:7} {recipe.what}: {files} -> {recipe.gigabytes} GB")
    say("files:")
    for name, file in tools.FILES.items():
        say(f"  {name:30} about {file.gigabytes} GB")
    return 0


def _inspect(args: argparse.Namespace, tools: Any) -> int:
    found = tools.inspect(args.path)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    say(f"{found['path']}: {found['kind']}")
    say(f"  fits: {', '.join(found['sizes']) or 'no known size'}")
    say(f"  {counted(found['num_tensors'], 'tensor')}, {found['num_bytes'] / 1e6:,.1f} MB")
    for part in found["parts"]:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in part["dtypes"].items())
        origin = f"  from {found['origins'][part['name']]}" if part["name"] in found["origins"] else ""
        size = f"{part['num_parameters']:>14,} parameters  {part['num_bytes'] / 1e6:>10,.1f} MB"
        say(f"  {part['name']:18} {part['num_tensors']:>5} tensors {size}  ({dtypes}){origin}")
    if found["left_out"]:
        say(f"  of no use: {counted(len(found['left_out']), 'entry', 'entries')}, such as {found['left_out'][0]}")
    say(f"  missing for a whole model: {', '.join(found['missing']) or 'nothing'}")
    return 0


def _convert(args: argparse.Namespace, tools: Any) -> int:
    _refuse_to_replace(args)
    if args.to == "published":
        if len(args.paths) > 1:
            raise ConfigError(f"--to published takes one model, not {len(args.paths)} paths")
        count = tools.export_published(args.paths[0], args.out, parts=args.parts or tools.PARTS)
        say(f"{args.out}: {counted(count, 'entry', 'entries')} under the published names")
        return 0
    if args.parts:
        raise ConfigError("--parts goes with --to published; a model folder is made of all parts")
    made = tools.convert(
        args.paths,
        args.out,
        size=args.size,
        over=args.over,
        tokenizer=args.tokenizer,
        image_size=args.image_size,
        language_dtype=args.language_dtype,
    )
    return _show_assembled(made, args.out)


def _merge(args: argparse.Namespace, tools: Any) -> int:
    _refuse_to_replace(args)
    return _show_assembled(tools.merge(args.base, args.parts, args.out), args.out)


def _verify(args: argparse.Namespace, tools: Any) -> int:
    checks, problems = tools.verify(args.path, size=args.size)
    for check in checks:
        say(f"  {check}")
    for problem in problems:
        say(f"  WRONG: {problem}")
    say(f"{args.path} is {'not sound' if problems else 'sound'}")
    return EXIT_FAILURE if problems else 0


def _refuse_to_replace(args: argparse.Namespace) -> None:
    there = args.out / "config.json" if args.out.is_dir() else args.out
    if there.exists() and not args.force:
        raise ConfigError(f"{args.out} is already there; choose another --out, or replace it with --force")


def _show_assembled(made: Any, out: Path) -> int:
    for part, origin in made.origins.items():
        say(f"  {part:18} from {origin}")
    for remark in made.remarks:
        say(f"  note: {remark}")
    say(f"{made.config.name} -> {out}")
    return 0


def _say(message: str) -> None:
    print(visible(message), file=sys.stderr)


@contextmanager
def _progress() -> "Iterator[DownloadProgress]":
    """Show how far each download is, on a terminal's standard error."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, Any] = {}
    with Progress(
        *columns, TimeRemainingColumn(), console=make_console(stderr=True), disable=not sys.stderr.isatty()
    ) as bars:

        def update(name: str, num_bytes: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=num_bytes)

        yield update

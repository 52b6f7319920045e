"""What subcommands share: how they are added, options that several have, and text for people.

rich is imported where it is used; help does without it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.common import defaults
from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.logging import visible
from lavis.common.times import parse_time

if TYPE_CHECKING:
    from rich.console import Console

    from lavis.models.frame_cache import FrameCache

TIMES = "seconds, mm:ss or hh:mm:ss"
_LEAST_WIDTH = 100


def seconds(text: str) -> float:
    """Read an option's time; see `parse_time`."""
    try:
        return parse_time(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_command(
    subparsers: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,  # as argparse calls it
    description: str,
    examples: str | None = None,
) -> argparse.ArgumentParser:
    """Add a subcommand; examples below its options, and a description of several lines, stand as they are written."""
    as_written = examples or "\n" in description
    formatter = argparse.RawDescriptionHelpFormatter if as_written else argparse.HelpFormatter
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help, description=description, epilog=examples, formatter_class=formatter
    )
    parser.set_defaults(run=run)
    return parser


def add_one_video_options(parser: argparse.ArgumentParser) -> None:
    """Add how one video is watched, by which model, and where the results go."""
    add = parser.add_argument_group("video").add_argument
    watched = f"frames to watch (default: {defaults.NUM_FRAMES}, or all there are)"
    add("--num-frames", type=int, metavar="T", help=watched)
    add("--sample-fps", type=float, metavar="N", help="watch so many frames a second, in place of T: for long videos")
    part = f"watch only this part, from {TIMES}; also in one word: 0:30-0:35"
    add("--clip", type=seconds, nargs=2, metavar=("START", "END"), help=part)
    add(
        "--reader",
        default=defaults.VIDEO_READER,
        help="video reader: pyav, decord or torchcodec (default: %(default)s)",
    )
    add("--fps", type=float, help="frames per second, where VIDEO is a folder of frames")
    add_model_options(parser)
    add_speed_options(parser)
    add_cache_options(parser, on=True)
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print JSON and nothing else")
    add("--save", type=Path, metavar="DIR", help="write the results, with pictures, to a new folder")
    add("--force", action="store_true", help="let --save replace the results of an earlier run")


def add_model_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add which model is loaded, where to and how; where `several` may be given, they come as a list, or None."""
    add = parser.add_argument_group("model").add_argument
    which = (
        "a name of `sevila models` or the Hugging Face hub, a saved model, a model's configuration (.yaml), "
        "or a model on a server (openai:ADDRESS#NAME, see docs/servers.md)"
    )
    how: dict[str, Any] = {"action": "append"} if several else {"default": defaults.MODEL}
    again = "; given again, visitors choose, and the first is there from the start" if several else ""
    add("--model", metavar="NAME|FOLDER|FILE", help=which + again, **how)
    add("--localizer", metavar="MODEL", help="another model, which chooses the frames; see docs/models.md")
    add("--answerer", metavar="MODEL", help="another model, which answers")
    add("--frame-tokens", type=int, metavar="N", help="most tokens of a frame, for image-text models that can be told")
    add("--trust-remote-code", action="store_true", help="run the code that a model's folder or repository brings")
    add("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    add("--dtype", help="fp32, bf16 or fp16 (default: bf16 on CUDA, fp32 on the CPU)")


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the model options as keyword arguments of `lavis.models.mixed.load_chain`."""
    names = ("model", "localizer", "answerer", "frame_tokens", "trust_remote_code", "device", "dtype")
    return {name: getattr(args, name) for name in names}


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    """Add what trades exactness or a slow start for speed."""
    add = parser.add_argument_group("speed").add_argument
    add("--quantize", metavar="BITS", help="int8 or int4 weights of vision tower and language model (extra quantize)")
    add("--compile", action="store_true", help="compile first; pays for many questions in one call")


def add_cache_options(parser: argparse.ArgumentParser, *, on: bool) -> None:
    """Add whether, where and how much is remembered of watched videos.

    Args:
        on: by default. People ask one video several times, mostly one question per call. A benchmark watches each clip
            once per run, and is larger than the cache by default, which would then hold the clips that were watched
            last and none that come first.
    """
    group = parser.add_argument_group("cache of watched videos")
    add = group.add_argument
    if on:
        add("--no-cache", dest="cache", action="store_false", help="remember nothing, recall nothing")
    else:
        add("--cache", action="store_true", help="keep watched clips for further runs, and recall them")
    add_cache_folder(group)
    add(
        "--cache-size",
        type=float,
        default=defaults.CACHE_GIB,
        metavar="GIB",
        help="most it may take (default: %(default)s)",
    )


def add_cache_folder(parser: Any) -> None:
    """Add where the cache of watched videos lies."""
    where = "folder of the cache (default: SEVILA_CACHE, or ~/.cache/sevila/frames)"
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help=where)


def cache_of(args: argparse.Namespace) -> "FrameCache | None":
    """Return the cache to use, or None.

    Raises:
        ConfigError: its folder is a file, or its size nothing.
    """
    from lavis.models.frame_cache import FrameCache

    return FrameCache(args.cache_dir, max_bytes=int(args.cache_size * 2**30)) if args.cache else None


def add_settings(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add --options, the settings that win over a recipe's; see `checked_options`."""
    parser.add_argument("--options", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help=purpose)


def add_recipes(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add --cfg-path and --recipe; see `chosen_recipes`."""
    number: dict[str, Any] = {"nargs": "+" if several else 1, "action": "extend", "default": []}
    one_after_another = "; several are run one after another" if several else ""
    parser.add_argument("--cfg-path", metavar="YAML", help=f"a recipe's file{one_after_another}", **number)
    what = "a recipe of `sevila recipes`, such as nextqa/finetune"
    parser.add_argument("--recipe", metavar="NAME", help=what + one_after_another, **number)


def chosen_recipes(args: argparse.Namespace) -> list[Path]:
    """Return the files of the recipes that were given.

    Raises:
        ConfigError: none, or an unknown name.
    """
    from lavis.common.files import configs_dir, recipes

    known = recipes()
    for name in args.recipe:
        if name not in known:
            raise ConfigError(f"unknown recipe {name!r}; {did_you_mean(name, known)}; see: sevila recipes")
    if not (args.cfg_path or args.recipe):
        raise ConfigError(f"no recipe; give --recipe NAME or --cfg-path YAML, or see: sevila {args.command} --help")
    if args.cfg_path and args.recipe:
        raise ConfigError("give --recipe or --cfg-path, not both: recipes run in the order in which they are given")
    return [_file_of(Path(path), configs_dir()) for path in args.cfg_path] + [known[name] for name in args.recipe]


def _file_of(path: Path, configs: Path) -> Path:
    """Return a recipe's file; "configs/..." is the package's where the working folder has none of that name."""
    is_ours = not path.is_absolute() and path.parts[:1] == ("configs",) and not path.exists()
    return configs.joinpath(*path.parts[1:]) if is_ours else path


def checked_options(options: Sequence[str]) -> list[str]:
    """Return the options, each of the form key=value; as in LAVIS, "key value" pairs are understood too.

    Raises:
        ConfigError: one is neither.
    """
    if options and not any("=" in key or "." not in key for key in options[::2]) and len(options) % 2 == 0:
        return [f"{key}={value}" for key, value in zip(options[::2], options[1::2], strict=True)]
    for option in options:
        if not option.partition("=")[0] or "=" not in option:
            raise ConfigError(f"--options {option!r} is not of the form key=value, such as run.init_lr=3e-5")
    return list(options)


def recipe_of(dataset: str, chosen: Mapping[str, Mapping[str, Any]], *, num_frames: int | None) -> dict[str, Any]:
    """Return the sections that a command comes to: those of a recipe, if `dataset` is one, under what is chosen.

    Args:
        dataset: a benchmark's name, or a recipe (.yaml).
        chosen: settings by section; None was not chosen.
        num_frames: frames to watch; None is the recipe's, or the default.

    Raises:
        ConfigError: there is no such recipe.
    """
    from lavis.common.config import load_yaml, merged

    is_recipe = dataset.endswith((".yaml", ".yml"))
    recipe: dict[str, Any] = load_yaml(dataset) if is_recipe else {"model": {"task": "chained_inference"}}
    names = list(recipe.get("datasets") or ()) if is_recipe else [dataset]
    frames = num_frames if is_recipe or num_frames else defaults.NUM_FRAMES
    watched = {name: {"vis_processor": {"eval": {"n_frms": frames}}} for name in names if frames is not None}
    given = {
        section: {key: value for key, value in settings.items() if value is not None}
        for section, settings in {**chosen, "datasets": watched}.items()
    }
    return merged([recipe, {section: settings for section, settings in given.items() if settings}])


def say(text: str = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print a text on standard output."""
    print(visible(text), end=end, flush=flush)


def note(text: str) -> None:
    """Print what a person should know on standard error, beside whatever the command prints."""
    print(f"note: {visible(text)}", file=sys.stderr)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal's standard error; the block calls it with what is done of how much, and of what."""
    from rich.progress import Progress

    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what=what: bar.update(task, description=what, completed=done, total=total)


def make_console(*, stderr: bool = False) -> "Console":
    """Return a console, wide enough for tables where there is no terminal."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:  # rich would leave with exit code 1
            raise BrokenPipeError

    console = PipedConsole(highlight=False, stderr=stderr)
    return console if console.is_terminal else PipedConsole(highlight=False, stderr=stderr, width=_LEAST_WIDTH)

"""Loading a model and letting it watch a video, as the command line asks for it."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from lavis.cli.options import cache_of, clip_of
from lavis.export import check_folder
from lavis.models.pipeline import Progress, WatchedVideo, frames_to_watch
from lavis.video import open_video


@dataclass(frozen=True)
class Watched:
    """A watched video, and what is told of how it came about."""

    video: WatchedVideo
    model_name: str
    load_s: float

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds per part, so far."""
        return {"load": self.load_s, **{part[:-2]: value for part, value in asdict(self.video.timings).items()}}


def check_watching(args: argparse.Namespace) -> None:
    """Refuse what cannot work before a model is loaded, which may take minutes.

    Raises:
        UserError: the result folder, the cache, the video, or how it is to be read.
    """
    if args.save:
        check_folder(args.save, force=args.force)
    cache_of(args)
    with open_video(args.video, reader=args.reader, fps=args.fps) as video:
        frames_to_watch(video, num_frames=args.num_frames, clip=clip_of(args))


def watch_video(args: argparse.Namespace) -> Watched:
    """Load the model and watch the video, with progress on a terminal's standard error.

    Raises:
        UserError: see `lavis.load_model` and `lavis.models.pipeline.watch`.
    """
    with _progress("loading the model"):
        from lavis.models.loading import load_model  # takes seconds, which are not the model's

        started = time.perf_counter()
        model = load_model(
            "sevila",
            args.model,
            device=args.device,
            dtype=args.dtype,
            quantize=args.quantize,
            compiled=args.compile,
        )
        load_s = time.perf_counter() - started
    with _progress("watching the video") as progress:
        video = model.watch(
            args.video,
            num_frames=args.num_frames,
            clip=clip_of(args),
            reader=args.reader,
            fps=args.fps,
            cache=cache_of(args),
            progress=progress,
        )
    return Watched(video, model.config.name, load_s)


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """Show a bar on a terminal, and leave nothing behind."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda seen, total: bar.update(task, completed=seen, total=total)

"""`sevila answer` about many videos: the model is loaded once, and a video that cannot be asked ends no other."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from lavis.cli.common import note
from lavis.cli.one_video import Loaded, Result, load_model, present, records_of, save_results
from lavis.cli.questions import asked_questions, is_file, read_questions
from lavis.common.errors import EXIT_USER_ERROR, BrokenModelError, ConfigError, UserError, counted
from lavis.common.types import Question
from lavis.export.files import check_folder, slug
from lavis.export.records import Record, to_json
from lavis.video.frames import VIDEO_ENDINGS
from lavis.video.given import videos_in

Ask = Callable[[argparse.Namespace, Loaded, Sequence[Question]], list[Result]]

_WORDS = "put the question in quotes, and each option after an -o of its own; see: sevila answer --help"


def place_arguments(args: argparse.Namespace) -> None:
    """Take the last of what stands for videos as the question, unless --questions brings some or it stands apart.

    Raises:
        ConfigError: videos without a question, or words of one that are not in quotes.
    """
    if args.question is None and len(args.videos) > 1 and (args.questions is None or not _is_video(args.videos[-1])):
        args.question = args.videos.pop()
        if _is_video(args.question) and is_file(args.question) and is_file(args.videos[0]):
            raise ConfigError("no question; give it behind the videos, in quotes, or several with --questions FILE")
    if args.question is not None:
        for word in args.videos[1:]:
            if not _is_video(word):
                raise ConfigError(f"unexpected argument {word!r}; {_WORDS}")
    args.videos = [Path(video) for video in args.videos]
    args.video = args.videos[0]


def _is_video(text: str) -> bool:
    """Tell a video from a word: it is there, or its name says that it should be."""
    return bool(text) and (text.lower().endswith(VIDEO_ENDINGS) or is_file(text))


def videos_of(args: argparse.Namespace) -> list[Path] | None:
    """Return the videos where several are asked, those of a folder among them, else None.

    Raises:
        VideoError: a folder with neither videos nor frames.
    """
    found = [videos_in(path, fps=args.fps) if is_file(str(path)) and path.is_dir() else [] for path in args.videos]
    if len(args.videos) == 1 and not found[0]:
        return None
    return [video for path, inside in zip(args.videos, found, strict=True) for video in inside or [path]]


def run_many(args: argparse.Namespace, videos: Sequence[Path], ask: Ask) -> int:
    """Ask all videos, and say at the end which could not be asked.

    Returns:
        2 where some could not be, else 0.

    Raises:
        UserError: what is wrong for all of them.
    """
    _check(args)
    loaded = load_model(args)
    records: list[Record] = []
    failed: list[str] = []
    for number, video in enumerate(videos, start=1):
        watching = f"video {number} of {len(videos)}: {video.name}"
        one = argparse.Namespace(**{**vars(args), "video": video, "watching": watching})
        if args.save:
            one.save = args.save / f"{number:02d}_{slug(video.stem)}".rstrip("_")
        try:
            results = ask(one, loaded, asked_questions(one))
        except (BrokenModelError, ConfigError):  # which every video would meet
            raise
        except UserError as error:
            reason = str(error).removeprefix(f"{video}: ")
            failed.append(f"{video}: {reason}")
            records.append({"video": {"path": str(video)}, "error": reason})
            continue
        if args.json:
            save_results(one, results, several=args.questions is not None)
            records += records_of(results)
        else:
            present(one, results, several=args.questions is not None)
            print()
    if args.json:
        print(to_json(records))
    for line in failed:
        note(line)
    if failed:
        note(f"{len(failed)} of {counted(len(videos), 'video')} could not be asked")
    return EXIT_USER_ERROR if failed else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what is wrong for all videos before the model is loaded."""
    if args.save:
        check_folder(args.save, force=args.force)
    if args.questions is None or args.question is not None:
        asked_questions(args)
    elif args.questions == Path("-"):
        raise ConfigError("questions about several videos are read once for each; give a file, not standard input")
    else:
        read_questions(args.questions)

"""`sevila answer`: choose keyframes of a video for a question and answer it from them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.options import add_one_video_options
from lavis.common import defaults
from lavis.common.errors import ConfigError, QuestionError

if TYPE_CHECKING:
    from lavis.cli.one_video import Watched
    from lavis.common.types import Answer, Question
    from lavis.datasets.own_rows import OwnRow

_SELECTORS = "how they are chosen: localizer, coarse_to_fine (for long videos), uniform or random"
_EXAMPLES = """examples:
  sevila answer clip.mp4 "What does the man do?" --option "He cycles" --option "He swims"
  sevila answer clip.mp4 --questions questions.jsonl --save answers

A questions file is a JSON list or JSONL of {"question": ..., "options": [...], "id": ...}, or a table (.csv, .tsv,
.parquet) with columns such as question, a0, a1, ...; id is optional, and without options the answer is open.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "answer",
        help="answer questions about a video from its keyframes",
        description="Watch a video once, choose keyframes for each question, and answer from them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", metavar="VIDEO", type=Path, help="a video file, or a folder of frames")
    parser.add_argument("question", metavar="QUESTION", nargs="?", help="what to ask")
    parser.add_argument(
        "--option", "-o", action="append", default=[], metavar="TEXT", help="an answer to choose from; 2 to 26 times"
    )
    parser.add_argument("--questions", type=Path, metavar="FILE", help="several questions, see below")
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--num-keyframes",
        type=int,
        metavar="K",
        help=f"frames to read (default: {defaults.NUM_KEYFRAMES}, or all there are)",
    )
    group.add_argument("--selector", default=defaults.SELECTOR, help=_SELECTORS)
    group.add_argument(
        "--frame-reader", default=defaults.FRAME_READER, help="joint (all at once) or per_frame (each votes)"
    )
    group.add_argument("--prompt", default=defaults.PROMPT, help="wording: multiple_choice or next_event")
    add_one_video_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Answer, save and print.

    Raises:
        UserError: whatever is wrong with question, video, model or result folder; nothing is written then.
    """
    # Imported late, as everything that needs more than the standard library.
    from lavis.cli.one_video import check_watching, watch_video

    questions = _questions(args)
    check_watching(args)
    _check_names(args)
    watched = watch_video(args)
    answers = watched.video.ask_all(
        questions,
        num_keyframes=args.num_keyframes,
        selector=args.selector,
        reader=args.frame_reader,
        prompt=args.prompt,
    )
    saved = _save(args, answers, watched) if args.save else []
    if args.json:
        _print_json(args, answers, watched)
    else:
        _show(answers, watched, folder=args.save, saved=saved)
    return 0


def _questions(args: argparse.Namespace) -> "list[Question]":
    from lavis.common.types import Question
    from lavis.models.pipeline import check_question

    if args.questions is None:
        if args.question is None:
            raise ConfigError("no question; give QUESTION, or several with --questions FILE")
        question = Question(text=args.question, options=tuple(args.option))
        check_question(question)
        return [question]
    if args.question is not None or args.option:
        raise ConfigError("--questions brings its own questions and options; leave out QUESTION and --option")
    return read_questions(args.questions)


def read_questions(path: Path) -> "list[Question]":
    """Read a table (`.csv`, `.tsv`, `.parquet`), JSON or JSONL of questions; a row without options is an open question.

    Columns are named as in `lavis.datasets.own_rows`. Answers are not read: the video is asked.

    Raises:
        UserError: the file cannot be read, or holds a row that cannot be asked; the message names file, row (or line)
            and field.
    """
    from lavis.datasets.own_rows import own_row, require_columns
    from lavis.datasets.records import read_records

    rows = [own_row(record) for record in read_records(path)]
    if not rows:
        raise QuestionError(f"{path} holds no questions")
    require_columns(path, rows, "question")
    videos = dict.fromkeys(row.record.name("video") for row in rows if row.record.has("video"))
    if len(videos) > 1:
        raise QuestionError(
            f"{path} asks about {len(videos)} videos, such as {', '.join(map(repr, list(videos)[:2]))}; "
            "give a file for each, or use: sevila prepare custom"
        )
    return [_question(row) for row in rows]


def _question(row: "OwnRow") -> "Question":
    from lavis.common.types import Question
    from lavis.models.pipeline import check_question

    record = row.record
    question = Question(record.text("question"), row.options, id=record.id("qid") if record.has("qid") else "")
    try:
        check_question(question)
    except QuestionError as error:
        raise QuestionError(f"{record.path}, {record.unit} {record.number}: {error}") from error
    return question


def _check_names(args: argparse.Namespace) -> None:
    import lavis.models  # declares the parts
    import lavis.processors.prompts  # noqa: F401  # declares the prompts
    from lavis.common.registry import registry

    registry.selectors.get(args.selector)
    registry.frame_readers.get(args.frame_reader)
    registry.prompts.get(args.prompt)


def _save(args: argparse.Namespace, answers: "Sequence[Answer]", watched: "Watched") -> list[str]:
    from lavis.cli.one_video import all_answer_files, answer_files
    from lavis.export import write_folder

    files = all_answer_files(answers, watched) if args.questions else answer_files(answers[0], watched)
    write_folder(args.save, files, force=args.force)
    return list(files)


def _print_json(args: argparse.Namespace, answers: "Sequence[Answer]", watched: "Watched") -> None:
    from lavis.export import answer_record, to_json

    origin: dict[str, Any] = {"video": watched.video.info, "model": watched.model_name}
    records = [answer_record(answer, timings_s=watched.timings_s, **origin) for answer in answers]
    print(to_json(records if args.questions else records[0]))


def _show(answers: "Sequence[Answer]", watched: "Watched", *, folder: Path | None, saved: Sequence[str]) -> None:
    from lavis.cli import one_video as show
    from lavis.cli.show import make_console

    console = make_console()
    video = watched.video
    show.show_video(console, video, model=watched.model_name)
    show.show_caveats(console, list(dict.fromkeys(caveat for answer in answers for caveat in answer.caveats)))
    for answer in answers:
        show.show_answer(console, answer)
    show.show_timings(console, watched.timings_s)
    if folder is not None:
        show.show_saved(console, folder, saved)

"""`sevila answer` and `sevila find`: questions about one video, and the moments of it that a sentence describes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import TIMES, add_command, add_one_video_options, seconds
from lavis.common import defaults
from lavis.common.errors import ConfigError, QuestionError

if TYPE_CHECKING:
    from lavis.common.types import Question

_SELECTORS = (
    "how they are chosen: localizer, coarse_to_fine (for long videos), uniform, random or another name; or parts with "
    "arguments, such as '{policy: {name: coarse_to_fine, gap: 4}}'"
)
_ANSWER_EXAMPLES = """examples:
  sevila answer clip.mp4 "What does the man do?" --option "He cycles" --option "He swims"
  sevila answer clip.mp4 --questions questions.jsonl --save answers

A questions file is a JSON list or JSONL of {"question": ..., "options": [...], "id": ...}, or a table (.csv, .tsv,
.parquet) with columns such as question, a0, a1, ...; id is optional, and without options the answer is open.
"""
_FIND_EXAMPLES = """examples:
  sevila find clip.mp4 "A man rides a bicycle"
  sevila find talk.mp4 "A slide with a diagram" --num-frames 75 --max-moments 3 --save found
"""


def add_parser(subparsers: Any) -> None:
    """Add both subcommands to the main parser's."""
    parser = add_command(
        subparsers,
        "answer",
        run_answer,
        help="answer questions about a video from its keyframes",
        description="Watch a video once, choose keyframes for each question, and answer from them.",
        examples=_ANSWER_EXAMPLES,
    )
    add = parser.add_argument
    add("video", metavar="VIDEO", type=Path, help="a video file, or a folder of frames")
    add("question", metavar="QUESTION", nargs="?", help="what to ask")
    add("--option", "-o", action="append", default=[], metavar="TEXT", help="an answer to choose from; 2 to 26 times")
    add("--questions", type=Path, metavar="FILE", help="several questions, see below")
    add = parser.add_argument_group("reading").add_argument
    add(
        "--num-keyframes",
        type=_keyframes,
        metavar="K",
        help=f"frames to read (default: {defaults.NUM_KEYFRAMES}, or all there are); auto: as many as the selector's "
        "policy finds (see docs/selection.md)",
    )
    budget = "read as many frames as so many tokens of the model that answers hold, in place of K"
    add("--token-budget", type=int, metavar="N", help=budget)
    add("--selector", default=defaults.SELECTOR, help=_SELECTORS)
    add("--frame-reader", default=defaults.FRAME_READER, help="joint (all at once) or per_frame (each votes)")
    add("--prompt", default=defaults.PROMPT, help="wording: multiple_choice or next_event")
    add_one_video_options(parser)

    parser = add_command(
        subparsers,
        "find",
        run_find,
        help="find the moments of a video that a sentence describes",
        description="Score the frames of a video for a sentence, and join those that match to moments.",
        examples=_FIND_EXAMPLES,
    )
    add = parser.add_argument
    add("video", metavar="VIDEO", type=Path, help="a video file, or a folder of frames")
    add("query", metavar="QUERY", help="what the moment shows")
    add = parser.add_argument_group("moments").add_argument
    matching = "score from which a frame matches (default: %(default)s)"
    add("--threshold", type=float, default=defaults.THRESHOLD, help=matching)
    gap = "frames in a row that may miss the threshold within a moment (default: %(default)s, as published)"
    add("--max-gap-frames", type=int, default=defaults.MAX_GAP_FRAMES, metavar="N", help=gap)
    add(
        "--min-length",
        type=seconds,
        default=defaults.MIN_LENGTH_S,
        metavar="TIME",
        help=f"drop shorter moments ({TIMES})",
    )
    add("--max-moments", type=int, default=defaults.MAX_MOMENTS, metavar="N", help="keep only the best (default: all)")
    add("--prompt", default=defaults.MOMENT_PROMPT, help="wording (default: %(default)s)")
    add_one_video_options(parser)


def run_answer(args: argparse.Namespace) -> int:
    """Answer, save and print; where anything is wrong, nothing is written."""
    # Imported late, as everything that needs more than the standard library.
    from lavis.cli.one_video import check_watching, present, watch_video
    from lavis.common.config import typed_spec
    from lavis.common.registry import registry
    from lavis.models.chain import asks_localizer

    questions = _questions(args)
    check_watching(args)
    selector = typed_spec(args.selector, place="frame selector")
    from_localizer = asks_localizer(selector)
    registry.frame_packings.get(args.frame_reader)
    registry.prompts.get(args.prompt)
    # Where others choose frames, the model needs to see those that it reads.
    watched = watch_video(args, lazy=not from_localizer)
    answers = watched.video.ask_all(
        questions,
        num_keyframes=args.num_keyframes,
        token_budget=args.token_budget,
        selector=selector,
        reader=args.frame_reader,
        prompt=args.prompt,
    )
    present(args, watched, answers, several=args.questions is not None)
    return 0


def run_find(args: argparse.Namespace) -> int:
    """Find, save and print; where anything is wrong, nothing is written."""
    from lavis.cli.one_video import check_watching, present, watch_video
    from lavis.common.registry import registry
    from lavis.common.types import Question
    from lavis.processors.prompts import check_question

    check_question(Question(text=args.query))
    registry.prompts.get(args.prompt)
    check_watching(args)
    watched = watch_video(args)
    found = watched.video.find(
        args.query,
        threshold=args.threshold,
        max_gap_frames=args.max_gap_frames,
        min_length_s=args.min_length,
        max_moments=args.max_moments,
        prompt=args.prompt,
    )
    present(args, watched, [found], several=False)
    return 0


def _keyframes(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of frames nor auto") from None


def _questions(args: argparse.Namespace) -> "list[Question]":
    from lavis.common.types import Question
    from lavis.processors.prompts import check_question

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

    Columns are named as in `sevila_data.own_rows`. Answers are not read: the video is asked.

    Raises:
        UserError: the file cannot be read, or holds a row that cannot be asked; the message names file, row (or line)
            and field.
    """
    from lavis.common.types import Question
    from lavis.datasets.records import read_records
    from lavis.processors.prompts import check_question
    from sevila_data.own_rows import own_row, require_columns

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
    questions = []
    for row in rows:
        record = row.record
        questions.append(
            Question(record.text("question"), row.options, id=record.id("qid") if record.has("qid") else "")
        )
        try:
            check_question(questions[-1])
        except QuestionError as error:
            raise QuestionError(f"{path}, {record.unit} {record.number}: {error}") from error
    return questions

"""`sevila answer` and `sevila find`: questions about one video, and the moments of it that a sentence describes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import TIMES, add_command, add_one_video_options, seconds
from lavis.common import defaults

if TYPE_CHECKING:
    from lavis.cli.one_video import Loaded, Result
    from lavis.common.types import Question

_SELECTORS = (
    "how they are chosen: localizer, coarse_to_fine (for long videos), uniform, random or another name; or parts with "
    "arguments, such as '{policy: {name: coarse_to_fine, gap: 4}}'"
)
_ANSWER_EXAMPLES = """examples:
  sevila answer clip.mp4 "What does the man do?" --option "He cycles" --option "He swims"
  sevila answer clip.mp4 --questions questions.jsonl --save answers
  sevila answer *.mp4 "Is there a dog?" -o yes -o no --json

A questions file is a JSON list or JSONL of {"question": ..., "options": [...], "id": ...}, or a table (.csv, .tsv,
.parquet) with columns such as question, a0, a1, ...; id is optional, and without options the answer is open. Columns
start and end (seconds, mm:ss or hh:mm:ss) name the part that is asked about. Of a file about several videos, the
questions about VIDEO are asked, by its file name.
"""
_FIND_EXAMPLES = """examples:
  sevila find clip.mp4 "A man rides a bicycle"
  sevila find talk.mp4 "A slide with a diagram" --num-frames 75 --max-moments 3 --save found
  sevila find clip.mp4 "A red circle" "A blue star" --cut clips --edl cuts.edl

A file of queries holds one in each line, or rows as `sevila answer` takes them, with a field "query".
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
    videos = "video files, folders of frames, or folders of videos; of several, each is asked"
    add("videos", metavar="VIDEO", nargs="+", help=videos)
    add("question", metavar="QUESTION", nargs="?", help="what to ask")
    add("--option", "-o", action="append", default=[], metavar="TEXT", help="an answer to choose from; 2 to 26 times")
    add("--questions", type=Path, metavar="FILE", help="several questions, see below; - is standard input")
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
    add("query", metavar="QUERY", nargs="*", help="what the moment shows; several are found in one watching")
    add("--queries", type=Path, metavar="FILE", help="several queries, see below; - is standard input")
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
    add = parser.add_argument_group("files for players and editors").add_argument
    cut = (
        "cut each moment out into a new folder, with its sound: copied where a key frame stands at most 1 s before its "
        "start, else encoded again"
    )
    add("--cut", type=Path, metavar="FOLDER", help=cut)
    add("--vtt", type=Path, metavar="FILE", help="subtitles for browsers (WebVTT)")
    add("--srt", type=Path, metavar="FILE", help="subtitles for players (SubRip)")
    add("--csv", type=Path, metavar="FILE", help="a table")
    add("--edl", type=Path, metavar="FILE", help="an edit decision list (CMX 3600)")
    add_one_video_options(parser)


def run_answer(args: argparse.Namespace) -> int:
    """Answer, save and print; where anything is wrong with one video, nothing is written."""
    # Imported late, as everything that needs more than the standard library.
    from lavis.cli.many_videos import place_arguments, run_many, videos_of
    from lavis.cli.one_video import check_watching, load_model, parts_of, present
    from lavis.cli.questions import asked_questions
    from lavis.common.config import typed_spec
    from lavis.common.registry import registry
    from lavis.models.chain import asks_localizer

    place_arguments(args)
    videos = videos_of(args)
    if videos is None:
        questions = asked_questions(args)
        check_watching(args, parts_of(questions, args))
    asks_localizer(typed_spec(args.selector, place="frame selector"))
    registry.frame_packings.get(args.frame_reader)
    registry.prompts.get(args.prompt)
    if videos is not None:
        return run_many(args, videos, _answers)
    present(args, _answers(args, load_model(args), questions), several=args.questions is not None)
    return 0


def _answers(args: argparse.Namespace, model: "Loaded", questions: "Sequence[Question]") -> "list[Result]":
    """Watch the video of the arguments, and answer."""
    from lavis.cli.one_video import parts_of, watch_video
    from lavis.common.config import typed_spec
    from lavis.models.chain import asks_localizer

    selector = typed_spec(args.selector, place="frame selector")
    results: dict[int, Result] = {}
    for clip, places in parts_of(questions, args).items():
        # Where others choose frames, the model needs to see those that it reads.
        watched = watch_video(args, model, clip=clip, lazy=not asks_localizer(selector))
        answers = watched.video.ask_all(
            [questions[place] for place in places],
            num_keyframes=args.num_keyframes,
            token_budget=args.token_budget,
            selector=selector,
            reader=args.frame_reader,
            prompt=args.prompt,
        )
        results |= {place: (watched, answer) for place, answer in zip(places, answers, strict=True)}
    return [results[place] for place in range(len(questions))]


def run_find(args: argparse.Namespace) -> int:
    """Find, cut, save and print; where anything is wrong, nothing is written."""
    from lavis.cli.moment_files import check_moment_files, write_moment_files
    from lavis.cli.one_video import check_watching, load_model, parts_of, present, watch_video
    from lavis.cli.questions import asked_queries
    from lavis.common.registry import registry

    queries = asked_queries(args)
    registry.prompts.get(args.prompt)
    check_moment_files(args)
    parts = parts_of(queries, args)
    check_watching(args, parts)
    model = load_model(args)
    results: dict[int, Result] = {}
    for clip, places in parts.items():
        watched = watch_video(args, model, clip=clip)
        for place in places:
            found = watched.video.find(
                queries[place].text,
                threshold=args.threshold,
                max_gap_frames=args.max_gap_frames,
                min_length_s=args.min_length,
                max_moments=args.max_moments,
                prompt=args.prompt,
            )
            results[place] = watched, found
    shown = [results[place] for place in range(len(queries))]
    written = write_moment_files(args, shown)
    present(args, shown, several=len(queries) > 1 or args.queries is not None, written=written)
    return 0


def _keyframes(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of frames nor auto") from None

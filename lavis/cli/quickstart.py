"""`sevila quickstart`: answer a question about a real video file, with nothing to download.

It runs the `sevila answer` command that it prints, on one of the clips that come with the embedded model.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

from lavis.cli import answer
from lavis.cli.common import add_command, say
from lavis.common.errors import UserError
from lavis.common.files import checkpoints_dir

_OUT = Path("quickstart_output")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "quickstart",
        run,
        help="answer a question about a clip that is here already; nothing is downloaded",
        description="Ask the embedded model about a clip that comes with it, and show the command that does so.",
    )
    parser.add_argument("--out", type=Path, default=_OUT, metavar="DIR", help="for the results (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Ask about the clip, and say where the files are; returns the exit code.

    Raises:
        UserError: the clips are not where the package was installed, or the results cannot be written.
    """
    from lavis.demo.videos import read_examples
    from lavis.export.records import LETTERS

    examples = read_examples()
    if not examples:
        raise UserError(f"the example clips are not in {checkpoints_dir() / 'clips'}; install the package again")
    example = examples[0]
    question = example.questions[0]
    clip = example.clip
    if clip.is_relative_to(Path.cwd()):  # shorter to read and to type
        clip = clip.relative_to(Path.cwd())
    asked = [text for option in question.options for text in ("--option", option)]
    command = ["answer", str(clip), question.text, *asked, "--save", str(args.out), "--force"]
    say(f"$ sevila {shlex.join(command)}\n", flush=True)
    parser = argparse.ArgumentParser()
    answer.add_parser(parser.add_subparsers())
    answer.run_answer(parser.parse_args(command))
    assert question.answer is not None
    letter, text = LETTERS[question.answer], question.options[question.answer]
    say(f"\nThe clip was made with {letter} ({text}) as the right answer.")
    say(f"Look at {args.out / 'scores.png'}, or ask something else; the other questions that the model was shown to")
    say(f"answer are in {clip.parent / 'questions.json'}.")
    return 0

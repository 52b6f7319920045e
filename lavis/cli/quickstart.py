"""`python -m lavis.cli.quickstart`: answer a question about a real video file, with nothing to download.

It runs the `sevila answer` command that it prints, on one of the clips that come with the embedded model.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from lavis.cli.common import say
from lavis.cli.main import CommandParser, main, reported


def run(argv: Sequence[str] | None = None) -> int:
    """Ask about the clip, and say where the files are; returns the exit code."""
    return reported(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = CommandParser(prog="python -m lavis.cli.quickstart", description="Answer a question about a shipped clip.")
    parser.add_argument("--out", type=Path, default=Path("quickstart_output"), help="folder for the results")
    out = parser.parse_args(argv).out
    from lavis.demo.videos import read_examples
    from lavis.export.records import LETTERS

    example = read_examples()[0]
    question = example.questions[0]
    clip = example.clip
    if clip.is_relative_to(Path.cwd()):  # shorter to read and to type
        clip = clip.relative_to(Path.cwd())
    asked = [text for option in question.options for text in ("--option", option)]
    command = ["answer", str(clip), question.text, *asked, "--save", str(out), "--force"]
    say(f"$ sevila {shlex.join(command)}\n", flush=True)
    code = main(command)
    if code == 0:
        assert question.answer is not None
        letter, text = LETTERS[question.answer], question.options[question.answer]
        say(f"\nThe clip was made with {letter} ({text}) as the right answer.")
        say(f"Look at {out / 'scores.png'}, or ask something else; the other questions that the model was shown to")
        say(f"answer are in {clip.parent / 'questions.json'}.")
    return code


if __name__ == "__main__":
    raise SystemExit(run())

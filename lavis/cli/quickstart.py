"""`python -m lavis.cli.quickstart`: answer a question about a real video file, with nothing to download.

It runs the `sevila answer` command that it prints, on one of the clips that come with the embedded model.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lavis.cli.main import CommandParser, main, reported
from lavis.cli.show import say
from lavis.common.paths import checkpoints_dir
from lavis.processors.prompts import OPTION_LETTERS


@dataclass(frozen=True)
class Example:
    """A question about a shipped clip, with the answer known from how the clip was made."""

    clip: Path
    question: str
    options: tuple[str, ...]
    answer: int


def first_example() -> Example:
    """Return the first question about the first shipped clip."""
    folder = checkpoints_dir() / "clips"
    entry = json.loads((folder / "questions.json").read_text(encoding="utf-8"))[0]
    asked = entry["questions"][0]
    return Example(folder / entry["video"], asked["question"], tuple(asked["options"]), asked["answer"])


def run(argv: Sequence[str] | None = None) -> int:
    """Ask about the clip, and say where the files are; returns the exit code."""
    return reported(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = CommandParser(prog="python -m lavis.cli.quickstart", description="Answer a question about a shipped clip.")
    parser.add_argument("--out", type=Path, default=Path("quickstart_output"), help="folder for the results")
    out = parser.parse_args(argv).out
    example = first_example()
    clip = _shown(example.clip)
    asked = [text for option in example.options for text in ("--option", option)]
    command = ["answer", str(clip), example.question, *asked, "--save", str(out), "--force"]
    say(f"$ sevila {shlex.join(command)}\n", flush=True)
    code = main(command)
    if code == 0:
        letter, text = OPTION_LETTERS[example.answer], example.options[example.answer]
        say(f"\nThe clip was made with {letter} ({text}) as the right answer.")
        say(f"Look at {out / 'scores.png'}, or ask something else; the other questions that the model was shown to")
        say(f"answer are in {clip.parent / 'questions.json'}.")
    return code


def _shown(path: Path) -> Path:
    """Return a path relative to the current folder where it lies in it: shorter to read and to type."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    raise SystemExit(run())

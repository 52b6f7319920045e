"""The folder of an evaluation: predictions as they come, so that a killed run loses none, and the results.

While an evaluation runs, `partial/` holds `kept.jsonl`, what an earlier start had finished, and `rankN.jsonl`, what
each process adds. At the end all of it becomes `predictions.jsonl`, in the order of the annotations.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lavis.common.errors import ConfigError, UserError
from lavis.common.files import write_text
from lavis.common.logging import JsonLines, read_json_lines, removed
from lavis.runners.evaluation.evaluator import ClipGroup
from lavis.runners.evaluation.fingerprint import Fingerprint, first_difference
from lavis.tasks.evaluation.predictions import Prediction

logger = logging.getLogger(__name__)

PREDICTIONS, FACTS = "predictions.jsonl", "evaluation.json"
METRICS, REPORT, SUBMISSION = "metrics.json", "report.md", "submission.jsonl"


class PredictionStore:
    """Predictions of one evaluation, by question id.

    Args:
        folder: where the evaluation's files lie.
        rank: the process; each appends to a file of its own.
    """

    def __init__(self, folder: Path, *, rank: int = 0) -> None:
        self._folder, self._partial, self._rank = folder, folder / "partial", rank

    def read_earlier(
        self,
        fingerprint: Fingerprint,
        groups: Sequence[ClipGroup],
        *,
        resume: str,
        misfit: Callable[[Prediction], str | None] = lambda _: None,
    ) -> dict[str, Prediction]:
        """Return what an earlier start of the same evaluation has finished; nothing is written.

        Only groups that are whole count: their questions were asked together, and are again. What cannot have been
        said about its question does not count; how much that is, is said.

        Args:
            resume: "auto" goes on with what is there, "never" starts over.
            misfit: says why a prediction does not fit the split; None if it does.

        Raises:
            ConfigError: the folder holds predictions that were made differently.
        """
        if resume == "never" or not (self._folder / FACTS).is_file():
            return {}
        different = first_difference(read_facts(self._folder)["fingerprint"], fingerprint)
        if different:
            raise ConfigError(
                f"{self._folder} holds predictions made with {different}; "
                "name another run.output_dir, or start over with run.resume=never"
            )
        files = [self._folder / PREDICTIONS, *sorted(self._partial.glob("*.jsonl"))]
        found, wrong = _checked(files, misfit)
        if wrong and self._rank == 0:
            logger.warning(
                "%d earlier predictions do not count, and are made again; the first: %s",
                *(len(wrong), next(iter(wrong.values()))),
            )
        whole = [group for group in groups if all(qid in found for qid in group.ids)]
        return {qid: found[qid] for group in whole for qid in group.ids}

    def begin(self, earlier: Iterable[Prediction], facts: dict[str, Any]) -> None:
        """Write down what is kept and what the evaluation is; for one process, before any of them appends."""
        rows = "".join(json.dumps(prediction.as_row(), ensure_ascii=False) + "\n" for prediction in earlier)
        # In this order, a kill at any point leaves either everything from before or everything from now.
        write_text(self._partial / "kept.jsonl", rows)
        for leftover in self._partial.glob("rank*.jsonl"):
            leftover.unlink()
        for result in (PREDICTIONS, METRICS, REPORT, SUBMISSION):
            (self._folder / result).unlink(missing_ok=True)
        write_text(self._folder / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def append(self, groups: Iterable[Sequence[Prediction]]) -> None:
        """Write this process's predictions as they come."""
        lines = JsonLines(self._partial / f"rank{self._rank}.jsonl")
        try:
            for group in groups:
                for prediction in group:
                    lines.write(prediction.as_row())
        finally:
            lines.close()

    def finish(self, ids: Sequence[str]) -> list[Prediction]:
        """Merge all processes' predictions to one file in the order of `ids`, and return them; for one process.

        Raises:
            FaultError: what `begin` wrote was removed while the evaluation ran.
            RuntimeError: a question has no prediction.
        """
        files = sorted(self._partial.glob("*.jsonl"))
        for needed in (self._folder / FACTS, self._partial / "kept.jsonl"):
            if not needed.is_file():
                raise removed(needed)
        found = {one.id: one for file in files for one in _read(file)}
        missing = [qid for qid in ids if qid not in found]
        if missing:
            raise RuntimeError(f"{len(missing)} questions were not evaluated, such as {missing[0]!r}")
        merged = [found[qid] for qid in ids]
        rows = (json.dumps(prediction.as_row(), ensure_ascii=False) + "\n" for prediction in merged)
        write_text(self._folder / PREDICTIONS, "".join(rows))
        shutil.rmtree(self._partial)
        return merged


def _read(file: Path) -> list[Prediction]:
    return [Prediction.from_row(row, place=str(file)) for row in read_json_lines(file)]


def _lines(files: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Yield the rows of files with their places; None for what is no JSON, but for a last line that was cut."""
    for file in files:
        # A cut may lie within a character.
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                yield f"{file}, line {number}", json.loads(line)
            except (ValueError, RecursionError):
                if number < len(lines):
                    yield f"{file}, line {number}", None


def _checked(
    files: Iterable[Path], misfit: Callable[[Prediction], str | None]
) -> tuple[dict[str, Prediction], dict[str, str]]:
    """Return the predictions of files that fit, and what is wrong with the others, by id."""
    found: dict[str, Prediction] = {}
    wrong: dict[str, str] = {}
    for place, row in _lines(files):
        try:
            one = Prediction.from_row(row if isinstance(row, dict) else {}, place=place)
            reason = misfit(one)
        except UserError as error:
            wrong[place] = str(error)
            continue
        # A kill may leave a prediction in two files; then they say the same.
        if reason is None and one.id in found and replace(found[one.id], seconds=one.seconds) != one:
            reason = "it is there twice, and differs"
        if reason is not None:
            wrong[one.id] = f"{place}: {one.id!r}: {reason}"
        found[one.id] = one
    return {qid: one for qid, one in found.items() if qid not in wrong}, wrong


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what an evaluation wrote down about itself.

    Raises:
        UserError: the folder holds no evaluation.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} holds no evaluation: {FACTS} is missing or damaged") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("fingerprint"), dict):
        raise UserError(f"{folder / FACTS} is damaged: it holds no fingerprint")
    return facts


def read_predictions(folder: Path) -> list[Prediction]:
    """Return the predictions of a finished evaluation, in the order of the annotations.

    Raises:
        UserError: there is none, it has not finished, or a row is damaged.
    """
    file = folder / PREDICTIONS
    if not file.is_file():
        raise UserError(f"{folder} holds no {PREDICTIONS}; evaluate to the end first (the same command goes on)")
    found = _read(file)
    counts = Counter(one.id for one in found).most_common(1)
    if counts and counts[0][1] > 1:
        raise UserError(
            f"{file} holds {counts[0][0]!r} {counts[0][1]} times; evaluate again (the same command mends it)"
        )
    return found

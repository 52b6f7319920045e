"""The folder of an evaluation: predictions as they come, what they depend on, and reading both again.

While an evaluation runs, `partial/` holds `kept.jsonl`, what an earlier start had finished, and `rankN.jsonl`, what
each process adds. At the end all of it becomes `predictions.jsonl`, in the order of the annotations.
"""

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lavis.common.defaults import VERSION
from lavis.common.errors import ConfigError, UserError
from lavis.common.files import write_text
from lavis.common.logging import JsonLines, read_json_lines, removed
from lavis.common.registry import registry
from lavis.datasets.annotations import read_annotations
from lavis.models.base import TrainableModel
from lavis.models.chain import selector_name
from lavis.models.fingerprint import weights_digest
from lavis.runners.config import EvaluationConfig, TrainConfig, affected_by, flattened
from lavis.runners.provenance import file_digest
from lavis.tasks.build import PublishedTask
from lavis.tasks.metrics.accuracy import PairedComparison, compare_runs
from lavis.tasks.metrics.moments import MomentParameters, fit_spans
from lavis.tasks.predictions import Prediction

logger = logging.getLogger(__name__)

Fingerprint = dict[str, Any]

PREDICTIONS, FACTS = "predictions.jsonl", "evaluation.json"
METRICS, COST, REPORT, SUBMISSION = "metrics.json", "cost.json", "report.md", "submission.jsonl"
_PLAIN = (type(None), bool, int, float, str)
_OWN = __name__.partition(".")[0]
_PACKAGES = ("torch", "transformers", "tokenizers", "av", "numpy", "pillow")
# The packages whose code makes predictions; what scores them and reports may change.
_CODE = (
    *("lavis.video", "lavis.processors", "lavis.datasets", "lavis.models", "lavis.selection"),
    "lavis.tasks.predictions",
)


def fingerprint_of(
    config: EvaluationConfig,
    model: TrainableModel,
    task: PublishedTask,
    scorer: object,
    *,
    quantize: str | None = None,
    compiled: bool = False,
) -> Fingerprint:
    """Return everything that predictions depend on beside the videos, as flat JSON values.

    The number of processes and the batch size are not among it: nothing depends on them.

    Args:
        scorer: what asks the questions: its parts and their settings.
        quantize, compiled: what is done to the model once it is loaded.

    Raises:
        AnnotationError: the annotation file cannot be read.
    """
    base, name = config.base, config.base.dataset_name
    dataset = base.dataset
    parts = {
        "processor": registry.processors.get(dataset.vis_processor.eval.name),
        "video reader": registry.video_readers.get(dataset.build_info.videos.reader),
    }
    facts = {
        "version": VERSION,
        "weights": weights_digest(model),
        "model": model.make_digest(),
        "quantize": quantize,
        "compile": compiled,
        "device": model.device.type,
        **{f"model.task: {key}": getattr(task, key) for key in ("reader", "keyframes")},
        **_settings_of(base),
        "datasets": name,
        "split": config.split,
        digest_key(name): file_digest(dataset.annotations[config.split]),
        **flattened({key: described(part) for key, part in parts.items()}),
        **asking_facts(task, scorer),
        "code": source_digest(*_CODE),
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    # As it will be read again: a tuple is a list in a file.
    fingerprint: Fingerprint = json.loads(json.dumps(facts))
    return fingerprint


def asking_facts(task: PublishedTask, scorer: object) -> dict[str, Any]:
    """Return the part of a fingerprint that says how frames are chosen and questions asked; see `fingerprint_of`."""
    asks = flattened({"scorer": described(scorer)})
    return {
        "model.task: selector": selector_name(task.selector),
        **{key: value for key, value in asks.items() if not key.startswith("scorer._task.")},
    }


def _settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that predictions depend on, by dotted key; moments are made of predictions later."""
    datasets = {name: asdict(dataset) for name, dataset in config.datasets.items()}
    settings = flattened({"model": asdict(config.model), "run": asdict(config.run), "datasets": datasets})
    return {key: value for key, value in settings.items() if affected_by(key) == "predictions"}


def digest_key(dataset: str) -> str:
    """Return where a fingerprint keeps the digest of the annotation file."""
    return f"datasets.{dataset}.build_info.annotations"


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what differs first between two fingerprints, for a message; None if nothing does."""
    for name in {**earlier, **now}:
        before, after = earlier.get(name), now.get(name)
        if before != after:
            is_digest = isinstance(before, str) and isinstance(after, str) and len(before) == len(after) == 64
            return f"other {name}" if is_digest else f"{name} {before!r}, now {after!r}"
    return None


@functools.cache
def source_digest(*modules: str) -> str:
    """Return a digest of the source of modules, and of everything below those that are packages."""
    digest = hashlib.sha256()
    for module in modules:
        found = importlib.util.find_spec(module)
        for place in _places(found.submodule_search_locations or [found.origin] if found else []):
            digest.update(f"{module} {place.name}\n".encode() + place.read_bytes())
    return digest.hexdigest()


def _places(roots: Iterable[str | None]) -> Iterable[Path]:
    for root in map(Path, filter(None, roots)):
        yield from sorted(root.rglob("*.py")) if root.is_dir() else [root]


def described(part: Any, outer: tuple[int, ...] = ()) -> Any:
    """Return a part as JSON values: its kind, every setting that it holds, and the parts that it is made of.

    Modules of torch are left out: weights are told apart by other means, but for parts that have a `fingerprint()` of
    what they hold. Code that does not belong to this package is part of the description. The parts around
    it, whose ids are in `outer`, are not described again.
    """
    if isinstance(part, _PLAIN):
        return part
    if id(part) in outer:
        return None
    outer = (*outer, id(part))
    if isinstance(part, (list, tuple)):
        return [described(one, outer) for one in part]
    if isinstance(part, (set, frozenset)):
        return sorted(str(described(one, outer)) for one in part)
    if isinstance(part, Mapping):
        return {str(name): described(value, outer) for name, value in part.items()}
    if isinstance(part, functools.partial):
        return {"of": described(part.func, outer), "arguments": described([part.args, part.keywords], outer)}
    if isinstance(part, type):
        return {"kind": _kind(part)}
    if callable(part) and hasattr(part, "__code__"):
        return {"kind": _kind(part), "settings": described(_bound(part), outer)}
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu().contiguous().view(torch.uint8).numpy()
    if isinstance(part, np.ndarray):
        return hashlib.sha256(part.tobytes()).hexdigest()
    settings = _settings(part)
    if not settings and type(part).__repr__ is not object.__repr__ and not isinstance(part, nn.Module):
        return repr(part)
    return {"kind": _kind(type(part)), **described(settings, outer)}


def _bound(function: Callable[..., Any]) -> list[Any]:
    """Return what a function was given when it was made."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return [getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None), cells]


def _settings(part: Any) -> dict[str, Any]:
    if callable(fingerprint := getattr(part, "fingerprint", None)):
        return {"fingerprint": fingerprint()}
    if isinstance(part, nn.Module):
        return {}
    slots = (name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ()))
    names = [field.name for field in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else slots
    return {**getattr(part, "__dict__", {}), **{name: getattr(part, name) for name in names if hasattr(part, name)}}


def _kind(part: Any) -> str:
    name = f"{part.__module__}:{part.__qualname__}"
    if part.__module__.partition(".")[0] in (_OWN, "builtins"):
        return name
    file = getattr(sys.modules.get(part.__module__), "__file__", None)
    code = Path(file).read_bytes() if file and Path(file).suffix == ".py" else b""
    return f"{name} {hashlib.sha256(code).hexdigest()[:16]}"


class PredictionStore:
    """Predictions of one evaluation in its folder, by question id; each process appends to the file of its rank."""

    def __init__(self, folder: Path, *, rank: int = 0) -> None:
        self._folder, self._partial, self._rank = folder, folder / "partial", rank

    def read_earlier(
        self,
        fingerprint: Fingerprint,
        groups: Iterable[Sequence[str]],
        *,
        resume: str,
        misfit: Callable[[Prediction], str | None] = lambda _: None,
    ) -> dict[str, Prediction]:
        """Return what an earlier start of the same evaluation has finished; nothing is written.

        Only groups that are whole count: their questions were asked together, and are again. What cannot have been
        said about its question does not count; how much that is, is said.

        Args:
            groups: ids of questions that are asked together.
            resume: "auto" resumes what is there, "never" starts over.
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
        whole = [group for group in groups if all(qid in found for qid in group)]
        return {qid: found[qid] for group in whole for qid in group}

    def begin(self, earlier: Iterable[Prediction], facts: dict[str, Any]) -> None:
        """Write down what is kept and what the evaluation is; for one process, before any of them appends."""
        rows = "".join(json.dumps(prediction.as_row(), ensure_ascii=False) + "\n" for prediction in earlier)
        # In this order, a kill at any point leaves either everything from before or everything from now.
        write_text(self._partial / "kept.jsonl", rows)
        for leftover in self._partial.glob("rank*.jsonl"):
            leftover.unlink()
        for result in (PREDICTIONS, METRICS, COST, REPORT, SUBMISSION):
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
    """Yield the rows of files with their places; None for what is no JSON, but for a truncated last line."""
    for file in files:
        # A file may be truncated within a character.
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


def compare_folders(first: Path, second: Path, *, common_only: bool = False) -> PairedComparison:
    """Compare as `compare_runs` does which questions with annotated answer two evaluations answered right.

    Raises:
        UserError: a folder holds no finished evaluation, or the two have different questions.
    """
    right = [
        {one.id: one.is_right for one in read_predictions(folder) if one.answer is not None}
        for folder in (first, second)
    ]
    return compare_runs(right[0], right[1], common_only=common_only)


def fit_folder(folder: Path) -> MomentParameters:
    """Choose how frame scores become moments, from the predictions of an evaluation on the split val.

    Raises:
        UserError: it is not about moments, or not on val, or its annotations have changed.
    """
    facts, predictions = read_facts(folder), read_predictions(folder)
    if facts["kind"] != "moments":
        raise UserError(f"{folder} holds answers to questions; fitting moments needs a moment retrieval evaluation")
    file = Path(facts["annotations"])
    annotations = read_annotations(file)
    if file_digest(file) != facts["fingerprint"][digest_key(facts["dataset"])]:
        raise UserError(f"{file} has changed since {folder} was made; evaluate again")
    return fit_spans(predictions, annotations.rows, split=facts["split"])

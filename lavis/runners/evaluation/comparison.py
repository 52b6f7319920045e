"""Ways to choose frames, compared: the same questions, the same Answerer, every selector with every number of frames.

Each selector with each k is an evaluation in a folder of its own, `selectors/NAME/kK`, with the fingerprint and the
files that any evaluation has. What they share is done once: a video is decoded once, a frame is encoded once and
scored once by each scorer for each question, and the Answerer reads a question's frames once, whichever selectors chose
them. Its readings are kept in `shared/`, also for selectors that are compared later.

T frames of one video, B questions about it, K keyframes.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lavis.common.config import Count, from_mapping
from lavis.common.distributed import World
from lavis.common.errors import BrokenModelError, ConfigError, NotFiniteError, UserError, VideoError
from lavis.common.files import write_text, written_whole
from lavis.common.logging import JsonLines, read_json_lines
from lavis.common.types import Floats, Integers, Question, Unread
from lavis.datasets.dataset import Unreadable
from lavis.export.comparison import comparison_page
from lavis.models.base import Answerer, ChecksQuestions, FrameScorer, FrameScores, Mask, Reading, Selection
from lavis.models.chain import Selector, SelectorSpec, build_selector, check_selector, selector_name
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameEncoder, FrameSource, FrameView
from lavis.models.loading import speed_up
from lavis.runners.config import EvaluationConfig, task_of
from lavis.runners.evaluation.evaluator import (
    ClipGroup,
    EvaluationParts,
    Evaluator,
    about_the_same_videos,
    answered,
    build_evaluator,
    build_parts,
    digests_of,
    facts_of,
    questions_of,
)
from lavis.runners.evaluation.results import (
    PREDICTIONS,
    Fingerprint,
    PredictionStore,
    asking_facts,
    described,
    first_difference,
)
from lavis.runners.progress import Pace
from lavis.runners.provenance import record, run_facts
from lavis.tasks.metrics.selectors import UNIFORM, QuestionCost, SelectorRun, selector_figures
from lavis.tasks.predictions import ChoiceAsker, Prediction, checksum_of

logger = logging.getLogger(__name__)

SECTION = "comparison"
FIGURES, PAGE, PICTURE = "comparison.json", "comparison.md", "comparison.png"
_SHARED, _FACTS = "shared", "shared.json"
# Clips that may be unreadable before selectors go untried into the run.
_TRIED = 8


@dataclass(frozen=True)
class NamedSelector:
    """A way to choose frames, and what it is called in tables."""

    label: str
    spec: SelectorSpec

    @property
    def own_k(self) -> int | str | None:
        """How many frames it chooses by itself, whatever is compared."""
        return self.spec.get("k") if isinstance(self.spec, Mapping) else None

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^\w.+-]+", "_", self.label).strip("._") or "selector"


@dataclass(frozen=True)
class ComparisonConfig:
    """The `comparison` section: selectors, by label or in a list, numbers of frames, and what to say of the page."""

    selectors: Any
    k: tuple[Count, ...]
    note: str | None


def _section(config: EvaluationConfig) -> ComparisonConfig:
    return from_mapping(ComparisonConfig, config.base.resolved[SECTION], place=SECTION)


def comparison_of(config: EvaluationConfig) -> tuple[list[NamedSelector], tuple[int, ...]]:
    """Return the selectors and numbers of frames that are compared; uniform is added where it is not among them.

    Raises:
        ConfigError: no selectors, two of the same name, or one that cannot be built.
    """
    section = _section(config)
    given = section.selectors
    rows = [{"label": label, "of": spec} for label, spec in given.items()] if isinstance(given, Mapping) else given
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"no selectors to compare; give --selectors NAME..., or {SECTION}.selectors in a recipe")
    if not section.k or len(set(section.k)) != len(section.k):
        raise ConfigError(f"{SECTION}.k is {list(section.k)}; give numbers of frames, each once")
    selectors = [_named(row) for row in rows]
    if all(one.spec != UNIFORM for one in selectors):
        selectors.append(NamedSelector(UNIFORM, UNIFORM))
    for field, what in (("label", "are called"), ("folder", "would lie in the folder")):
        names = [getattr(one, field) for one in selectors]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"two selectors {what} {twice!r}; give one another name, as {{label: NAME, ...}}")
    return selectors, tuple(section.k)


def _named(row: Any) -> NamedSelector:
    if isinstance(row, Mapping) and "of" in row:
        label, spec = str(row["label"]), row["of"]
    elif isinstance(row, Mapping):
        spec = {key: value for key, value in row.items() if key != "label"}
        label = str(row["label"]) if row.get("label") else ""
    else:
        label, spec = "", row
    check_selector(spec, place=f"selector {label or spec!r}: ")
    return NamedSelector(label or selector_name(spec), spec)


class Notes:
    """What a comparison keeps beside predictions: what the Answerer read, and what choosing cost; rows are whole.

    Args:
        folder: of the comparison.
    """

    def __init__(self, folder: Path, *, rank: int) -> None:
        self._folder, self._rank = folder / _SHARED, rank
        self._readings: dict[tuple[Any, ...], Reading] = {}
        self._costs: dict[tuple[str, str], QuestionCost] = {}
        self._lines: JsonLines | None = None

    def read(self, fingerprint: Fingerprint, *, resume: str) -> None:
        """Read what an earlier start has kept.

        Raises:
            ConfigError: it was made with another model, other questions, or in another way.
        """
        facts = self._folder / _FACTS
        if resume == "never" or not facts.is_file():
            return
        try:
            earlier = json.loads(facts.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{facts} is damaged; start over with run.resume=never") from error
        if different := first_difference(earlier, fingerprint):
            raise ConfigError(
                f"{self._folder.parent} holds a comparison made with {different}; "
                "name another --out, or start over with --options run.resume=never"
            )
        for file in sorted(self._folder.glob("*.jsonl")):
            for row in read_json_lines(file):
                self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        """Remember a row; one that was damaged does not count, so that it is made again."""
        content = {name: value for name, value in row.items() if name != "checksum"}
        if row.get("checksum") != checksum_of(content):
            return
        if "reading" in row:
            key = _key(row["video"], row["id"], row["positions"], row["sizes"])
            self._readings[key] = _reading_of(row["reading"])
        else:
            self._costs[row["selector"], row["id"]] = QuestionCost(**row["cost"])

    def begin(self, fingerprint: Fingerprint, *, resume: str) -> None:
        """Write down what all of this depends on; for one process, before any of them writes."""
        if resume == "never":
            shutil.rmtree(self._folder, ignore_errors=True)
        write_text(self._folder / _FACTS, json.dumps(fingerprint, indent=2) + "\n")

    def reading(
        self, video: str, question: Question, positions: Integers, sizes: Floats | None = None
    ) -> Reading | None:
        """Return what the Answerer read from these frames, or None if it was not asked."""
        return self._readings.get(_key(video, question.id, positions, sizes))

    def add_reading(
        self, video: str, question: Question, positions: Integers, reading: Reading, *, sizes: Floats | None = None
    ) -> None:
        """Keep what the Answerer read."""
        self._readings[_key(video, question.id, positions, sizes)] = reading
        place = {"positions": positions.tolist(), "sizes": None if sizes is None else sizes.tolist()}
        self._write({"video": video, "id": question.id, **place, "reading": _row_of(reading)})

    def costs(self, selector: str) -> dict[str, QuestionCost]:
        """Return what choosing has cost, by question id."""
        return {qid: cost for (of, qid), cost in self._costs.items() if of == selector}

    def add_cost(self, selector: str, question: Question, cost: QuestionCost) -> None:
        """Keep what choosing the frames of a question has cost."""
        self._costs[selector, question.id] = cost
        self._write({"selector": selector, "id": question.id, "cost": asdict(cost)})

    def _write(self, row: dict[str, Any]) -> None:
        if self._lines is None:
            self._lines = JsonLines(self._folder / f"rank{self._rank}.jsonl")
        self._lines.write({**row, "checksum": checksum_of(row)})

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None


def _key(video: str, question: str, positions: Any, sizes: Any) -> tuple[Any, ...]:
    return (video, question, *(None if row is None else tuple(np.asarray(row).tolist()) for row in (positions, sizes)))


def _row_of(reading: Reading) -> dict[str, Any]:
    row = {entry.name: getattr(reading, entry.name) for entry in fields(reading)}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else asdict(value) if isinstance(value, Unread) else value
        for name, value in row.items()
    }


def _reading_of(row: Mapping[str, Any]) -> Reading:
    unread: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row["unread"].items()
    }
    arrays = {
        "option_scores": np.array(row["option_scores"], dtype=np.float64),
        "frame_choices": np.array(row["frame_choices"], dtype=np.int64),
    }
    return Reading(**{**row, **arrays, "unread": Unread(**unread)})


class Shared:
    """What selectors share of the clip that is asked about now."""

    def __init__(self, notes: Notes) -> None:
        self.notes, self.video = notes, ""
        self.paces: dict[FrameEncoder, float] = {}
        self.scored: dict[str, _Scored] = {}

    def begin(self, video: str | None) -> None:
        """Go on to the next clip; `video` is the digest of its video."""
        self.video, self.scored = video or "", {}


class _Scored:
    """What one scorer has said of a clip so far. T frames."""

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._rows: dict[str, tuple[Floats, Floats, Mask, Unread]] = {}
        self.looked, self.pace_s = np.zeros(num_frames, dtype=bool), 0.0

    def missing(self, questions: Sequence[Question], asked: Mask) -> Mask:
        """Return which of the frames that are asked for [B, T] are not scored yet."""
        nothing = np.zeros(self._num_frames, dtype=bool)
        done = [self._rows[one.id][2] if one.id in self._rows else nothing for one in questions]
        new: Mask = asked & ~np.stack(done)
        return new

    def add(self, questions: Sequence[Question], found: FrameScores, new: Mask) -> None:
        """Keep scores of the frames that are new."""
        nothing = np.full(self._num_frames, np.nan)
        for question, scores, margins, unread, is_new in zip(
            questions, found.scores, found.margins, found.unread, new, strict=True
        ):
            before = self._rows.get(question.id, (nothing, nothing, np.zeros_like(is_new), unread))
            self._rows[question.id] = (
                np.where(is_new, scores, before[0]),
                np.where(is_new, margins, before[1]),
                is_new | before[2],
                unread,
            )

    def scores(self, questions: Sequence[Question], asked: Mask) -> FrameScores:
        """Return the scores of the frames that are asked for."""
        scores, margins, _, unread = zip(*(self._rows[one.id] for one in questions), strict=True)
        shown = [np.where(asked, np.stack(rows), np.nan) for rows in (scores, margins)]
        return FrameScores(shown[0], shown[1], tuple(unread))


class _SharedScorer:
    """A scorer of which each frame is asked once for each question, however many selectors ask; else as the scorer."""

    def __init__(self, scorer: FrameScorer, shared: Shared) -> None:
        self._scorer, self._shared = scorer, shared
        # Scorers that are built alike are one.
        self._name = json.dumps(described(scorer), sort_keys=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def score(self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score frames; see `FrameScorer`."""
        assert isinstance(frames, FrameView), "it counts what is looked at"
        known = self._shared.scored.setdefault(self._name, _Scored(len(frames)))
        asked = np.ones((len(questions), len(frames)), dtype=bool) if where is None else where
        new = known.missing(questions, asked)
        if new.any():
            view, started = FrameView(frames, paces=self._shared.paces), time.perf_counter()
            found = self._scorer.score(view, questions, where=None if new.all() else new)
            known.pace_s = (time.perf_counter() - started + view.shared_s) / int(new.sum())
            known.looked |= view.was_decoded
            known.add(questions, found, new)
            frames.shared_s += view.shared_s
            frames.was_decoded |= view.was_decoded
        frames.shared_s += known.pace_s * int((asked & ~new).sum())
        frames.was_decoded |= known.looked & asked.any(axis=0)
        return known.scores(questions, asked)


@dataclass(frozen=True)
class _SharedSelector(Selector):
    """A selector that chooses from what is shared, and notes what that costs whoever chooses so alone."""

    name: str = ""
    shared: Shared | None = None

    def charged(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int
    ) -> tuple[list[Selection], list[QuestionCost]]:
        """Choose, and say what that costs if nothing has been decoded, encoded or scored before."""
        assert self.shared is not None, "it is built with it"
        view = FrameView(frames, paces=self.shared.paces)
        found = super().select(view, questions, k=k)
        looked_at = int(view.was_decoded.sum())
        return found, [
            QuestionCost(
                frames_looked_at=looked_at,
                frames_scored=one.frames_scored,
                scorer_calls=int(one.cost.scorer_calls) if one.cost else 0,
                seconds=view.shared_s + (one.cost.seconds if one.cost else 0),
                together=len(questions),
            )
            for one in found
        ]

    def select(self, frames: FrameSource, questions: Sequence[Question], *, k: int) -> list[Selection]:
        """Choose frames for each question, and note the cost; see `Selector`."""
        found, costs = self.charged(frames, questions, k=k)
        assert self.shared is not None, "it is built with it"
        for question, cost in zip(questions, costs, strict=True):
            self.shared.notes.add_cost(self.name, question, cost)
        return found


class _AskedOnce:
    """An Answerer that is not asked twice about the same frames of the same question."""

    def __init__(self, answerer: Answerer, shared: Shared) -> None:
        self._answerer: Any = answerer
        self._shared = shared
        # What it may offer beside, which protocols look for at the object itself.
        for name in ("reads_sizes", "frame_tokens"):
            if hasattr(answerer, name):
                setattr(self, name, getattr(answerer, name))

    def answer(
        self,
        frames: FrameSource,
        positions: Integers,
        questions: Sequence[Question],
        *,
        sizes: Floats | None = None,
    ) -> list[Reading]:
        """Read frames, at `sizes` [B, K] where they have several; see `Answerer`."""
        notes, video = self._shared.notes, self._shared.video
        rows = list(zip(questions, positions, [None] * len(questions) if sizes is None else sizes, strict=True))
        known = [notes.reading(video, *row) for row in rows]
        new = [place for place, reading in enumerate(known) if reading is None]
        if new:
            how = {} if sizes is None else {"sizes": sizes[new]}
            found = self._answerer.answer(frames, positions[new], [questions[place] for place in new], **how)
            for place, reading in zip(new, found, strict=True):
                question, chosen, sized = rows[place]
                notes.add_reading(video, question, chosen, reading, sizes=sized)
                known[place] = reading
        return [reading for reading in known if reading is not None]


class _NoAnswerer:
    """Says nothing of the frames of searches, which have no options: only which frames are chosen is of interest."""

    def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        """Return readings that hold nothing; see `Answerer`."""
        del frames, positions
        return [Reading(None, "", np.empty(0), np.empty(0, np.int64)) for _ in questions]


@dataclass(frozen=True)
class Cell:
    """One selector with one number of frames.

    Attributes:
        config: the evaluation that it is.
        parts: what that is made of.
        earlier: what an earlier start has finished, by question id.
    """

    selector: NamedSelector
    k: int | str
    config: EvaluationConfig
    parts: EvaluationParts
    chooser: _SharedSelector
    asker: ChoiceAsker
    store: PredictionStore
    earlier: dict[str, Prediction]

    @property
    def name(self) -> str:
        """Its place in the comparison's folder, and in its notes."""
        return f"{self.selector.folder}/k{self.k}"

    @property
    def folder(self) -> Path:
        """Where its predictions are."""
        return Path(self.config.base.run.output_dir)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let a mistake in the block say which selector it is about."""
        try:
            yield
        except BrokenModelError:
            raise
        except UserError as error:
            raise ConfigError(f"selector {self.selector.label!r} with k = {self.k}: {error}") from error


def compare_selectors(
    config: EvaluationConfig,
    world: World,
    *,
    cache: FrameCache | None = None,
    quantize: str | None = None,
    compiled: bool = False,
    max_videos: int | None = None,
) -> dict[str, Any]:
    """Compare selectors, or go on with a comparison that was stopped; to be called by every process.

    Args:
        config: with a section `comparison` among its sections.
        max_videos: only the questions about so many clips, in the order of the annotations; None is all.
        cache, quantize, compiled: as for `lavis.runners.evaluation.evaluator.evaluate`.

    Returns:
        The figures, to the first process; what the others get means nothing.

    Raises:
        UserError: as for `evaluate`, or a selector that the model or a question does not suit.
    """
    selectors, counts = comparison_of(config)
    run, folder = config.base.run, Path(config.base.run.output_dir)
    # The same part of all evaluations; frames are chosen by the cells' own selectors.
    neutral = replace(config.base, model=replace(config.base.model, selector=UNIFORM))
    parts = build_parts(replace(config, base=neutral), world, quantize=quantize, compiled=compiled)
    parts = replace(parts, groups=parts.groups[:max_videos])
    notes = Notes(folder, rank=world.rank)
    shared = Shared(notes)
    cells = [
        _cell(config, parts, one, k, shared, world)
        for one in selectors
        for k in ((one.own_k,) if one.own_k is not None else counts)
    ]
    common = {key: value for key, value in parts.fingerprint.items() if not _is_selectors(key)}
    notes.read(common, resume=run.resume)
    _resume(cells, parts, world, resume=run.resume)
    speed_up(parts.model, quantize=quantize, compiled=compiled)
    evaluator = build_evaluator(config, parts, world, cache=cache)
    left = [group for group in parts.groups if any(group.ids[0] not in cell.earlier for cell in cells)]
    _try(cells, evaluator, parts, left[:_TRIED])
    world.wait()
    if world.is_main:
        notes.begin(common, resume=run.resume)
        for cell in _open(cells):
            cell.store.begin(cell.earlier.values(), facts_of(cell.config, cell.parts))
        record(config.base, folder, world)
    world.wait()
    try:
        _run(cells, evaluator, parts, left, shared, world)
    finally:
        notes.close()
    world.wait()
    if not world.is_main:
        return {}
    return _write(config, cells, parts, world, notes=_all_notes(folder, common))


def _all_notes(folder: Path, common: Fingerprint) -> Notes:
    """Return the notes of all processes."""
    notes = Notes(folder, rank=0)
    notes.read(common, resume="auto")
    return notes


def _is_selectors(key: str) -> bool:
    """Whether a part of a fingerprint is about how frames are chosen, so that it may differ within a comparison."""
    return key in ("model.frame_num", "model.task: selector") or key.startswith(
        ("scorer._selector.", "scorer._frame_num")
    )


def _cell(
    config: EvaluationConfig,
    parts: EvaluationParts,
    selector: NamedSelector,
    k: int | str,
    shared: Shared,
    world: World,
) -> Cell:
    """Build one selector, and check that it knows the questions."""
    count = k if isinstance(k, int) else config.base.model.frame_num
    prompt = config.base.dataset.prompt
    task = replace(task_of(config.base), selector=selector.spec, keyframes="frame_num")
    try:
        plain = build_selector(selector.spec, parts.model, prompt=prompt)
        for part in (plain.policy, plain.scorer):
            if isinstance(part, ChecksQuestions):
                part.check_questions([one for group in parts.groups for one in questions_of(parts.dataset, group)])
    except UserError as error:
        raise ConfigError(f"selector {selector.label!r}: {error}") from error
    answerer: Answerer = (
        _NoAnswerer() if parts.searches else parts.model.as_answerer(prompt=prompt, packing=task.reader)
    )
    asking = ChoiceAsker(selector=plain, answerer=answerer, task=task, frame_num=count)
    kept = {key: value for key, value in parts.fingerprint.items() if not key.startswith("scorer.")}
    fingerprint: Fingerprint = json.loads(json.dumps({**kept, "model.frame_num": count, **asking_facts(task, asking)}))
    place = Path(config.base.run.output_dir, "selectors", selector.folder, f"k{k}")
    base = replace(
        config.base,
        model=replace(config.base.model, frame_num=count),
        run=replace(config.base.run, output_dir=str(place), recipe=None),
    )
    name = f"{selector.folder}/k{k}"
    scorer = None if plain.scorer is None else _SharedScorer(plain.scorer, shared)
    settings = {entry.name: getattr(plain, entry.name) for entry in fields(plain)}
    chooser = _SharedSelector(**{**settings, "scorer": scorer, "name": name, "shared": shared})
    once = answerer if parts.searches else _AskedOnce(answerer, shared)
    asker = ChoiceAsker(selector=chooser, answerer=once, task=task, frame_num=count)
    return Cell(
        selector=selector,
        k=k,
        config=replace(config, base=base),
        parts=replace(parts, task=task, asker=asking, fingerprint=fingerprint),
        chooser=chooser,
        asker=asker,
        store=PredictionStore(place, rank=world.rank),
        earlier={},
    )


def _resume(cells: Sequence[Cell], parts: EvaluationParts, world: World, *, resume: str) -> None:
    """Take what an earlier start has finished, of videos that are still the same."""
    questions = {one.id: one for group in parts.groups for one in questions_of(parts.dataset, group)}
    for cell in cells:
        found = cell.store.read_earlier(
            cell.parts.fingerprint,
            [group.ids for group in parts.groups],
            resume=resume,
            misfit=lambda one: one.misfit(questions[one.id]) if one.id in questions else None,
        )
        cell.earlier.update(found)
    begun = [group for group in parts.groups if any(group.ids[0] in cell.earlier for cell in cells)]
    digests = digests_of(parts.dataset, begun, world)
    for cell in cells:
        same = about_the_same_videos(cell.earlier, parts.groups, digests, world)
        cell.earlier.clear()
        cell.earlier.update(same)


def _open(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that have questions left, or whose predictions are not put together yet."""
    return [
        cell
        for cell in cells
        if not (cell.folder / PREDICTIONS).is_file()
        or any(group.ids[0] not in cell.earlier for group in cell.parts.groups)
    ]


@torch.inference_mode()
def _try(cells: Sequence[Cell], evaluator: Evaluator, parts: EvaluationParts, groups: Sequence[ClipGroup]) -> None:
    """Let every selector choose on the first clip that can be read, so that a misfit shows before anything runs.

    Raises:
        ConfigError: a selector that does not suit the model or the questions.
    """
    for group in groups:
        ((_, clip),) = evaluator.clips([group])
        if isinstance(clip, Unreadable):
            continue
        for cell in cells:
            count = cell.k if isinstance(cell.k, int) else len(clip)
            # What is unreadable counts as that, question by question.
            with cell.named(), suppress(NotFiniteError, VideoError):
                cell.chooser.charged(clip, questions_of(parts.dataset, group), k=min(count, len(clip)))
        return


def _run(
    cells: Sequence[Cell],
    evaluator: Evaluator,
    parts: EvaluationParts,
    groups: Sequence[ClipGroup],
    shared: Shared,
    world: World,
) -> None:
    """Ask what is left of this process's share of the questions, clip by clip, with every selector."""
    mine = groups[world.rank :: world.size]
    pace = Pace("comparison", sum(len(group.ids) for group in mine))
    alone = World(device=world.device)
    for group, clip in evaluator.clips(mine):
        questions = questions_of(parts.dataset, group)
        digest = digests_of(parts.dataset, [group], alone)[group.ids[0]]
        shared.begin(digest)
        for cell in cells:
            if group.ids[0] in cell.earlier:
                continue
            with cell.named():
                found = answered(cell.asker, questions, clip)
            # What all frames scored is not kept: as long as the video, and the same in every cell.
            kept = [replace(one, video_sha256=digest, frame_times_s=(), frame_scores=()) for one in found]
            cell.store.append([kept])
        pace.step(len(questions))


def _write(
    config: EvaluationConfig, cells: Sequence[Cell], parts: EvaluationParts, world: World, *, notes: Notes
) -> dict[str, Any]:
    """Put predictions together, and write figures, page and picture; return the figures."""
    folder = Path(config.base.run.output_dir)
    ids = [qid for group in parts.groups for qid in group.ids]
    order = {row.question.id: place for place, row in enumerate(parts.dataset.annotations)}
    ids.sort(key=order.__getitem__)
    annotations = [parts.dataset.annotations[order[qid]] for qid in ids]
    unfinished = _open(cells)
    runs = []
    for cell in cells:
        by_id = {one.id: one for one in cell.store.finish(ids)} if cell in unfinished else cell.earlier
        runs.append(SelectorRun(cell.selector.label, cell.k, [by_id[qid] for qid in ids], notes.costs(cell.name)))
    uniform = next(cell.selector.label for cell in cells if cell.selector.spec == UNIFORM)
    facts = {name: value for name, value in facts_of(config, parts).items() if name not in ("fingerprint", "recipe")}
    facts["frames"] = {"num_frames": facts["frames"]["num_frames"], "reader": facts["frames"]["reader"]}
    figures = {
        **facts,
        "questions": len(ids),
        "videos": len({row.question.video for row in annotations}),
        "note": _section(config).note,
        "uniform": uniform,
        "first": cells[0].selector.label,
        "selectors": {cell.selector.label: cell.selector.spec for cell in cells},
        "device": parts.fingerprint["device"],
        "made": {"cpus": os.cpu_count()} | run_facts(seed=config.base.run.seed, processes=world.size),
        "rows": selector_figures(runs, annotations, uniform=uniform),
    }
    from lavis.export.pictures import comparison_picture  # with matplotlib, which takes its time

    write_text(folder / FIGURES, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / PAGE, comparison_page(figures))
    with written_whole(folder / PICTURE) as file:
        file.write_bytes(comparison_picture(figures))
    return figures

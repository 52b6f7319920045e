"""Choosing frames for every question of a split, and writing them down for whoever answers; nothing is answered.

While it runs, `FILE.partial/` holds what it depends on, `kept.jsonl`, what an earlier start had finished, and
`rankN.jsonl`, what each process adds. At the end all of it becomes FILE, in the order of the annotations.

T frames of one video, B questions about it, K keyframes.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lavis.common import defaults
from lavis.common.distributed import World
from lavis.common.errors import BrokenModelError, ConfigError, NotFiniteError, VideoError
from lavis.common.files import read_json, write_text
from lavis.common.logging import JsonLines, read_json_lines
from lavis.common.types import Floats, Question
from lavis.datasets.dataset import Unreadable
from lavis.models.base import ChecksQuestions, Selection
from lavis.models.chain import Selector, asks_localizer, build_selector, selector_name
from lavis.models.frames import FrameSource
from lavis.runners.build import build_clips
from lavis.runners.config import ChainConfig, EvaluationConfig, flattened, task_of
from lavis.runners.evaluation.evaluator import ClipGroup, EvaluationParts, build_parts
from lavis.runners.evaluation.results import Fingerprint, described, first_difference
from lavis.runners.progress import Pace
from lavis.selection.frames_file import (
    CandidateFrames,
    ChosenFrames,
    SelectionCost,
    write_frames,
)
from lavis.tasks.build import count_keyframes

logger = logging.getLogger(__name__)

_FACTS = "fingerprint.json"


@dataclass(frozen=True)
class Outcome:
    """How many questions there are, and how many of them have no frames."""

    questions: int
    unreadable: int


def select_frames(
    config: EvaluationConfig,
    world: World,
    *,
    out: Path,
    k: int | None = None,
    task: str | None = None,
    start_over: bool = False,
) -> Outcome:
    """Choose frames as an evaluation of the same configuration does, or go on with that; for every process.

    Args:
        out: the file.
        k: frames to choose; None is as many as the evaluation.
        task: what rows call the benchmark; None is the dataset's name.
        start_over: in place of what is there.

    Returns:
        The outcome, to the first process; what the others get means nothing.

    Raises:
        UserError: something that the configuration names is unknown, missing or damaged, or what is there was chosen
            differently.
    """
    config = without_needless_models(config)
    parts = build_parts(config, world)
    selector = build_selector(parts.task.selector, parts.model, prompt=config.base.dataset.prompt)
    for part in (selector.policy, selector.scorer):
        if isinstance(part, ChecksQuestions):
            part.check_questions(parts.dataset.questions)
    chooser = _Chooser(config, parts, selector, k=k, task=task)
    store = _RowStore(out, rank=world.rank)
    earlier = {} if start_over else store.read_earlier(chooser.fingerprint, parts.groups)
    world.wait()
    if world.is_main:
        if earlier:
            logger.info("going on: %d of %d questions are done", len(earlier), len(parts.dataset))
        store.begin(earlier.values(), chooser.fingerprint)
    world.wait()
    groups = [group for group in parts.groups if group.ids[0] not in earlier]
    store.append(chooser.rows(groups[world.rank :: world.size], world))
    world.wait()
    if not world.is_main:
        return Outcome(0, 0)
    rows = store.finish([question.id for question in parts.dataset.questions])
    return Outcome(len(rows), sum(row.unreadable is not None for row in rows))


def without_needless_models(config: EvaluationConfig) -> EvaluationConfig:
    """Leave out the Answerer's own model, and where nobody asks the Localizer, every large one."""
    base = config.base
    if asks_localizer(task_of(base).selector):
        return replace(config, chain=ChainConfig(config.chain.scorer, None))
    small = replace(
        base.model, arch=defaults.ARCH, model_type=defaults.MODEL, finetuned=None, lora=None, frame_tokens=None
    )
    return replace(config, base=replace(base, model=small), chain=ChainConfig(None, None))


class _Chooser:
    """Chooses frames for groups of questions, each about one clip, and makes rows of them."""

    def __init__(
        self, config: EvaluationConfig, parts: EvaluationParts, selector: Selector, *, k: int | None, task: str | None
    ) -> None:
        self._config, self._parts, self._selector, self._k = config, parts, selector, k
        self._task = task or config.base.dataset_name
        self._method = selector_name(parts.task.selector)
        self._rates: dict[Path, tuple[float, int]] = {}
        about = flattened({"select": {"selector": described(selector), "k": k, "task": self._task}})
        self.fingerprint: Fingerprint = json.loads(json.dumps({**parts.fingerprint, **about}))

    def rows(self, groups: Sequence[ClipGroup], world: World) -> Iterator[list[ChosenFrames]]:
        """Yield the rows of each group."""
        pace, dataset = Pace("selection", sum(len(group.ids) for group in groups)), self._parts.dataset
        is_rate = self._config.base.dataset.vis_processor.eval.sample_fps is not None
        clips = build_clips(self._config.base.run, dataset, world, is_rate=is_rate)
        group_of = {group.ids[0]: group for group in groups}
        for first, read in clips.read(self._parts.model, [group.indices[0] for group in groups]):
            group = group_of[first.id]
            questions = {index: dataset.annotations[index].question for index in group.indices}
            if isinstance(read, Unreadable):
                yield [self._unread(index, one, read.reason) for index, one in questions.items()]
            else:
                yield self._chosen(read, questions)
            pace.step(len(questions))

    @torch.inference_mode()
    def _chosen(self, frames: FrameSource, questions: Mapping[int, Question]) -> list[ChosenFrames]:
        """Choose for all questions together; where one fails, for each alone, so that only that one does."""
        task, frame_num = self._parts.task, self._config.base.model.frame_num
        count = self._k or self._selector.k or count_keyframes(task, frame_num=frame_num, num_frames=len(frames))
        try:
            found = self._selector.select(frames, list(questions.values()), k=min(count, len(frames)))
        except BrokenModelError:
            raise
        except (NotFiniteError, VideoError) as error:
            if len(questions) > 1:
                return [row for one in questions.items() for row in self._chosen(frames, dict([one]))]
            return [self._unread(index, question, str(error)) for index, question in questions.items()]
        return [
            self._row(index, question, selection, frames, len(questions))
            for (index, question), selection in zip(questions.items(), found, strict=True)
        ]

    def _row(
        self, index: int, question: Question, selection: Selection, frames: FrameSource, num_questions: int
    ) -> ChosenFrames:
        fps, num_frames = self._rate(index)
        places, scores = selection.positions, selection.scores
        if selection.unread.truncated:
            logger.warning("question %s is too long for the scorer and lost its end", question.id)
        candidates = CandidateFrames(
            frame_idx=tuple(frames.frame_idx.tolist()), times_s=tuple(frames.times_s.tolist()), scores=_known(scores)
        )
        return replace(
            self._about(index, question),
            fps=fps,
            num_frames=num_frames,
            frame_idx=tuple(frames.frame_idx[places].tolist()),
            times_s=tuple(frames.times_s[places].tolist()),
            scores=_known(scores[places]) if len(scores) else (),
            sizes=tuple(selection.sizes.tolist()),
            candidates=candidates if len(scores) else None,
            cost=_cost(selection, frames, num_questions),
        )

    def _unread(self, index: int, question: Question, reason: str) -> ChosenFrames:
        logger.warning("no frames for question %s: %s", question.id, reason)
        return replace(self._about(index, question), unreadable=reason)

    def _about(self, index: int, question: Question) -> ChosenFrames:
        return ChosenFrames(
            task=self._task,
            split=self._config.split,
            doc_id=index,
            question_id=question.id,
            question=question.text,
            video=question.video,
            method=self._method,
        )

    def _rate(self, index: int) -> tuple[float, int]:
        """Return frames per second of a question's video, and how many it has."""
        path = self._parts.dataset.find_video(index)
        if path not in self._rates:
            with self._parts.dataset.open_video(index) as video:
                self._rates[path] = video.info.fps, video.info.num_frames
        return self._rates[path]


def _known(scores: Floats) -> tuple[float | None, ...]:
    """Return scores as JSON has them; None for a frame that was not scored."""
    return tuple(score if np.isfinite(score) else None for score in scores.tolist())


def _cost(selection: Selection, frames: FrameSource, num_questions: int) -> SelectionCost | None:
    """Return the cost of a selection, with the frames that were decoded to choose from."""
    if selection.cost is None:
        return None
    return SelectionCost(
        questions=num_questions,
        frames_decoded=frames.num_decoded,
        frames_scored=selection.frames_scored,
        scorer_calls=int(selection.cost.scorer_calls),
        seconds=selection.cost.seconds,
    )


class _RowStore:
    """Rows on their way into a file, by question id; each process appends to a file of its own."""

    def __init__(self, out: Path, *, rank: int) -> None:
        self._out, self._partial, self._rank = out, partial_folder(out), rank

    def read_earlier(self, fingerprint: Fingerprint, groups: Iterable[ClipGroup]) -> dict[str, ChosenFrames]:
        """Return what an earlier start has finished, of groups that are whole; nothing is written.

        Raises:
            ConfigError: it was chosen differently.
        """
        if not (self._partial / _FACTS).is_file():
            return {}
        try:
            facts = read_json(self._partial / _FACTS)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._partial / _FACTS} cannot be read: {error}; start over with --force") from error
        different = first_difference(facts, fingerprint) if isinstance(facts, dict) else "what is no fingerprint"
        if different:
            raise ConfigError(
                f"{self._partial} holds frames chosen with {different}; name another --out, or start over with --force"
            )
        found, wrong = self._rows()
        if wrong and self._rank == 0:
            logger.warning("%d earlier rows do not count, and are made again; the first: %s", len(wrong), wrong[0])
        whole = [group.ids for group in groups if all(name in found for name in group.ids)]
        return {name: found[name] for ids in whole for name in ids}

    def begin(self, earlier: Iterable[ChosenFrames], fingerprint: Fingerprint) -> None:
        """Write down what is kept and what the rows depend on; for one process, before any of them appends."""
        # In this order, a kill at any point leaves either everything from before or everything from now.
        write_frames(self._partial / "kept.jsonl", earlier)
        for leftover in self._partial.glob("rank*.jsonl"):
            leftover.unlink()
        write_text(self._partial / _FACTS, json.dumps(fingerprint, indent=2, ensure_ascii=False) + "\n")

    def append(self, groups: Iterable[Sequence[ChosenFrames]]) -> None:
        """Write this process's rows as they come."""
        lines = JsonLines(self._partial / f"rank{self._rank}.jsonl")
        try:
            for group in groups:
                for row in group:
                    lines.write(row.as_row())
        finally:
            lines.close()

    def finish(self, ids: Sequence[str]) -> list[ChosenFrames]:
        """Merge all processes' rows to the file, in the order of `ids`, and return them; for one process.

        Raises:
            RuntimeError: a question has no row.
        """
        found, _ = self._rows()
        missing = [name for name in ids if name not in found]
        if missing:
            raise RuntimeError(f"{len(missing)} questions have no row, such as {missing[0]!r}")
        rows = [found[name] for name in ids]
        write_frames(self._out, rows)
        shutil.rmtree(self._partial)
        return rows

    def _rows(self) -> tuple[dict[str, ChosenFrames], list[str]]:
        """Return the rows that are there, by question id, and what is wrong with others."""
        found: dict[str, ChosenFrames] = {}
        wrong: list[str] = []
        for file in sorted(self._partial.glob("*.jsonl")):
            for number, row in enumerate(read_json_lines(file), start=1):
                try:
                    one = ChosenFrames.from_row(row, place=f"{file}, row {number}")
                except ConfigError as error:
                    wrong.append(str(error))
                else:
                    found[one.question_id or ""] = one
        return found, wrong


def partial_folder(out: Path) -> Path:
    """Return where rows are while the file is not finished."""
    return out.with_name(f"{out.name}.partial")

"""The one way from frames to answers: choose frames for each question, then read them.

T frames of one video, B questions about it, K keyframes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lavis.common.errors import ConfigError, NotFiniteError, did_you_mean
from lavis.common.registry import registry
from lavis.common.types import Question, Unread
from lavis.models.base import (
    Answerer,
    Cost,
    FramePolicy,
    FrameScorer,
    ImageTextModel,
    LoadsWeights,
    Reading,
    Selection,
    TakesWeights,
    VideoModel,
)
from lavis.models.frames import FrameSource, Timings
from lavis.processors.prompts import Prompt, hearing

if TYPE_CHECKING:
    import torch

LOCALIZER = "localizer"
_SELECTOR_KEYS = ("scorer", "policy", "k")
# What a scorer is asked, for `Cost.scorer_calls`.
_ASKED = ("score", "frame_features", "query_features", "frame_states", "text_states")

SelectorSpec = str | Mapping[str, Any] | FramePolicy
"""How frames are chosen.

A short name: a policy, which asks the model's Localizer where it needs scores, or a scorer, of which the top K are
read ("localizer" is the model's own). Or `{"scorer": PART, "policy": PART, "k": K}`, where a part is a name or
`{"name": ..., ...}` with its arguments; or a policy itself.
"""


@dataclass(frozen=True)
class Selector:
    """A way to choose frames, `k` where nobody says how many; without a scorer where the policy needs none."""

    policy: FramePolicy
    scorer: FrameScorer | None = None
    k: int | None = None

    def select(self, frames: FrameSource, questions: Sequence[Question], *, k: int) -> list[Selection]:
        """Choose frames for each question, and measure what that costs.

        Raises:
            NotFiniteError: a frame was chosen by a score that is no number.
        """
        scorer, decoded, start = _Counted(self.scorer), int(frames.was_decoded.sum()), time.perf_counter()
        chosen = self.policy.choose(frames, questions, k=k, scorer=scorer if self.scorer is not None else None)
        seconds = time.perf_counter() - start
        cost = Cost(int(frames.was_decoded.sum()) - decoded, scorer.calls, seconds)
        chosen = [replace(selection, cost=cost) for selection in chosen]
        is_checked = not getattr(self.policy, "chooses_unscored", False)
        for question, selection in zip(questions, chosen, strict=True):
            if is_checked and len(selection.scores) and not np.isfinite(selection.scores[selection.positions]).all():
                raise NotFiniteError(
                    f"question {question.id or question.text!r:.80} has frames chosen by scores that are not finite"
                )
        return chosen


class _Counted:
    """A scorer that counts how often it is asked."""

    def __init__(self, scorer: FrameScorer | None) -> None:
        self._scorer, self.calls = scorer, 0

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._scorer, name)
        return self._counting(part) if name in _ASKED else part

    def _counting(self, part: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return part(*args, **kwargs)

        return ask


def selector_names() -> list[str]:
    """Return the short names of ways to choose frames."""
    return sorted({LOCALIZER, *registry.policies.names(), *registry.scorers.names()})


def selector_name(spec: SelectorSpec) -> str:
    """Return the short name of a way to choose frames, without its arguments."""
    if isinstance(spec, str):
        return spec
    if not isinstance(spec, Mapping):
        return type(spec).__name__
    policy, scorer = (
        part if isinstance(part, str) else str(part["name"])
        for part in (spec.get("policy", "top_k"), spec.get("scorer", LOCALIZER))
    )
    if policy == "top_k" and scorer not in registry.policies:
        return scorer
    return policy if scorer == LOCALIZER else f"{policy} by {scorer}"


def check_selector(spec: SelectorSpec, *, place: str = "") -> None:
    """Refuse what no selector can be built of; `place` goes before the message.

    Raises:
        ConfigError: an unknown name, key or argument, or an argument that cannot be.
    """
    try:
        _parts(spec)
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from error


def asks_localizer(spec: SelectorSpec) -> bool:
    """Tell whether frames are chosen by what the model's Localizer says of them; errors as for `build_selector`."""
    policy, scorer, _ = _parts(spec)
    return policy.needs_scorer and scorer is None


def build_selector(spec: SelectorSpec, model: VideoModel, *, prompt: str | Prompt) -> Selector:
    """Build a way to choose frames; the model's Localizer, asked with `prompt`, scores where no scorer is named.

    Raises:
        ConfigError: an unknown name, key or argument, an argument that cannot be, or a policy that is not trained.
        CheckpointError: the scorer's own model, or the policy's weights, cannot be loaded.
    """
    policy, scorer, k = _parts(spec)
    if not policy.needs_scorer:
        return Selector(policy, None, k)
    if isinstance(scorer, LoadsWeights):
        scorer.load(model.device)
    asked = model.as_scorer(prompt=prompt) if scorer is None else scorer
    if isinstance(policy, TakesWeights):
        policy.take_weights(model, asked)
    return Selector(policy, asked, k)


def _parts(spec: SelectorSpec) -> tuple[FramePolicy, FrameScorer | None, int | None]:
    """Return policy, scorer (None is the model's Localizer) and K."""
    if isinstance(spec, str):
        if spec not in selector_names():
            raise ConfigError(f"unknown frame selector {spec!r}; {did_you_mean(spec, selector_names())}")
        spec = {"policy": spec} if spec in registry.policies else {"scorer": spec}
    if not isinstance(spec, Mapping):
        if not hasattr(spec, "choose"):
            raise ConfigError(f"a frame selector is {spec!r}; give a name, or a mapping of {', '.join(_SELECTOR_KEYS)}")
        return spec, None, None
    for key in spec:
        if key not in _SELECTOR_KEYS:
            raise ConfigError(f"selector: unknown key {key!r}; {did_you_mean(str(key), _SELECTOR_KEYS)}")
    k = spec.get("k")
    if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise ConfigError(f"selector: k is {k!r}; give a number of frames, 1 or more")
    policy = cast("FramePolicy", registry.policies.build(spec.get("policy", "top_k")))
    scorer = spec.get("scorer", LOCALIZER)
    is_own = scorer == LOCALIZER or scorer == {"name": LOCALIZER}
    return policy, None if is_own else registry.scorers.build(scorer), k


def select_and_answer(
    frames: FrameSource,
    questions: Sequence[Question],
    *,
    selector: Selector,
    answerer: Answerer,
    k: int,
    timings: Timings | None = None,
) -> list[tuple[Selection, Reading]]:
    """Choose `k` frames for each question, and answer it from them, and from what is said while they are shown.

    Raises:
        NotFiniteError: a score is no number.
    """
    timings = timings or Timings()
    with timings.measure("localize_s"):
        chosen = selector.select(frames, questions, k=k)
    readings: dict[int, Reading] = {}
    with timings.measure("answer_s"):
        for group in _groups(questions, chosen):
            positions = np.stack([chosen[row].positions for row in group])
            asked = [hearing(questions[row], frames.times_s[chosen[row].positions]) for row in group]
            found = answerer.answer(frames, positions, [question for question, _ in asked])
            for row, reading, (_, lost) in zip(group, found, asked, strict=True):
                readings[row] = replace(reading, unread=reading.unread | Unread(subtitles=lost)) if lost else reading
    return [(selection, readings[row]) for row, selection in enumerate(chosen)]


def prepared_frames(
    model: ImageTextModel, pixels: "torch.Tensor", frame_idx: "torch.Tensor", times_s: "torch.Tensor", **settings: Any
) -> FrameSource:
    """Return the frames of a clip that a data loader prepared: pixels [T, 3, H, W]; settings as for `FrameSource`."""
    return FrameSource(
        frame_idx.numpy(),
        times_s.cpu().double().numpy(),
        pixels=pixels,
        normalization=(model.config.image_mean, model.config.image_std),
        together=model.encoders,
        **settings,
    )


def _groups(questions: Sequence[Question], chosen: Sequence[Selection]) -> list[list[int]]:
    """Put questions together that can be read in one call: with options or without, from equally many frames."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for row, (question, selection) in enumerate(zip(questions, chosen, strict=True)):
        groups.setdefault((not question.options, len(selection.positions)), []).append(row)
    return [groups[key] for key in sorted(groups)]

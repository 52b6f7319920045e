"""The one way from frames to answers: choose frames for each question, then read them.

T frames of one video, B questions about it, K keyframes.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lavis.common import defaults
from lavis.common.errors import ConfigError, NotFiniteError, did_you_mean
from lavis.common.registry import registry
from lavis.common.types import Cost, Floats, Question, Unread
from lavis.models.base import (
    Answerer,
    CountsTokens,
    DecidingPolicy,
    FramePolicy,
    FrameScorer,
    ImageTextModel,
    LoadsWeights,
    Reading,
    ReadsSizes,
    Selection,
    SizingPolicy,
    TakesWeights,
    VideoModel,
)
from lavis.models.frames import FrameSource, Timings
from lavis.processors.prompts import Prompt, hearing

if TYPE_CHECKING:
    import torch

LOCALIZER = "localizer"
AUTO = "auto"
"""In place of K: the policy decides how many frames are read."""
_ONE_SIZE = "frames were chosen to be read at several sizes, and the model reads all at one: each is read at its own"
_SELECTOR_KEYS = ("scorer", "policy", "k")
# What a scorer is asked, for `Cost.scorer_calls`.
_ASKED = ("score", "frame_features", "query_features", "frame_states", "text_states")

SelectorSpec = str | Mapping[str, Any] | FramePolicy
"""How frames are chosen.

A short name: a policy, which asks the model's Localizer where it needs scores, or a scorer, of which the top K are
read ("localizer" is the model's own). Or `{"scorer": PART, "policy": PART, "k": K}`, where a part is a name or
`{"name": ..., ...}` with its arguments, and K a number or "auto"; or a policy itself.
"""


@dataclass(frozen=True)
class Selector:
    """A way to choose frames; without a scorer where the policy needs none.

    Attributes:
        k: how many, where nobody else says.
        decides: the policy decides how many frames are chosen, and `k` is the most.

    Raises:
        ConfigError: the policy cannot decide.
    """

    policy: FramePolicy
    scorer: FrameScorer | None = None
    k: int | None = None
    decides: bool = False

    def __post_init__(self) -> None:
        if self.decides and not isinstance(self.policy, DecidingPolicy):
            able = [name for name in registry.policies.names() if hasattr(registry.policies.get(name), "decide")]
            raise ConfigError(
                f"the policy {_name_of(self.policy)} does not decide how many frames are read; say how many, "
                f"or choose one that does: {', '.join(able)}"
            )

    @property
    def most(self) -> int:
        """How many frames are chosen at most where the policy decides and nobody else says."""
        return self.k or int(getattr(self.policy, "most", defaults.NUM_KEYFRAMES))

    def select(self, frames: FrameSource, questions: Sequence[Question], *, k: int) -> list[Selection]:
        """Choose `k` frames for each question, or `k` at most where the policy decides, and measure what that costs.

        Raises:
            NotFiniteError: a frame was chosen by a score that is no number.
        """
        scorer, decoded, start = _Counted(self.scorer), int(frames.was_decoded.sum()), time.perf_counter()
        asked = cast("FrameScorer", scorer) if self.scorer is not None else None
        if self.decides:
            chosen = cast("DecidingPolicy", self.policy).decide(frames, questions, most=k, scorer=asked)
        else:
            chosen = self.policy.choose(frames, questions, k=k, scorer=asked)
        seconds = time.perf_counter() - start
        scored = sum(selection.frames_scored for selection in chosen)
        cost = Cost(int(frames.was_decoded.sum()) - decoded, scored, scorer.calls, seconds)
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
    found = _parts(spec)
    return found.policy.needs_scorer and found.scorer is None


def build_selector(spec: SelectorSpec, model: VideoModel, *, prompt: str | Prompt) -> Selector:
    """Build a way to choose frames; the model's Localizer, asked with `prompt`, scores where no scorer is named.

    Raises:
        ConfigError: an unknown name, key or argument, an argument that cannot be, or a policy that is not trained.
        CheckpointError: the scorer's own model, or the policy's weights, cannot be loaded.
    """
    found = _parts(spec)
    if not found.policy.needs_scorer:
        return replace(found, scorer=None)
    if isinstance(found.scorer, LoadsWeights):
        found.scorer.load(model.device)
    asked = found.scorer or model.as_scorer(prompt=prompt)
    if isinstance(found.policy, TakesWeights):
        found.policy.take_weights(model, asked)
    return replace(found, scorer=asked)


def _parts(spec: SelectorSpec) -> Selector:
    """Return a selector of the named parts; its scorer is None for the model's Localizer."""
    if isinstance(spec, str):
        if spec not in selector_names():
            raise ConfigError(f"unknown frame selector {spec!r}; {did_you_mean(spec, selector_names())}")
        spec = {"policy": spec} if spec in registry.policies else {"scorer": spec}
    if not isinstance(spec, Mapping):
        if not hasattr(spec, "choose"):
            raise ConfigError(f"a frame selector is {spec!r}; give a name, or a mapping of {', '.join(_SELECTOR_KEYS)}")
        return Selector(spec)
    for key in spec:
        if key not in _SELECTOR_KEYS:
            raise ConfigError(f"selector: unknown key {key!r}; {did_you_mean(str(key), _SELECTOR_KEYS)}")
    k = spec.get("k")
    if k not in (None, AUTO) and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise ConfigError(f"selector: k is {k!r}; give a number of frames, 1 or more, or {AUTO}")
    policy = cast("FramePolicy", registry.policies.build(spec.get("policy", "top_k")))
    scorer = spec.get("scorer", LOCALIZER)
    is_own = scorer == LOCALIZER or scorer == {"name": LOCALIZER}
    decides = k == AUTO
    return Selector(policy, None if is_own else registry.scorers.build(scorer), None if decides else k, decides)


def _name_of(policy: FramePolicy) -> str:
    kind = type(policy)
    return next((name for name in registry.policies.names() if registry.policies.get(name) is kind), kind.__name__)


def select_and_answer(
    frames: FrameSource,
    questions: Sequence[Question],
    *,
    selector: Selector,
    answerer: Answerer,
    k: int,
    token_budget: int | None = None,
    timings: Timings | None = None,
) -> list[tuple[Selection, Reading]]:
    """Choose `k` frames for each question, or `k` at most where the policy decides, and answer it from them.

    What is said while they are shown goes with them.

    Args:
        token_budget: choose as many frames as this many tokens of the Answerer hold, whatever `k` is.

    Raises:
        NotFiniteError: a score is no number.
        ConfigError: there is a budget, and the Answerer does not say how many tokens a frame takes, or none fits.
    """
    timings = timings or Timings()
    with timings.measure("localize_s"):
        if token_budget is not None:
            k = frames_within(token_budget, frames, policy=selector.policy, answerer=answerer)
        chosen = selector.select(frames, questions, k=k)
    readings: dict[int, Reading] = {}
    with timings.measure("answer_s"):
        for group in _groups(questions, chosen):
            asked = [hearing(questions[row], frames.times_s[chosen[row].positions]) for row in group]
            found = _read(answerer, frames, [chosen[row] for row in group], [question for question, _ in asked])
            for row, reading, (_, lost) in zip(group, found, asked, strict=True):
                readings[row] = replace(reading, unread=reading.unread | Unread(subtitles=lost)) if lost else reading
    return [(selection, readings[row]) for row, selection in enumerate(chosen)]


def _read(
    answerer: Answerer, frames: FrameSource, chosen: Sequence[Selection], questions: Sequence[Question]
) -> list[Reading]:
    """Answer questions for which equally many frames were chosen, all with sizes or all without."""
    positions = np.stack([selection.positions for selection in chosen])
    if not len(chosen[0].sizes):
        return answerer.answer(frames, positions, questions)
    if reads_sizes(answerer):
        sizes = np.stack([selection.sizes for selection in chosen])
        return cast("ReadsSizes", answerer).answer(frames, positions, questions, sizes=sizes)
    said = Unread(notes=(_ONE_SIZE,))
    return [replace(one, unread=one.unread | said) for one in answerer.answer(frames, positions, questions)]


def reads_sizes(answerer: Answerer) -> bool:
    """Tell whether an Answerer reads frames at the sizes that a policy has chosen for them."""
    return isinstance(answerer, ReadsSizes) and answerer.reads_sizes


def frames_within(budget: int, frames: FrameSource, *, policy: FramePolicy, answerer: Answerer) -> int:
    """Return the largest K of which the frames take no more tokens of the Answerer than `budget`.

    Where the policy chooses sizes of frames, K is what it takes for one: of frames of several sizes, more may fit.

    Raises:
        ConfigError: less than one token, the Answerer does not say how many a frame takes, or no frame fits.
    """
    if budget < 1:
        raise ConfigError(f"a budget of {budget} tokens holds no frame; give 1 or more")
    if not isinstance(answerer, CountsTokens):
        raise ConfigError(
            "a budget of tokens needs a model that says how many a frame takes, and this one does not (on a server "
            "nobody knows); say how many frames are read instead"
        )

    def tokens(k: int) -> int:
        return int(answerer.frame_tokens(frames, _sizes_of(policy, k, answerer, num_frames=len(frames))).sum())

    if tokens(1) > budget:
        raise ConfigError(f"a budget of {budget} tokens holds no frame: one takes {tokens(1)}; give at least so many")
    most = budget if _chooses_sizes(policy) else len(frames)
    return bisect_right(range(1, most + 1), budget, key=tokens)


def _chooses_sizes(policy: FramePolicy) -> bool:
    return isinstance(policy, SizingPolicy) and bool(len(policy.sizes(1, num_frames=1)))


def _sizes_of(policy: FramePolicy, k: int, answerer: Answerer, *, num_frames: int) -> Floats:
    sizes = policy.sizes(k, num_frames=num_frames) if isinstance(policy, SizingPolicy) else np.empty(0)
    if not len(sizes):
        return np.ones(k)
    return sizes if reads_sizes(answerer) else np.ones(len(sizes))


def cost_of(
    frames: FrameSource, found: Sequence[tuple[Selection, Reading]], *, answerer: Answerer, seconds: float
) -> Cost:
    """Return what it took to answer questions, with all frames that were decoded since this was asked before."""
    chosen = [selection for selection, _ in found]
    tokens = None
    if isinstance(answerer, CountsTokens):
        sized = [
            one.sizes if len(one.sizes) and reads_sizes(answerer) else np.ones(len(one.positions)) for one in chosen
        ]
        tokens = int(sum(answerer.frame_tokens(frames, sizes).sum() for sizes in sized))
    calls = max((one.cost.scorer_calls for one in chosen if one.cost), default=0)
    return Cost(frames.newly_decoded(), sum(one.frames_scored for one in chosen), calls, seconds, tokens)


def prepared_frames(
    model: ImageTextModel,
    pixels: "torch.Tensor | None",
    frame_idx: "torch.Tensor",
    times_s: "torch.Tensor",
    **settings: Any,
) -> FrameSource:
    """Return the frames of a clip that a data loader read; settings as for `FrameSource`.

    Args:
        pixels: [T, 3, H, W], as it prepared them; None where it left decoding to whoever looks at frames.
    """
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
    groups: dict[tuple[bool, int, bool], list[int]] = {}
    for row, (question, selection) in enumerate(zip(questions, chosen, strict=True)):
        key = not question.options, len(selection.positions), bool(len(selection.sizes))
        groups.setdefault(key, []).append(row)
    return [groups[key] for key in sorted(groups)]

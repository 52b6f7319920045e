"""What an evaluation is configured by: a recipe as for training, with a `moments` section of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lavis.common.config import from_mapping, load_yaml
from lavis.common.errors import ConfigError
from lavis.common.moments import SPAN_SCORES
from lavis.common.naming import did_you_mean
from lavis.runners.config import TrainConfig, load_train_config
from lavis.tasks.evaluation.spans import SpanRule


@dataclass(frozen=True)
class EvaluationConfig:
    """A whole evaluation.

    Attributes:
        base: the sections that training has too.
        spans: the `moments` section.
        split: the one split that is evaluated (`run.test_splits`).
    """

    base: TrainConfig
    spans: SpanRule
    split: str


def load_evaluation_config(path: str | Path, *, options: Sequence[str] = ()) -> EvaluationConfig:
    """Read a recipe over the defaults of the package; see `load_train_config`.

    Unlike training, evaluation goes on with what is in its folder unless `run.resume` says otherwise.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong type or an impossible value.
    """
    says_resume = "resume" in (load_yaml(path).get("run") or {})
    defaults = [] if says_resume else ["run.resume=auto"]
    base = load_train_config(path, options=[*defaults, *options], further_sections=("moments",))
    if len(base.datasets) != 1:
        raise ConfigError(f"{path} names the datasets {', '.join(base.datasets)}; evaluate them one at a time")
    spans = from_mapping(SpanRule, base.resolved["moments"] or {}, place="moments")
    _check(spans)
    if len(base.run.test_splits) != 1:
        raise ConfigError(f"run.test_splits names {len(base.run.test_splits)} splits; name one, such as [val]")
    return EvaluationConfig(base, spans, base.run.test_splits[0])


def _check(spans: SpanRule) -> None:
    if spans.max_gap_frames < 0:
        raise ConfigError(f"moments.max_gap_frames is {spans.max_gap_frames}; it must be 0 or more")
    if not spans.min_length_s >= 0:
        raise ConfigError(f"moments.min_length_s is {spans.min_length_s}; it must be 0 or more")
    if spans.span_score not in SPAN_SCORES:
        known = did_you_mean(spans.span_score, SPAN_SCORES)
        raise ConfigError(f"unknown moments.span_score {spans.span_score!r}; {known}")

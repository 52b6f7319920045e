"""What an evaluation is configured by: a recipe as for training, with a `moments` section of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lavis.common.config import from_mapping, load_yaml, section_of
from lavis.common.errors import ConfigError
from lavis.runners.config import TrainConfig
from lavis.runners.recipes import load_train_config
from lavis.tasks.evaluation.spans import SpanRule

MOMENTS = "moments"


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
    says_resume = "resume" in section_of(load_yaml(path), "run", place=str(path))
    defaults = [] if says_resume else ["run.resume=auto"]
    return evaluation_of(load_train_config(path, options=[*defaults, *options], further_sections=(MOMENTS,)))


def evaluation_of(base: TrainConfig) -> EvaluationConfig:
    """Return the evaluation that a configuration describes, read with the further section `MOMENTS`.

    Raises:
        ConfigError: it is not about one split of one dataset, or its `moments` section cannot be.
    """
    if len(base.datasets) != 1:
        raise ConfigError(f"datasets names {', '.join(base.datasets)}; evaluate them one at a time")
    spans = from_mapping(SpanRule, base.resolved[MOMENTS] or {}, place=MOMENTS)
    if len(base.run.test_splits) != 1:
        raise ConfigError(f"run.test_splits names {len(base.run.test_splits)} splits; name one, such as [val]")
    return EvaluationConfig(base, spans, base.run.test_splits[0])

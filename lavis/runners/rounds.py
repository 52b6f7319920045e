"""Stages that build on each other, once or in rounds (paper: refining the Localizer one to three times).

In a round, the Localizer is refined with the newest Answerer, then the Answerer is fine-tuned on the frames of
the newest Localizer; a refinement that does not validate better hands on the Localizer it started from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lavis.common.config import merged
from lavis.common.errors import ConfigError
from lavis.runners.best import BEST_FOLDER
from lavis.runners.config import TrainConfig
from lavis.runners.weights import weight_paths


def num_rounds(recipes: Sequence[TrainConfig]) -> int:
    """Return the rounds that recipes ask for (`run.iterations`); those that leave it at 1 have no say.

    Raises:
        ConfigError: they ask for different numbers.
    """
    asked = sorted({recipe.run.iterations for recipe in recipes} - {1})
    if len(asked) > 1:
        raise ConfigError(f"the recipes have run.iterations {' and '.join(map(str, asked))}; give all the same")
    return asked[0] if asked else 1


def stages_in_order(recipes: Sequence[TrainConfig], *, iterations: int = 1) -> Iterator[TrainConfig]:
    """Yield the runs to do, one after another; each starts from the best weights of all before it.

    Args:
        recipes: the stages of a round, in order.
        iterations: rounds; with more than one, each run writes to its output folder's `round1`, `round2`, ...

    Raises:
        ConfigError: fewer than one round, or two stages that write to the same folder.
    """
    if iterations < 1:
        raise ConfigError(f"--iterations is {iterations}; it must be 1 or more")
    outputs = [recipe.run.output_dir for recipe in recipes]
    for output in outputs:
        if outputs.count(output) > 1:
            raise ConfigError(f"two recipes write to {output}; set run.output_dir in the recipes, not in --options")
    newest: dict[int, str] = {}
    for number in range(1, iterations + 1):
        for stage, recipe in enumerate(recipes):
            folder = Path(recipe.run.output_dir)
            folder = folder / f"round{number}" if iterations > 1 else folder
            yield _starting_from(recipe, list(newest.values()), folder)
            newest[stage] = str(folder / BEST_FOLDER)


def _starting_from(config: TrainConfig, earlier: Sequence[str], folder: Path) -> TrainConfig:
    finetuned = [*map(str, weight_paths(config.model.finetuned)), *earlier]
    changes = {"model": {"finetuned": finetuned}, "run": {"output_dir": str(folder)}}
    return replace(
        config,
        model=replace(config.model, finetuned=finetuned),
        run=replace(config.run, output_dir=str(folder)),
        resolved=merged([config.resolved, changes]),
    )

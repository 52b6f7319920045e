"""The stages of training in the miniature, each by its recipe, one seed to a folder."""

from collections.abc import Sequence
from pathlib import Path

from lavis.common.distributed import World
from lavis.common.files import configs_dir
from lavis.models.sevila.model import SeViLA
from lavis.runners.build import build_runner
from lavis.runners.config import load_train_config

# Each stage: its recipe, the stage it continues from, and what its recipe does not say.
STAGES: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "pretrain": ("pretrain", None, ()),
    "refine": ("refine", "pretrain", ()),
    "refine_only": ("refine", None, ()),
    "finetune": ("finetune", "refine", ()),
    "finetune_random": ("finetune", None, ("model.training_selector=random",)),
}


def base_folder(experiment: Path, base: int) -> Path:
    """Return the folder of a base and of all runs that begin as it."""
    return experiment / f"base_{base}"


class Run:
    """The stages of one seed on one base, in their folder.

    Args:
        experiment: holds the data, which all bases share.
        base: number of the base, which all its seeds share.
        seed: of the stages.
    """

    def __init__(self, experiment: Path, *, base: int = 0, seed: int) -> None:
        self.data, self.base, self.seed = experiment / "data", base, seed
        self.base_folder = base_folder(experiment, base)
        self.folder = self.base_folder / f"seed_{seed}"

    def model(self, *stages: str) -> SeViLA:
        """Load the base with the weights of stages laid over it."""
        model = SeViLA.from_pretrained(self.base_folder / "base")
        for stage in stages:
            model.load_partial(self.folder / stage / "best")
        return model.eval()

    def train(self, name: str, *, folder: str = "", options: Sequence[str] = ()) -> None:
        """Train one stage by its recipe.

        Args:
            folder: where to, if not under the stage's name.
            options: what is set otherwise than in the recipe.
        """
        recipe, before, more = STAGES[name]
        given = [
            *more,
            f"model.model_type={self.base_folder / 'base'}",
            f"model.finetuned={self.folder / before / 'best' if before else 'null'}",
            f"run.output_dir={self.folder / (folder or name)}",
            f"run.seed={self.seed}",
            *options,
        ]
        path = configs_dir() / "sevila" / "miniature" / f"{recipe}.yaml"
        build_runner(load_train_config(path, options=given), World()).run()

"""The stages of training in the miniature, each by its recipe, one seed to a folder."""

from pathlib import Path

from lavis.common.distributed import join_world
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


class Run:
    """The stages of one seed, in their folder.

    Args:
        experiment: holds the data and the base, which all seeds share.
        seed: of the stages.
    """

    def __init__(self, experiment: Path, *, seed: int) -> None:
        self.experiment, self.seed = experiment, seed
        self.folder = experiment / f"seed_{seed}"

    def model(self, *stages: str) -> SeViLA:
        """Load the base with the weights of stages laid over it."""
        model = SeViLA.from_pretrained(self.experiment / "base")
        for stage in stages:
            model.load_partial(self.folder / stage / "best")
        return model.eval()

    def train(self, name: str) -> None:
        """Train one stage by its recipe."""
        recipe, before, options = STAGES[name]
        given = [
            *options,
            f"model.finetuned={self.folder / before / 'best' if before else 'null'}",
            f"run.output_dir={self.folder / name}",
            f"run.seed={self.seed}",
        ]
        path = configs_dir() / "sevila" / "miniature" / f"{recipe}.yaml"
        with join_world(device="cpu") as world:
            build_runner(load_train_config(path, options=given), world).run()
